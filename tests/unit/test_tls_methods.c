/* SPDX-License-Identifier: Apache-2.0
 *
 * What is looked up by name and kept is what OpenSSL would find, each time, and only that. Linked as the engine
 * is, with the look-ups wrapped.
 */
#include <check.h>
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#include "shim/tls/tls.h"

#define REAL(KIND) EVP_##KIND *__real_EVP_##KIND##_fetch(OSSL_LIB_CTX *ctx, const char *name, const char *props)
REAL(MD);
REAL(MAC);
REAL(KDF);
REAL(SIGNATURE);

/* OpenSSL's and ours, as often as one likes; true when something was found. */
#define SAME(KIND)                                                                                  \
    static int same_##KIND(OSSL_LIB_CTX *ctx, const char *name, const char *props)                  \
    {                                                                                               \
        EVP_##KIND *real = __real_EVP_##KIND##_fetch(ctx, name, props), *ours[3];                   \
        for (unsigned i = 0; i < 3; i++) {                                                          \
            ours[i] = EVP_##KIND##_fetch(ctx, name, props);                                         \
            ck_assert_ptr_eq(ours[i], real);                                                        \
        }                                                                                           \
        for (unsigned i = 0; i < 3; i++)                                                            \
            EVP_##KIND##_free(ours[i]);                                                             \
        EVP_##KIND##_free(real);                                                                    \
        return real != NULL;                                                                        \
    }
SAME(MD)
SAME(MAC)
SAME(KDF)
SAME(SIGNATURE)

static unsigned found;

static void
setup(void)
{
    ck_assert_ptr_nonnull(shim_tls_engine(NULL));
    found = 0;
}

static void
md_by_name(const char *name, void *arg)
{
    (void)arg;
    char *other = strdup(name);
    for (char *c = other; *c != '\0'; c++)
        *c = (char)(isupper((unsigned char)*c) ? tolower((unsigned char)*c) : toupper((unsigned char)*c));
    ck_assert_int_eq(same_MD(NULL, name, NULL), 1);
    ck_assert_int_eq(same_MD(NULL, other, NULL), 1);
    found += strcmp(name, other) == 0 ? 1 : 2;
    free(other);
}

static void
md_by_names(EVP_MD *md, void *arg)
{
    ck_assert_int_eq(EVP_MD_names_do_all(md, md_by_name, arg), 1);
}

/* By all of their names, in large letters and in small ones: more than are kept. */
START_TEST(digests)
{
    for (int i = 0; i < 2; i++)
        EVP_MD_do_all_provided(NULL, md_by_names, NULL);
    ck_assert_uint_gt(found, 2 * 24);
}
END_TEST

START_TEST(other_kinds)
{
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(same_MAC(NULL, "HMAC", NULL), 1);
        ck_assert_int_eq(same_KDF(NULL, "HKDF", ""), 1);
        ck_assert_int_eq(same_KDF(NULL, "TLS13-KDF", NULL), 1);
        ck_assert_int_eq(same_SIGNATURE(NULL, "ECDSA", NULL), 1);
        ck_assert_int_eq(same_SIGNATURE(NULL, "HMAC", NULL), 1); /* another kind's name, too */
        ck_assert_int_eq(same_MAC(NULL, "SHA256", NULL), 0);
        ck_assert_int_eq(same_KDF(NULL, "ECDSA", NULL), 0);
        ck_assert_int_eq(same_MD(NULL, "", NULL), 0);
        ck_assert_int_eq(same_MD(NULL, "SHA25", NULL), 0);
    }
    ERR_clear_error();
}
END_TEST

/* Whoever asks for more than a name, or elsewhere, gets that and not what was kept. */
START_TEST(only_plain_ones)
{
    OSSL_LIB_CTX *other = OSSL_LIB_CTX_new();
    EVP_MD *kept = EVP_MD_fetch(NULL, "SHA256", NULL), *own = EVP_MD_fetch(other, "SHA256", NULL);
    ck_assert_ptr_nonnull(own);
    ck_assert_ptr_ne(own, kept);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(same_MD(other, "SHA256", NULL), 1);
        ck_assert_int_eq(same_MD(OSSL_LIB_CTX_get0_global_default(), "SHA256", NULL), 1);
        ck_assert_int_eq(same_MD(NULL, "SHA256", "provider=default"), 1);
        ck_assert_int_eq(same_MD(NULL, "SHA256", "provider=other"), 0);
    }
    EVP_MD_free(own);
    EVP_MD_free(kept);
    OSSL_LIB_CTX_free(other);
    ERR_clear_error();
}
END_TEST

/* The one that is kept has its own reference. */
START_TEST(still_there)
{
    uint8_t out[EVP_MAX_MD_SIZE];
    size_t n = 0;
    for (int i = 0; i < 100; i++) {
        EVP_MD *md = EVP_MD_fetch(NULL, "SHA384", NULL);
        ck_assert_int_eq(EVP_MD_get_size(md), 48);
        EVP_MD_free(md);
    }
    ck_assert_int_eq(EVP_Q_digest(NULL, "SHA384", NULL, "", 0, out, &n), 1);
    ck_assert_uint_eq(n, 48);
}
END_TEST

/* ---- names ---- */

