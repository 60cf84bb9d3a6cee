/* SPDX-License-Identifier: Apache-2.0
 *
 * Parsed certificates: the same bytes give the same object again, once their owner was verified; others never
 * do. Linked as the engine is, with d2i_X509 wrapped.
 */
#include <check.h>
#include <string.h>

#include "shim/tls/certs.h"
#include "tests/unit/tls_pki.h"
#include "tests/unit/tls_talk.h"

static const struct shim_tls_ops *ops;
static struct pki_cert root, leaf, other;
static uint8_t der[8192];
static size_t len;

static void
setup(void)
{
    ops = shim_tls_engine(NULL);
    ck_assert_ptr_nonnull(ops);
    root = pki_root("root");
    leaf = pki_leaf("URI:" PKI_ORDERS, &root);
    other = pki_leaf("URI:" PKI_WEB, &root);
    uint8_t *p = der;
    len = (size_t)i2d_X509(leaf.x, &p);
    ck_assert_uint_gt(len, 0);
    shim_certs_fini();
}

static void
teardown(void)
{
    shim_certs_fini();
    pki_free(&other);
    pki_free(&leaf);
    pki_free(&root);
}

/* What OpenSSL makes of `n` bytes; the caller's reference. */
static X509 *
parse(const uint8_t *bytes, size_t n, size_t *used)
{
    const uint8_t *p = bytes;
    X509 *x = X509_new();
    if (d2i_X509(&x, &p, (long)n) == NULL)
        return NULL;
    *used = (size_t)(p - bytes);
    return x;
}

START_TEST(same_bytes_same_object)
{
    size_t used = 0;
    X509 *first = parse(der, len, &used), *again = NULL;
    shim_certs_keep(first);
    for (int i = 0; i < 3; i++) {
        again = parse(der, len, &used);
        ck_assert_ptr_eq(again, first);
        ck_assert_uint_eq(used, len);
        X509_free(again);
    }
    X509_free(first);
    again = parse(der, len, &used); /* the table has its own reference */
    ck_assert_int_eq(X509_cmp(again, leaf.x), 0);
    X509_free(again);
}
END_TEST

START_TEST(nobody_else)
{
    size_t used = 0;
    X509 *first = parse(der, len, &used);
    shim_certs_keep(first);
    for (size_t i = 4; i < len; i++) {
        der[i] ^= 1;
        X509 *x = parse(der, len, &used);
        ck_assert_ptr_ne(x, first);
        X509_free(x);
        der[i] ^= 1;
    }
    ck_assert_ptr_null(parse(der, len - 1, &used));
    ck_assert_ptr_null(parse(der, 0, &used));
    der[len] = der[len - 1]; /* bytes behind it belong to the caller */
    X509 *x = parse(der, len + 1, &used);
    ck_assert_ptr_ne(x, first);
    ck_assert_uint_eq(used, len);
    X509_free(x);
    X509_free(first);
}
END_TEST

/* A new signature, until the last byte says a place that is the leaf's, or that is not. */
static void
sign_for(X509 *x, bool same)
{
    const ASN1_BIT_STRING *sig = NULL;
    do {
        ck_assert_int_gt(X509_sign(x, root.key, EVP_sha256()), 0);
        X509_get0_signature(&sig, NULL, x);
    } while ((ASN1_STRING_get0_data(sig)[ASN1_STRING_length(sig) - 1] % SHIM_CERTS_ENTRIES ==
              der[len - 1] % SHIM_CERTS_ENTRIES) != same);
}

/* Another certificate of the same place takes it; what was handed out stays good. */
START_TEST(one_gives_way)
{
    size_t used = 0;
    uint8_t *p = NULL;
    X509 *first = parse(der, len, &used), *x = X509_dup(other.x);
    shim_certs_keep(first);
    sign_for(x, true);
    used = (size_t)i2d_X509(x, &p);
    shim_certs_keep(x);
    X509 *a = parse(p, used, &used), *b = parse(der, len, &used);
    ck_assert_ptr_eq(a, x);
    ck_assert_ptr_ne(b, first);
    ck_assert_int_eq(X509_cmp(b, first), 0);
    X509_free(a);
    X509_free(b);
    X509_free(x);
    X509_free(first);
    OPENSSL_free(p);
}
END_TEST

/* By a handshake: the verified peer's is kept, a stranger's is not. */
START_TEST(only_of_the_verified)
{
    struct pki_cert stranger = pki_root("stranger"), bad = pki_leaf("URI:" PKI_ORDERS, &stranger);
    struct pki_identity ours, theirs;
    sign_for(other.x, false); /* the server keeps it, in this process, too */
    pki_identity(&ours, &other, NULL, &root);
    pki_identity(&theirs, _i == 0 ? &leaf : &bad, NULL, &root);
    uint8_t *p = der;
    len = (size_t)i2d_X509(_i == 0 ? leaf.x : bad.x, &p);
    struct talk_pair *t = talk_new();
    ck_assert_int_eq(ops->identity_set(&theirs.id), MESH_OK);
    t->server.hs = ops->hs_new(1, NULL);
    ck_assert_int_eq(ops->identity_set(&ours.id), MESH_OK);
    t->client.hs = ops->hs_new(0, NULL);
    talk_run(&t->client, &t->server);
    ck_assert_int_eq(t->client.res.err, _i == 0 ? MESH_OK : MESH_E_CERT_UNTRUSTED);
    size_t used = 0;
    X509 *a = parse(der, len, &used), *b = parse(der, len, &used);
    ck_assert(_i == 0 ? a == b : a != b);
    X509_free(a);
    X509_free(b);
    talk_free(t);
    pki_identity_free(&ours);
    pki_identity_free(&theirs);
    pki_free(&bad);
    pki_free(&stranger);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("tls certs");
    TCase *tc = tcase_create("certs");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, same_bytes_same_object);
    tcase_add_test(tc, nobody_else);
    tcase_add_test(tc, one_gives_way);
    tcase_add_loop_test(tc, only_of_the_verified, 0, 2);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
