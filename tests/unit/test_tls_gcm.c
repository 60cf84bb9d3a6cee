/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_gcm beside EVP: every length to twice what is done in two passes, and others to the longest, keys of both sizes, heads
 * of every length, with AVX and without, at every alignment, in place and beside; every bit of a record and its tag, and
 * that a forgery leaves nothing. Buffers end at a page that faults.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "shim/tls/gcm.h"

#define MOST    (SHIM_GCM_LONGEST + 1u)
#define TO_EACH (2 * SHIM_GCM_TWO_PASSES) /* every length, then steps that meet every rest of six blocks */
#define STEP    61u

static uint8_t *space; /* some pages, then one that faults */
static size_t size;
static struct shim_gcm *g;

static void
setup(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size = (2 * MOST + page - 1) / page * page;
    space = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(space, MAP_FAILED);
    ck_assert_int_eq(mprotect(space + size, page, PROT_NONE), 0);
    g = shim_gcm_new();
    ck_assert_ptr_nonnull(g);
}

static void
teardown(void)
{
    shim_gcm_free(g);
    munmap(space, size + (size_t)sysconf(_SC_PAGESIZE));
}

/* n bytes right before the page that faults. */
static uint8_t *
edge(size_t n)
{
    return space + size - n;
}

static void
fill(uint8_t *p, size_t n, unsigned seed)
{
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (uint8_t)(x >> 24);
    }
}

static void
reference(const uint8_t *key, size_t key_len, const struct shim_gcm_record *r, const uint8_t *in,
          size_t n, uint8_t *out, uint8_t *tag)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int l = 0;
    ck_assert_int_eq(EVP_EncryptInit_ex(c, key_len == 16 ? EVP_aes_128_gcm() : EVP_aes_256_gcm(),
                                        NULL, key, r->nonce), 1);
    ck_assert_int_eq(EVP_EncryptUpdate(c, NULL, &l, r->head, (int)r->head_len), 1);
    ck_assert_int_eq(EVP_EncryptUpdate(c, out, &l, in, (int)n), 1);
    ck_assert_int_eq(EVP_EncryptFinal_ex(c, out, &l), 1);
    ck_assert_int_eq(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, tag), 1);
    EVP_CIPHER_CTX_free(c);
}

/* Content and the byte behind it, where they are. */
static int
seal_here(const struct shim_gcm_record *r, uint8_t *at, size_t n, uint8_t tag[16])
{
    return shim_gcm_seal(g, r, at, n - 1, at[n - 1], at, tag);
}

/* Seals at the page's end, opens there: in place, over a part of itself, and beside. */
static void
both_ways(const struct shim_gcm_record *r, const uint8_t *in, size_t n, const uint8_t *want,
          const uint8_t *want_tag)
{
    uint8_t *at = edge(n), tag[16], end = 0;
    ck_assert(shim_gcm_seal(g, r, in, n - 1, in[n - 1], at, tag));
    ck_assert_mem_eq(at, want, n);
    ck_assert_mem_eq(tag, want_tag, 16);
    memcpy(at, in, n);
    ck_assert(seal_here(r, at, n, tag));
    ck_assert_mem_eq(at, want, n);
    ck_assert_mem_eq(tag, want_tag, 16);
    ck_assert(shim_gcm_open(g, r, at, n, tag, at, &end));
    ck_assert_mem_eq(at, in, n - 1);
    ck_assert_uint_eq(at[n - 1], want[n - 1]); /* the last byte goes elsewhere */
    ck_assert_uint_eq(end, in[n - 1]);
    memcpy(at, want, n);
    ck_assert(shim_gcm_open(g, r, at, n, tag, at - 5, &end));
    ck_assert_mem_eq(at - 5, in, n - 1);
    ck_assert(shim_gcm_open(g, r, want, n, tag, edge(n - 1), &end));
    ck_assert_mem_eq(edge(n - 1), in, n - 1);
}

START_TEST(same_as_evp)
{
    static uint8_t in[MOST], want[MOST];
    uint8_t key[32], nonce[12], head[16], tag[16];
    size_t key_len = _i % 2 ? 32 : 16, most = shim_gcm_longest() + 1;
    shim_gcm_avx = _i < 2;
    most = shim_gcm_avx ? most : SHIM_GCM_TWO_PASSES + 1;
    for (size_t n = 1; n <= most; n += n < TO_EACH || n == most ? 1 : most - n < STEP ? most - n : STEP) {
        struct shim_gcm_record r = {nonce, head, n % 17};
        unsigned seed = 5 * (unsigned)n;
        fill(key, sizeof(key), seed);
        fill(nonce, sizeof(nonce), seed + 1);
        fill(head, sizeof(head), seed + 2);
        fill(in, n, seed + 3);
        reference(key, key_len, &r, in, n, want, tag);
        shim_gcm_key(g, key, key_len);
        both_ways(&r, in, n, want, tag);
    }
}
END_TEST