typedef void on_name(const char *name, void *arg);
int __real_EVP_KEYMGMT_names_do_all(const EVP_KEYMGMT *m, on_name *fn, void *arg);
int __real_EVP_KEYMGMT_is_a(const EVP_KEYMGMT *m, const char *name);
int __real_EVP_MD_names_do_all(const EVP_MD *m, on_name *fn, void *arg);
int __real_EVP_MD_is_a(const EVP_MD *m, const char *name);

static const char *const asked[] = {"EC", "ec", "RSA", "id-ecPublicKey", "x25519", "1.3.101.110", "X2551", "X255199",
                                    "RSA-PSS", "DSA", "SHA256", "sha2-256", "SHA2-25", "SHA1", "SHA384", "MD5", ""};

/* The same names; their order is that of a hash table, which grows. */
static int
are_same(const char *ours, const char *real)
{
    char key[1000];
    for (const char *s = ours, *end; (end = strchr(s + 1, ':')) != NULL; s = end) {
        snprintf(key, sizeof(key), "%.*s:", (int)(end - s), s);
        if (strstr(real, key) == NULL)
            return 0;
    }
    return strlen(ours) == strlen(real);
}

static void
append(const char *name, void *arg)
{
    char *text = arg;
    ck_assert_uint_lt(strlen(text) + strlen(name) + 2, 1000);
    strcat(strcat(text, name), ":");
}

#define SAME_NAMES(TYPE)                                                                            \
    static void same_##TYPE##_names(EVP_##TYPE *m, void *arg)                                       \
    {                                                                                               \
        (void)arg;                                                                                  \
        for (int i = 0; i < 3; i++) {                                                               \
            char real[1000] = ":", ours[1000] = ":";                                                \
            ck_assert_int_eq(__real_EVP_##TYPE##_names_do_all(m, append, real), 1);                 \
            ck_assert_int_eq(EVP_##TYPE##_names_do_all(m, append, ours), 1);                        \
            ck_assert(are_same(ours, real));                                                        \
            for (size_t k = 0; k < sizeof(asked) / sizeof(asked[0]); k++) {                         \
                int is = __real_EVP_##TYPE##_is_a(m, asked[k]);                                     \
                ck_assert_int_eq(EVP_##TYPE##_is_a(m, asked[k]), is);                               \
                found += is != 0;                                                                   \
            }                                                                                       \
        }                                                                                           \
    }
SAME_NAMES(KEYMGMT)
SAME_NAMES(MD)

static void
signature_name(EVP_SIGNATURE *m, void *arg)
{
    (void)m, (void)arg;
}

static void
exchange_name(EVP_KEYEXCH *m, void *arg)
{
    (void)m, (void)arg;
}

static void
decoder_name(OSSL_DECODER *m, void *arg)
{
    (void)m, (void)arg;
}

/* Of all kinds of keys and all digests; again when all else that could give them names is loaded; of more than
 * are kept; and of what no provider has. */
START_TEST(names)
{
    EVP_KEYMGMT_do_all_provided(NULL, same_KEYMGMT_names, NULL);
    EVP_MD_do_all_provided(NULL, same_MD_names, NULL);
    EVP_SIGNATURE_do_all_provided(NULL, signature_name, NULL);
    EVP_KEYEXCH_do_all_provided(NULL, exchange_name, NULL);
    OSSL_DECODER_do_all_provided(NULL, decoder_name, NULL);
    for (int i = 0; i < 5; i++) {
        OSSL_LIB_CTX *other = i > 0 ? OSSL_LIB_CTX_new() : NULL;
        EVP_KEYMGMT_do_all_provided(other, same_KEYMGMT_names, NULL);
        EVP_MD_do_all_provided(other, same_MD_names, NULL);
        OSSL_LIB_CTX_free(other);
    }
    ck_assert_uint_gt(found, 6 * 3 * 8);
    found = 0;
    same_MD_names((EVP_MD *)(uintptr_t)EVP_sha256(), NULL);
    ck_assert_uint_eq(found, 3 * 2);
}
END_TEST

/* ---- what there is (shim/tls/provider.c) ---- */

static void
count_cipher(EVP_CIPHER *m, void *arg)
{
    (void)m;
    ++*(unsigned *)arg;
}

START_TEST(only_what_is_used)
{
    unsigned ours = 0, all = 0;
    OSSL_LIB_CTX *other = OSSL_LIB_CTX_new();
    EVP_CIPHER_do_all_provided(NULL, count_cipher, &ours);
    EVP_CIPHER_do_all_provided(other, count_cipher, &all);
    ck_assert_uint_eq(ours, 5);
    ck_assert_uint_gt(all, 50);
    ck_assert_ptr_null(EVP_CIPHER_fetch(NULL, "AES-128-CBC", NULL));
    ck_assert_ptr_null(EVP_MD_fetch(NULL, "SHA3-256", NULL));
    ck_assert_ptr_null(EVP_get_cipherbyname("AES-128-CBC"));
    ck_assert_ptr_nonnull(EVP_get_digestbyname("SHA512"));
    OSSL_LIB_CTX_free(other);
    ERR_clear_error();
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("tls methods");
    TCase *tc = tcase_create("methods");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, digests);
    tcase_add_test(tc, other_kinds);
    tcase_add_test(tc, only_plain_ones);
    tcase_add_test(tc, still_there);
    tcase_add_test(tc, names);
    tcase_add_test(tc, only_what_is_used);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
