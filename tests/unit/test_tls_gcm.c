/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_gcm beside EVP: every length, keys of both sizes, heads of every length, with AVX and without, at
 * every alignment, in place and beside; every bit of a record and its tag, and that a forgery writes nothing. Buffers
 * end at a page that faults.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "shim/tls/gcm.h"

#define MOST (SHIM_GCM_LONGEST + 1u)

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

/* Seals at the page's end, opens there: in place, over a part of itself, and beside. */
static void
both_ways(const struct shim_gcm_record *r, const uint8_t *in, size_t n, const uint8_t *want,
          const uint8_t *want_tag)
{
    uint8_t *at = edge(n), tag[16], end = 0;
    memcpy(at, in, n);
    ck_assert(shim_gcm_seal(g, r, at, n, tag));
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
    uint8_t key[32], nonce[12], head[16], tag[16], in[MOST], want[MOST];
    size_t key_len = _i % 2 ? 32 : 16;
    shim_gcm_avx = _i < 2;
    for (unsigned n = 1; n <= MOST; n++) {
        struct shim_gcm_record r = {nonce, head, n % 17};
        fill(key, sizeof(key), 5 * n);
        fill(nonce, sizeof(nonce), 5 * n + 1);
        fill(head, sizeof(head), 5 * n + 2);
        fill(in, n, 5 * n + 3);
        reference(key, key_len, &r, in, n, want, tag);
        shim_gcm_key(g, key, key_len);
        both_ways(&r, in, n, want, tag);
    }
}
END_TEST

/* Another record with the same key, at every alignment. */
START_TEST(misaligned)
{
    uint8_t key[16] = {3}, nonce[12] = {1}, head[5] = {23, 3, 3}, in[200], want[200], tag[16];
    struct shim_gcm_record r = {nonce, head, sizeof(head)};
    fill(in, sizeof(in), 1);
    shim_gcm_key(g, key, sizeof(key));
    for (unsigned i = 0; i < 64; i++) {
        uint8_t *at = space + i, got[16], end = 0;
        size_t n = 137 + i;
        nonce[11] = (uint8_t)i;
        reference(key, sizeof(key), &r, in, n, want, tag);
        memcpy(at, in, n);
        ck_assert(shim_gcm_seal(g, &r, at, n, got));
        ck_assert_mem_eq(at, want, n);
        ck_assert_mem_eq(got, tag, 16);
        ck_assert(shim_gcm_open(g, &r, at, n, tag, at + 7 * i, &end));
        ck_assert_mem_eq(at + 7 * i, in, n - 1);
        ck_assert_uint_eq(end, in[n - 1]);
    }
}
END_TEST

/* A bit of anything is wrong: no, and not a byte of output. */
START_TEST(forgeries)
{
    uint8_t key[16] = {7}, nonce[12] = {1}, head[5] = {23, 3, 3}, in[200], sealed[200 + 16];
    uint8_t out[200], end = 0x55;
    struct shim_gcm_record r = {nonce, head, sizeof(head)};
    fill(in, sizeof(in), 1);
    memcpy(sealed, in, sizeof(in));
    memset(out, 0x55, sizeof(out));
    shim_gcm_key(g, key, 16);
    ck_assert(shim_gcm_seal(g, &r, sealed, sizeof(in), sealed + sizeof(in)));
    for (unsigned bit = 0; bit < 8 * sizeof(sealed); bit++) {
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert(!shim_gcm_open(g, &r, sealed, sizeof(in), sealed + 200, out, &end));
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (unsigned bit = 0; bit < 8 * sizeof(head); bit++) {
        head[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert(!shim_gcm_open(g, &r, sealed, sizeof(in), sealed + 200, out, &end));
        head[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t i = 0; i < sizeof(out); i++)
        ck_assert_uint_eq(out[i], 0x55);
    ck_assert_uint_eq(end, 0x55);
    ck_assert(shim_gcm_open(g, &r, sealed, sizeof(in), sealed + 200, out, &end));
    ck_assert_mem_eq(out, in, sizeof(in) - 1);
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
    tcase_add_test(tc, misaligned);
    tcase_add_test(tc, forgeries);
    tcase_add_test(tc, too_long);
    tcase_set_timeout(tc, 120);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
