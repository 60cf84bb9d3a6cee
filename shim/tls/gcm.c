/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_gcm: see gcm.h.
 */
#include "shim/tls/gcm.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <endian.h>
#include <stddef.h>
#include <string.h>

#include <openssl/aes.h>
#include <openssl/crypto.h>

#include "shim/tls/mem.h"

#define NONCE 12u
#define BLOCK 16u

/* OpenSSL's AES and GHASH with the processor's instructions [crypto/aes/asm/aesni-x86_64.pl,
 * crypto/modes/asm/ghash-x86_64.pl]. No header has them, but the static library has the symbols,
 * unchanged since 1.0.2: EVP's own code calls them from other files. Weak: where they are missing
 * they are NULL and EVP does everything. */
#define ASSEMBLER __attribute__((weak))
struct table {
    uint64_t multiple[16][2];
};
ASSEMBLER int aesni_set_encrypt_key(const unsigned char *key, int bits, AES_KEY *out);
ASSEMBLER void aesni_encrypt(const unsigned char in[16], unsigned char out[16], const void *key);
ASSEMBLER void aesni_ctr32_encrypt_blocks(const unsigned char *in, unsigned char *out,
                                          size_t blocks, const void *key,
                                          const unsigned char iv[16]);
ASSEMBLER void gcm_init_clmul(struct table *out, const uint64_t h[2]);
ASSEMBLER void gcm_ghash_clmul(uint8_t sum[16], const struct table *, const uint8_t *in, size_t n);
ASSEMBLER void gcm_init_avx(struct table *out, const uint64_t h[2]);
ASSEMBLER void gcm_ghash_avx(uint8_t sum[16], const struct table *, const uint8_t *in, size_t n);

/* Both in one pass [crypto/modes/asm/aesni-gcm-x86_64.pl]: as many runs of six blocks as there are, in place or beside;
 * counter and sum are moved on, and how many bytes that was is returned. The table is found behind the sum. */
#define RUN (6 * BLOCK)
struct hash {
    uint8_t sum[16];
    uint64_t h[2];
    struct table table;
};
_Static_assert(offsetof(struct hash, table) == 32, "where the assembler looks for it");
ASSEMBLER size_t aesni_gcm_encrypt(const uint8_t *in, uint8_t *out, size_t n, const void *key,
                                   uint8_t counter[16], struct hash *hash);
ASSEMBLER size_t aesni_gcm_decrypt(const uint8_t *in, uint8_t *out, size_t n, const void *key,
                                   uint8_t counter[16], struct hash *hash);

struct shim_gcm {
    AES_KEY aes;
    struct hash hash;
    int avx, one_pass;
};

/* A record while it is worked on: a block before the content, the content in whole blocks, one behind. */
#define WHOLE(n)   (((n) + BLOCK - 1) / BLOCK * BLOCK)
#define WORK       (BLOCK + WHOLE(SHIM_GCM_TWO_PASSES + 1) + BLOCK)
#define CONTENT(w) ((w) + BLOCK)
#define LONG       1280u /* one pass is quicker from here on; it does nothing below three runs */

int shim_gcm_avx = 1;

/* Without carry-less multiplication OpenSSL's GHASH would look up tables; EVP may decide on that. */
static int
processor_can(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul") &&
           __builtin_cpu_supports("ssse3");
#else
    return 0;
#endif
}

static int
processor_has_avx(void)
{
#if defined(__x86_64__)
    return gcm_init_avx != NULL && gcm_ghash_avx != NULL && __builtin_cpu_supports("avx");
#else
    return 0;
#endif
}

/* What EVP asks for before it goes that way. cpuid takes a virtual machine microseconds, so that is asked once. */
static int
processor_has_one_pass(void)
{
#if defined(__x86_64__)
    unsigned a, b, c, d;
    return aesni_gcm_encrypt != NULL && aesni_gcm_decrypt != NULL && processor_has_avx() &&
           __get_cpuid(1, &a, &b, &c, &d) && (c & bit_MOVBE) != 0;
#else
    return 0;
#endif
}

static int has_one_pass; /* by shim_gcm_longest, before any key */

static size_t
longest(int one_pass)
{
    return one_pass ? SHIM_GCM_LONGEST : SHIM_GCM_TWO_PASSES;
}

size_t
shim_gcm_longest(void)
{
    has_one_pass = processor_has_one_pass();
    return aesni_set_encrypt_key != NULL && aesni_encrypt != NULL &&
                   aesni_ctr32_encrypt_blocks != NULL && gcm_init_clmul != NULL &&
                   gcm_ghash_clmul != NULL && processor_can()
               ? longest(has_one_pass)
               : 0;
}

