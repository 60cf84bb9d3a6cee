/* SPDX-License-Identifier: Apache-2.0
 *
 * The allocator under OpenSSL: the host's malloc with a head that keeps the block's size, so that
 * free can wipe without malloc_usable_size, which a program's own malloc may lack.
 *
 *   | head: size, padding to 16 | block handed out ... |
 */
#include "shim/tls/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

struct head {
    size_t size;
    size_t pad;
};
_Static_assert(sizeof(struct head) == 16, "keeps malloc's alignment");

void
shim_mem_wipe(void *p, size_t n)
{
    if (p != NULL && n > 0)
        explicit_bzero(p, n);
}

static void *
block_new(size_t n, const char *file, int line)
{
    (void)file, (void)line;
    if (n == 0 || n > SIZE_MAX - sizeof(struct head))
        return NULL;
    struct head *h = malloc(sizeof(*h) + n);
    if (h == NULL)
        return NULL;
    h->size = n;
    return h + 1;
}

static void
block_free(void *p, const char *file, int line)
{
    (void)file, (void)line;
    if (p == NULL)
        return;
    struct head *h = (struct head *)p - 1;
    explicit_bzero(p, h->size);
    free(h);
}

static void *
block_resize(void *p, size_t n, const char *file, int line)
{
    if (p == NULL)
        return block_new(n, file, line);
    if (n == 0) {
        block_free(p, file, line);
        return NULL;
    }
    size_t had = ((struct head *)p - 1)->size;
    if (n <= had)
        return p; /* the tail stays under the head's size and is wiped with the rest */
    void *q = block_new(n, file, line);
    if (q == NULL)
        return NULL;
    memcpy(q, p, had);
    block_free(p, file, line);
    return q;
}

void
shim_mem_init(void)
{
    /* Fails only when OpenSSL has allocated already, which costs the wiping and nothing else. */
    (void)CRYPTO_set_mem_functions(block_new, block_resize, block_free);
}
