/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_gcm: see gcm.h.
 */
#include "shim/tls/gcm.h"

#include <endian.h>
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

struct shim_gcm {
    AES_KEY aes;
    struct table table;
    int avx;
};

/* A record while it is worked on: a block before the content, the content in whole blocks, one behind. */
#define WHOLE(n)   (((n) + BLOCK - 1) / BLOCK * BLOCK)
#define WORK       (BLOCK + WHOLE(SHIM_GCM_LONGEST + 1) + BLOCK)
#define CONTENT(w) ((w) + BLOCK)

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

size_t
shim_gcm_longest(void)
{
    return aesni_set_encrypt_key != NULL && aesni_encrypt != NULL &&
                   aesni_ctr32_encrypt_blocks != NULL && gcm_init_clmul != NULL &&
                   gcm_ghash_clmul != NULL && processor_can()
               ? SHIM_GCM_LONGEST
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
    (g->avx ? gcm_init_avx : gcm_init_clmul)(&g->table, h);
    shim_mem_wipe(h, sizeof(h));
}

/* The content in counter mode, and before it what the tag is encrypted with [SP800-38D 7.1]. */
static inline void
encrypt(const struct shim_gcm *g, const struct shim_gcm_record *r, uint8_t w[WORK], size_t n)
{
    uint8_t counter[BLOCK] = {[BLOCK - 1] = 1};
    memcpy(counter, r->nonce, NONCE);
    memset(w, 0, BLOCK);
    memset(CONTENT(w) + n, 0, BLOCK);
    aesni_ctr32_encrypt_blocks(w, w, 1 + WHOLE(n) / BLOCK, &g->aes, counter);
}

/* The hash of head, encrypted content and lengths [SP800-38D 6.4]. */
static inline void
sum_up(const struct shim_gcm *g, const struct shim_gcm_record *r, uint8_t w[WORK], size_t n,
       uint8_t sum[BLOCK])
{
    uint64_t bits[2] = {htobe64(8 * r->head_len), htobe64(8 * n)};
    size_t no_head = r->head_len == 0 ? BLOCK : 0;
    memset(w, 0, BLOCK);
    memcpy(w, r->head, r->head_len);
    memset(CONTENT(w) + n, 0, BLOCK);
    memcpy(CONTENT(w) + WHOLE(n), bits, BLOCK);
    memset(sum, 0, BLOCK);
    (g->avx ? gcm_ghash_avx : gcm_ghash_clmul)(sum, &g->table, w + no_head,
                                               BLOCK - no_head + WHOLE(n) + BLOCK);
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

__attribute__((hot)) int
shim_gcm_seal(struct shim_gcm *g, const struct shim_gcm_record *r, uint8_t *at, size_t n,
              uint8_t tag[16])
{
    uint8_t w[WORK], first[BLOCK];
    if (n < 1 || n > SHIM_GCM_LONGEST + 1 || r->head_len > BLOCK) {
        shim_mem_wipe(at, n);
        return 0;
    }
    memcpy(CONTENT(w), at, n);
    encrypt(g, r, w, n);
    memcpy(first, w, BLOCK);
    memcpy(at, CONTENT(w), n);
    sum_up(g, r, w, n, tag);
    mask(tag, first);
    memset(first, 0, BLOCK);
    __asm__ volatile("" : : "r"(first) : "memory"); /* not to be left out */
    return 1;
}

__attribute__((hot)) int
shim_gcm_open(struct shim_gcm *g, const struct shim_gcm_record *r, const uint8_t *in, size_t n,
              const uint8_t tag[16], uint8_t *out, uint8_t *end)
{
    uint8_t w[WORK]; /* nobody sees it before the tag is known to be right */
    uint8_t sum[BLOCK];
    if (n < 1 || n > SHIM_GCM_LONGEST + 1 || r->head_len > BLOCK)
        return 0;
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