struct shim_gcm *
shim_gcm_new(void)
{
    return OPENSSL_zalloc(sizeof(struct shim_gcm));
}

void
shim_gcm_free(struct shim_gcm *g)
{
    OPENSSL_clear_free(g, sizeof(*g));
}

void
shim_gcm_key(struct shim_gcm *g, const uint8_t *key, size_t key_len)
{
    uint64_t h[2] = {0};
    (void)aesni_set_encrypt_key(key, (int)key_len * 8, &g->aes);
    aesni_encrypt((uint8_t *)h, (uint8_t *)h, &g->aes);
    h[0] = be64toh(h[0]);
    h[1] = be64toh(h[1]);
    g->avx = shim_gcm_avx && processor_has_avx();
    g->one_pass = g->avx && has_one_pass;
    (g->avx ? gcm_init_avx : gcm_init_clmul)(&g->hash.table, h);
    shim_mem_wipe(h, sizeof(h));
}

static inline void
hash_on(const struct shim_gcm *g, uint8_t sum[BLOCK], const uint8_t *in, size_t n)
{
    (g->avx ? gcm_ghash_avx : gcm_ghash_clmul)(sum, &g->hash.table, in, n);
}

/* The last block that is hashed [SP800-38D 7.1]. */
static inline void
put_lengths(uint8_t at[BLOCK], const struct shim_gcm_record *r, size_t n)
{
    uint64_t bits[2] = {htobe64(8 * r->head_len), htobe64(8 * n)};
    memcpy(at, bits, BLOCK);
}

static inline void
put_counter(uint8_t counter[BLOCK], const struct shim_gcm_record *r, uint8_t n)
{
    memset(counter, 0, BLOCK);
    memcpy(counter, r->nonce, NONCE);
    counter[BLOCK - 1] = n;
}

static inline void
mask(uint8_t sum[BLOCK], const uint8_t with[BLOCK])
{
    uint64_t x[2], y[2];
    memcpy(x, sum, BLOCK);
    memcpy(y, with, BLOCK);
    x[0] ^= y[0];
    x[1] ^= y[1];
    memcpy(sum, x, BLOCK);
}

/* What a tag is encrypted with must not stay on the stack. */
static inline void
forget(uint8_t first[BLOCK])
{
    memset(first, 0, BLOCK);
    __asm__ volatile("" : : "r"(first) : "memory"); /* not to be left out */
}

/* ---- two passes over a copy ---- */

/* The content in counter mode, and before it what the tag is encrypted with [SP800-38D 7.1]. */
static inline void
encrypt(const struct shim_gcm *g, const struct shim_gcm_record *r, uint8_t w[WORK], size_t n)
{
    uint8_t counter[BLOCK];
    put_counter(counter, r, 1);
    memset(w, 0, BLOCK);
    memset(CONTENT(w) + n, 0, BLOCK);
    aesni_ctr32_encrypt_blocks(w, w, 1 + WHOLE(n) / BLOCK, &g->aes, counter);
}

/* The hash of head, encrypted content and lengths [SP800-38D 6.4]. */
static inline void
sum_up(const struct shim_gcm *g, const struct shim_gcm_record *r, uint8_t w[WORK], size_t n,
       uint8_t sum[BLOCK])
{
    size_t no_head = r->head_len == 0 ? BLOCK : 0;
    memset(w, 0, BLOCK);
    memcpy(w, r->head, r->head_len);
    memset(CONTENT(w) + n, 0, BLOCK);
    put_lengths(CONTENT(w) + WHOLE(n), r, n);
    memset(sum, 0, BLOCK);
    hash_on(g, sum, w + no_head, BLOCK - no_head + WHOLE(n) + BLOCK);
}

static inline void
seal_short(const struct shim_gcm *g, const struct shim_gcm_record *r, const uint8_t *in, size_t n, uint8_t end,
           uint8_t *out, uint8_t tag[16])
{
    uint8_t w[WORK], first[BLOCK];
    memcpy(CONTENT(w), in, n);
    CONTENT(w)[n] = end;
    encrypt(g, r, w, n + 1);
    memcpy(first, w, BLOCK);
    memcpy(out, CONTENT(w), n + 1);
    sum_up(g, r, w, n + 1, tag);
    mask(tag, first);
    forget(first);
}

