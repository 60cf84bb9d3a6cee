/* SPDX-License-Identifier: Apache-2.0
 *
 * The cache of key schedules: sets of two entries. The set is chosen by the IV, not by the key:
 * which set is touched shows to whoever shares the CPU's caches, and an IV need not be secret.
 *
 * Each entry has a try-lock and nobody ever waits for it: who finds both entries of a set locked
 * works with a temporary context. Locks and keys lie in memory that a fork wipes, so that the
 * child finds no lock held by a thread that it does not have. The contexts lie outside of it and
 * are inherited; whatever a thread of the parent was doing to one, setting a key starts it afresh.
 * For that reason a context is complete before it is published, and never changes its cipher.
 */
#include "shim/tls/cache.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#include "shim/tls/mem.h"

#define ENTRIES 256u /* a power of two */
#define WAYS    2u

struct shim_cache_entry {
    /* Acquire to lock, release to unlock: guards the fields and the contexts. Zero is unlocked. */
    atomic_flag busy;
    uint8_t valid, seal;
    uint8_t first; /* filled before its neighbour was, so the next to go */
    uint16_t suite;
    uint8_t key[32];
};

static struct shim_cache_entry *entries; /* NULL: no cache; set once by shim_cache_init */
static EVP_CIPHER_CTX *_Atomic contexts[ENTRIES][SHIM_SUITES];

void
shim_cache_init(void)
{
    size_t n = ENTRIES * sizeof(*entries);
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return;
    if (madvise(p, n, MADV_WIPEONFORK) != 0) {
        (void)munmap(p, n);
        return;
    }
    (void)madvise(p, n, MADV_DONTDUMP);
    entries = p;
}

static int
entry_lock(struct shim_cache_entry *e)
{
    return !atomic_flag_test_and_set_explicit(&e->busy, memory_order_acquire);
}

static void
entry_unlock(struct shim_cache_entry *e)
{
    atomic_flag_clear_explicit(&e->busy, memory_order_release);
}

static int
entry_has(const struct shim_cache_entry *e, const struct shim_suite *s, const struct shim_key *key,
          int seal)
{
    return e->valid && e->suite == s->id && e->seal == seal &&
           CRYPTO_memcmp(e->key, key->key, s->key_len) == 0;
}

static struct shim_cache_entry *
set_of(const struct shim_key *key, int seal)
{
    unsigned i = (key->iv[0] * 2u + (seal ? WAYS : 0)) % ENTRIES;
    return &entries[i];
}

/* Setting a key overwrites the whole state of a context, the last key's schedule included. */
static int
ctx_key(EVP_CIPHER_CTX *ctx, const uint8_t *key, int seal)
{
    return EVP_CipherInit_ex(ctx, NULL, NULL, key, NULL, seal) == 1;
}

static EVP_CIPHER_CTX *
ctx_new(const struct shim_suite *s, int seal)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (ctx != NULL && EVP_CipherInit_ex2(ctx, s->cipher, NULL, NULL, seal, NULL) == 1)
        return ctx;
    EVP_CIPHER_CTX_free(ctx);
    ERR_clear_error();
    return NULL;
}

/* The entry's context for the suite, made at need; the entry is locked. */
static EVP_CIPHER_CTX *
entry_ctx(const struct shim_cache_entry *e, const struct shim_suite *s, int seal)
{
    EVP_CIPHER_CTX *_Atomic *slot = &contexts[e - entries][s->index];
    EVP_CIPHER_CTX *ctx = atomic_load_explicit(slot, memory_order_acquire);
    if (ctx == NULL && (ctx = ctx_new(s, seal)) != NULL)
        atomic_store_explicit(slot, ctx, memory_order_release);
    return ctx;
}

/* `e` is now the younger of its set. A neighbour in use is left as it is. */
static void
set_order(struct shim_cache_entry *e)
{
    struct shim_cache_entry *n = &entries[(size_t)(e - entries) ^ 1u];
    e->first = 0;
    if (!entry_lock(n))
        return;
    n->first = 1;
    entry_unlock(n);
}

