/* SPDX-License-Identifier: Apache-2.0
 *
 * A public key is the one that OpenSSL's own function gives, for whatever private one, and RFC 7748's. Linked as the
 * engine is.
 */
#include <check.h>
#include <stdint.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "shim/tls/tls.h"

#define ROUNDS 2000

void __real_ossl_x25519_public_from_private(uint8_t public[32], const uint8_t private[32]);
void ossl_x25519_public_from_private(uint8_t public[32], const uint8_t private[32]); /* leads to ours */

static void
setup(void)
{
    ck_assert_ptr_nonnull(shim_tls_engine(NULL));
}

static void
check_key(const uint8_t private[32])
{
    uint8_t ours[32], theirs[32];
    ossl_x25519_public_from_private(ours, private);
    __real_ossl_x25519_public_from_private(theirs, private);
    ck_assert_mem_eq(ours, theirs, 32);
}

START_TEST(same_as_openssl)
{
    uint8_t key[32];
    for (int i = 0; i < ROUNDS; i++) {
        ck_assert_int_eq(RAND_bytes(key, sizeof(key)), 1);
        check_key(key);
    }
    for (unsigned bit = 0; bit < 256; bit++) {
        memset(key, 0, sizeof(key));
        key[bit / 8] = (uint8_t)(1u << bit % 8);
        check_key(key);
        memset(key, 0xff, sizeof(key));
        key[bit / 8] ^= (uint8_t)(1u << bit % 8);
        check_key(key);
    }
    memset(key, 0, sizeof(key));
    check_key(key);
    memset(key, 0xff, sizeof(key));
    check_key(key);
}
END_TEST

/* RFC 7748 6.1: Alice's key. */
START_TEST(as_the_standard_says)
{
    static const uint8_t private[32] = {
        0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45,
        0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
    };
    static const uint8_t public[32] = {
        0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54, 0x74, 0x8b, 0x7d, 0xdc, 0xb4, 0x3e, 0xf7, 0x5a,
        0x0d, 0xbf, 0x3a, 0x0d, 0x26, 0x38, 0x1a, 0xf4, 0xeb, 0xa4, 0xa9, 0x8e, 0xaa, 0x9b, 0x4e, 0x6a,
    };
    uint8_t got[32];
    size_t n = sizeof(got);
    ossl_x25519_public_from_private(got, private);
    ck_assert_mem_eq(got, public, 32);
    EVP_PKEY *k = EVP_PKEY_new_raw_private_key_ex(NULL, "X25519", NULL, private, 32); /* by our way, too */
    ck_assert_ptr_nonnull(k);
    memset(got, 0, sizeof(got));
    ck_assert_int_eq(EVP_PKEY_get_raw_public_key(k, got, &n), 1);
    ck_assert_mem_eq(got, public, 32);
    EVP_PKEY_free(k);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("tls x25519");
    TCase *tc = tcase_create("public keys");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, same_as_openssl);
    tcase_add_test(tc, as_the_standard_says);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