static inline int
open_short(const struct shim_gcm *g, const struct shim_gcm_record *r, const uint8_t *in, size_t n,
           const uint8_t tag[16], uint8_t *out, uint8_t *end)
{
    uint8_t w[WORK]; /* nobody sees it before the tag is known to be right */
    uint8_t sum[BLOCK];
    memcpy(CONTENT(w), in, n);
    sum_up(g, r, w, n, sum);
    encrypt(g, r, w, n);
    mask(sum, w);
    int ok = CRYPTO_memcmp(sum, tag, BLOCK) == 0;
    if (ok) {
        memcpy(out, CONTENT(w), n - 1);
        *end = CONTENT(w)[n - 1];
    }
    shim_mem_wipe(w, BLOCK + WHOLE(n));
    return ok;
}

/* ---- one pass, and what is left of it ---- */

#define REST (RUN + BLOCK) /* less than a run, the last byte, the lengths */

/* The hash of the head, and the counter before the content. */
static void
begin(struct shim_gcm *g, const struct shim_gcm_record *r, uint8_t counter[BLOCK], uint8_t first[BLOCK])
{
    uint8_t head[BLOCK] = {0};
    memset(g->hash.sum, 0, BLOCK);
    if (r->head_len > 0) {
        memcpy(head, r->head, r->head_len);
        hash_on(g, g->hash.sum, head, BLOCK);
    }
    put_counter(counter, r, 1);
    aesni_encrypt(counter, first, &g->aes);
    put_counter(counter, r, 2);
}

/* m bytes that are left of n, encrypted: their hash, and so the tag. */
static void
finish(struct shim_gcm *g, const struct shim_gcm_record *r, uint8_t w[REST], size_t m, size_t n,
       const uint8_t first[BLOCK])
{
    memset(w + m, 0, WHOLE(m) - m);
    put_lengths(w + WHOLE(m), r, n);
    hash_on(g, g->hash.sum, w, WHOLE(m) + BLOCK);
    mask(g->hash.sum, first);
}

static __attribute__((noinline)) void
seal_long(struct shim_gcm *g, const struct shim_gcm_record *r, const uint8_t *in, size_t n, uint8_t end,
          uint8_t *out, uint8_t tag[16])
{
    uint8_t w[REST], counter[BLOCK], first[BLOCK];
    begin(g, r, counter, first);
    size_t done = aesni_gcm_encrypt(in, out, n, &g->aes, counter, &g->hash), m = n - done;
    memcpy(w, in + done, m);
    w[m++] = end;
    aesni_ctr32_encrypt_blocks(w, w, WHOLE(m) / BLOCK, &g->aes, counter);
    memcpy(out + done, w, m);
    finish(g, r, w, m, n + 1, first);
    memcpy(tag, g->hash.sum, BLOCK);
    forget(first);
}

static __attribute__((noinline)) int
open_long(struct shim_gcm *g, const struct shim_gcm_record *r, const uint8_t *in, size_t n,
          const uint8_t tag[16], uint8_t *out, uint8_t *end)
{
    uint8_t w[REST], counter[BLOCK], first[BLOCK];
    begin(g, r, counter, first);
    size_t done = aesni_gcm_decrypt(in, out, n - 1, &g->aes, counter, &g->hash), m = n - done;
    memcpy(w, in + done, m);
    finish(g, r, w, m, n, first);
    int ok = CRYPTO_memcmp(g->hash.sum, tag, BLOCK) == 0;
    if (ok) {
        aesni_ctr32_encrypt_blocks(w, w, WHOLE(m) / BLOCK, &g->aes, counter);
        memcpy(out + done, w, m - 1);
        *end = w[m - 1];
        shim_mem_wipe(w, m);
    } else {
        shim_mem_wipe(out, done);
    }
    forget(first);
    return ok;
}

__attribute__((hot)) int
shim_gcm_seal(struct shim_gcm *g, const struct shim_gcm_record *r, const uint8_t *in, size_t n, uint8_t end,
              uint8_t *out, uint8_t tag[16])
{
    if (r->head_len > BLOCK || (n >= LONG && n > longest(g->one_pass)))
        return 0;
    if (n < LONG || !g->one_pass)
        seal_short(g, r, in, n, end, out, tag);
    else
        seal_long(g, r, in, n, end, out, tag);
    return 1;
}

__attribute__((hot)) int
shim_gcm_open(struct shim_gcm *g, const struct shim_gcm_record *r, const uint8_t *in, size_t n,
              const uint8_t tag[16], uint8_t *out, uint8_t *end)
{
    if (n < 1 || r->head_len > BLOCK || (n > LONG && n > longest(g->one_pass) + 1))
        return 0;
    return n <= LONG || !g->one_pass ? open_short(g, r, in, n, tag, out, end)
                                     : open_long(g, r, in, n, tag, out, end);
}
