/* SPDX-License-Identifier: Apache-2.0
 *
 * tls_rec: what the tests of the record layer share: the engine, keys from a byte, records made by
 * raw EVP with whatever inside.
 */
#ifndef TESTS_UNIT_TLS_REC_H
#define TESTS_UNIT_TLS_REC_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "shim/tls/cache.h"
#include "shim/tls/suite.h"
#include "shim/tls/tls.h"

static const struct shim_tls_ops *ops;
static void
setup(void)
{
    ops = shim_tls_engine(NULL);
    ck_assert_ptr_nonnull(ops);
}

static void
teardown(void)
{
    shim_cache_fini();
}

static struct shim_key
key_of(uint16_t suite, uint8_t seed)
{
    struct shim_key k = {0};
    uint8_t secret[48];
    memset(secret, seed, sizeof(secret));
    ck_assert_int_eq(shim_suite_key_init(&k, suite, secret, suite == 0x1302 ? 48 : 32), MESH_OK);
    return k;
}

static const uint16_t suites[] = {0x1301, 0x1302, 0x1303};

static size_t
raw_seal(const struct shim_key *k, const uint8_t *inner, size_t n, uint8_t *rec)
{
    const struct shim_suite *s = shim_suite_find(k->suite);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    uint8_t nonce[12];
    int l = 0;
    memcpy(nonce, k->iv, 12);
    for (int i = 0; i < 8; i++)
        nonce[4 + i] ^= (uint8_t)(k->seq >> (56 - 8 * i));
    memcpy(rec, "\x17\x03\x03", 3);
    rec[3] = (uint8_t)((n + 16) >> 8);
    rec[4] = (uint8_t)(n + 16);
    ck_assert_int_eq(EVP_EncryptInit_ex(ctx, s->cipher, NULL, k->key, nonce), 1);
    ck_assert_int_eq(EVP_EncryptUpdate(ctx, NULL, &l, rec, 5), 1);
    ck_assert_int_eq(EVP_EncryptUpdate(ctx, rec + 5, &l, inner, (int)n), 1);
    ck_assert_int_eq(EVP_EncryptFinal_ex(ctx, rec + 5 + n, &l), 1);
    ck_assert_int_eq(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, rec + 5 + n), 1);
    EVP_CIPHER_CTX_free(ctx);
    return 5 + n + 16;
}

static uint8_t *
pattern(size_t n)
{
    uint8_t *p = malloc(n + 1);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(i * 7 + i / 256);
    return p;
}

/* Runs the cases, each with the engine. */
static int
run_cases(const char *name, TCase *all[], int n)
{
    Suite *s = suite_create(name);
    for (int i = 0; i < n; i++) {
        tcase_add_checked_fixture(all[i], setup, teardown);
        tcase_set_timeout(all[i], 120);
        suite_add_tcase(s, all[i]);
    }
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}

#endif