static int
entry_fill(struct shim_cache_entry *e, const struct shim_suite *s, const struct shim_key *key,
           int seal)
{
    EVP_CIPHER_CTX *ctx = entry_ctx(e, s, seal);
    e->valid = 0;
    if (ctx == NULL || !ctx_key(ctx, key->key, seal))
        return 0;
    e->suite = s->id;
    e->seal = (uint8_t)seal;
    memcpy(e->key, key->key, s->key_len);
    e->valid = 1;
    set_order(e);
    return 1;
}

/* Locks the entry that has the key. If none has it: the one that is free or was filled first, and
 * *hit is false. NULL when both are locked by others. */
static struct shim_cache_entry *
set_lock(struct shim_cache_entry *set, const struct shim_suite *s, const struct shim_key *key,
         int seal, int *hit)
{
    struct shim_cache_entry *victim = NULL;
    *hit = 0;
    for (unsigned i = 0; i < WAYS; i++) {
        struct shim_cache_entry *e = &set[i];
        if (!entry_lock(e))
            continue;
        *hit = entry_has(e, s, key, seal);
        if (*hit) {
            if (victim != NULL)
                entry_unlock(victim);
            return e;
        }
        if (victim == NULL || !e->valid || (victim->valid && !victim->first)) {
            if (victim != NULL)
                entry_unlock(victim);
            victim = e;
        } else {
            entry_unlock(e);
        }
    }
    return victim;
}

static int
temporary(const struct shim_suite *s, const struct shim_key *key, int seal,
          struct shim_cache_use *use)
{
    EVP_CIPHER_CTX *ctx = ctx_new(s, seal);
    if (ctx == NULL)
        return 0;
    if (!ctx_key(ctx, key->key, seal)) {
        EVP_CIPHER_CTX_free(ctx);
        return 0;
    }
    *use = (struct shim_cache_use){ctx, NULL};
    return 1;
}

int
shim_cache_get(const struct shim_suite *s, const struct shim_key *key, int seal,
               struct shim_cache_use *use)
{
    int hit = 0;
    struct shim_cache_entry *e =
        entries != NULL ? set_lock(set_of(key, seal), s, key, seal, &hit) : NULL;
    if (e == NULL)
        return temporary(s, key, seal, use);
    if (!hit && !entry_fill(e, s, key, seal)) {
        entry_unlock(e);
        return 0;
    }
    use->entry = e;
    use->ctx = atomic_load_explicit(&contexts[e - entries][s->index], memory_order_relaxed);
    return 1;
}

void
shim_cache_put(struct shim_cache_use *use)
{
    if (use->entry != NULL)
        entry_unlock(use->entry);
    else
        EVP_CIPHER_CTX_free(use->ctx);
}

void
shim_cache_warm(const struct shim_key *key, int seal)
{
    struct shim_cache_use use;
    const struct shim_suite *s = shim_suite_find(key->suite);
    if (entries == NULL || s == NULL || !shim_cache_get(s, key, seal, &use))
        return;
    shim_cache_put(&use);
}

static void
entry_drop(struct shim_cache_entry *e)
{
    static const uint8_t zero[32];
    const struct shim_suite *s = shim_suite_find(e->suite);
    if (e->valid && s != NULL) {
        EVP_CIPHER_CTX *ctx =
            atomic_load_explicit(&contexts[e - entries][s->index], memory_order_acquire);
        (void)ctx_key(ctx, zero, e->seal);
    }
    e->valid = 0;
    shim_mem_wipe(e->key, sizeof(e->key));
}

void
shim_cache_drop(const struct shim_key *key)
{
    const struct shim_suite *s = shim_suite_find(key->suite);
    if (entries == NULL || s == NULL)
        return;
    for (int seal = 0; seal < 2; seal++) {
        struct shim_cache_entry *set = set_of(key, seal);
        for (unsigned i = 0; i < WAYS; i++) {
            if (!entry_lock(&set[i]))
                continue;
            if (entry_has(&set[i], s, key, seal))
                entry_drop(&set[i]);
            entry_unlock(&set[i]);
        }
    }
}

void
shim_cache_fini(void)
{
    for (unsigned i = 0; entries != NULL && i < ENTRIES; i++) {
        entry_drop(&entries[i]);
        for (unsigned j = 0; j < SHIM_SUITES; j++)
            EVP_CIPHER_CTX_free(atomic_exchange(&contexts[i][j], NULL));
    }
}