/* Another record with the same key, at every alignment; a short one and a long one. */
START_TEST(misaligned)
{
    static uint8_t in[4000], want[4000];
    uint8_t key[16] = {3}, nonce[12] = {1}, head[5] = {23, 3, 3}, tag[16];
    struct shim_gcm_record r = {nonce, head, sizeof(head)};
    fill(in, sizeof(in), 1);
    shim_gcm_key(g, key, sizeof(key));
    for (unsigned i = 0; i < 64; i++) {
        uint8_t *at = space + i, got[16], end = 0;
        size_t n = (_i ? 3000 : 137) + i;
        nonce[11] = (uint8_t)i;
        reference(key, sizeof(key), &r, in, n, want, tag);
        memcpy(at, in, n);
        ck_assert(seal_here(&r, at, n, got));
        ck_assert_mem_eq(at, want, n);
        ck_assert_mem_eq(got, tag, 16);
        uint8_t *to = at + (_i ? 4096 + 7 * i : 7 * i);
        ck_assert(shim_gcm_open(g, &r, at, n, tag, to, &end));
        ck_assert_mem_eq(to, in, n - 1);
        ck_assert_uint_eq(end, in[n - 1]);
    }
}
END_TEST

/* A bit of anything is wrong: no, and not a byte of content; of a short record not a byte of output. */
START_TEST(forgeries)
{
    enum { ROOM = 3000 };
    static uint8_t in[ROOM], sealed[ROOM + 16], out[ROOM];
    uint8_t key[16] = {7}, nonce[12] = {1}, head[5] = {23, 3, 3}, end = 0x55;
    size_t n = _i ? ROOM : 200;
    struct shim_gcm_record r = {nonce, head, sizeof(head)};
    fill(in, n, 1);
    memset(out, 0x55, n);
    shim_gcm_key(g, key, 16);
    ck_assert(shim_gcm_seal(g, &r, in, n - 1, in[n - 1], sealed, sealed + n));
    for (unsigned bit = 0; bit < 8 * (n + 16); bit += bit < 1600 || bit > 8 * n ? 1 : 101) {
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert(!shim_gcm_open(g, &r, sealed, n, sealed + n, out, &end));
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (unsigned bit = 0; bit < 8 * sizeof(head); bit++) {
        head[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert(!shim_gcm_open(g, &r, sealed, n, sealed + n, out, &end));
        head[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t i = 0; i < n - 1; i++)
        ck_assert_uint_eq(out[i], _i && i < (n - 1) / 96 * 96 ? 0 : 0x55);
    ck_assert_uint_eq(end, 0x55);
    ck_assert(shim_gcm_open(g, &r, sealed, n, sealed + n, out, &end));
    ck_assert_mem_eq(out, in, n - 1);
}
END_TEST

/* What is too long is refused, and nothing is read or written. */
START_TEST(too_long)
{
    uint8_t key[16] = {7}, nonce[12] = {1}, tag[16] = {0}, end = 0x55;
    struct shim_gcm_record r = {nonce, nonce, 5};
    shim_gcm_key(g, key, 16);
    ck_assert(!shim_gcm_open(g, &r, edge(0), MOST + 1, tag, edge(0), &end));
    ck_assert(!shim_gcm_open(g, &r, edge(0), 0, tag, edge(0), &end));
    ck_assert(!shim_gcm_seal(g, &r, edge(0), MOST, 0, edge(0), tag));
    ck_assert_uint_eq(end, 0x55);
}
END_TEST

int
main(void)
{
    if (shim_gcm_longest() == 0) {
        puts("skipped: OpenSSL or the processor has not what shim_gcm takes");
        return 0;
    }
    Suite *s = suite_create("tls gcm");
    TCase *tc = tcase_create("gcm");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, same_as_evp, 0, 4);
    tcase_add_loop_test(tc, misaligned, 0, 2);
    tcase_add_loop_test(tc, forgeries, 0, 2);
    tcase_add_test(tc, too_long);
    tcase_set_timeout(tc, 120);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
