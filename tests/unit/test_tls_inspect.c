/* SPDX-License-Identifier: Apache-2.0
 *
 * What a client is, by its first bytes: hellos of our engine and of OpenSSL, whole and in pieces, and what only
 * begins like one.
 */
#include <check.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "shim/tls/inspect.h"
#include "tests/unit/tls_pki.h"
#include "tests/unit/tls_talk.h"

static uint8_t hello[4096];
static size_t len;

/* The bytes end where the memory does, so that a sanitizer sees who reads on. */
static enum shim_client
look(const uint8_t *b, size_t n, size_t *want)
{
    uint8_t *copy = malloc(n);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, b, n);
    enum shim_client c = shim_inspect(copy, n, want);
    free(copy);
    return c;
}

/* Of less than all of it nothing is said but how much is wanted, or that it is the program's. */
static void
assert_is(enum shim_client client)
{
    size_t want = 0;
    ck_assert_uint_gt(len, 100);
    bool told = false;
    for (size_t n = 1; n < len; n++) {
        enum shim_client c = look(hello, n, &want);
        ck_assert(c == (told ? client : SHIM_CLIENT_MORE) || (c == client && client == SHIM_CLIENT_OWN));
        told = c != SHIM_CLIENT_MORE;
        ck_assert_uint_eq(want, n < SHIM_REC_HEAD ? SHIM_REC_HEAD : len);
    }
    ck_assert_int_eq(look(hello, len, &want), client);
    hello[len] = 22; /* more may be there */
    ck_assert_int_eq(look(hello, len + 1, &want), client);
}

/* OpenSSL's. */
static void
make(const char *name, const char *alpn, int version)
{
    SSL_CTX *ctx = SSL_CTX_new_ex(pki_openssl(), NULL, TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    BIO *out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
    ck_assert_int_eq(SSL_set_min_proto_version(ssl, version), 1);
    ck_assert_int_eq(SSL_set_max_proto_version(ssl, version), 1);
    if (name)
        ck_assert_int_eq(SSL_set_tlsext_host_name(ssl, name), 1);
    if (alpn)
        ck_assert_int_eq(SSL_set_alpn_protos(ssl, (const uint8_t *)alpn, (unsigned)strlen(alpn)), 0);
    ck_assert_int_le(SSL_connect(ssl), 0);
    int n = BIO_read(out, hello, (int)sizeof(hello) - 1);
    ck_assert_int_gt(n, 0);
    len = (size_t)n;
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}

START_TEST(of_the_mesh)
{
    const struct shim_tls_ops *ops = shim_tls_engine(NULL);
    struct pki_cert root = pki_root("root"), web = pki_leaf("URI:" PKI_WEB, &root);
    struct pki_identity id;
    pki_identity(&id, &web, NULL, &root);
    ck_assert_int_eq(ops->identity_set(&id.id), MESH_OK);
    struct shim_hs *hs = ops->hs_new(0, NULL);
    ck_assert_int_eq(ops->hs_step(hs, NULL, 0, hello, sizeof(hello) - 1, &len), SHIM_HS_MORE);
    ops->hs_free(hs);
    pki_identity_free(&id);
    pki_free(&web);
    pki_free(&root);
    assert_is(SHIM_CLIENT_MESH);
}
END_TEST

START_TEST(of_others)
{
    const int version[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    make(NULL, NULL, version[_i]); /* as openssl s_client to an address, nginx, HAProxy */
    assert_is(SHIM_CLIENT_MESH);
    make("orders.example", NULL, version[_i]);
    assert_is(SHIM_CLIENT_OWN);
    make(NULL, "\x08http/1.1", version[_i]);
    assert_is(SHIM_CLIENT_OWN);
    make("orders.example", "\x02h2\x08http/1.1", version[_i]);
    assert_is(SHIM_CLIENT_OWN);
}
END_TEST

START_TEST(no_tls)
{
    static const char *const first[] = {"G", "GET / HTTP/1.1\r\n", "\x16\x02", "\x16\x04\x01\x01\x01", "\x80\x2e\x01", "\x00", "\x15\x03\x01"};
    size_t want;
    for (size_t i = 0; i < sizeof(first) / sizeof(*first); i++)
        ck_assert_int_eq(look((const uint8_t *)first[i], i == 5 ? 1 : strlen(first[i]), &want), SHIM_CLIENT_PLAIN);
}
END_TEST

/* Where a hello is cut by its own lengths, what was named before the cut counts, and nothing is read beyond it. */
START_TEST(in_two_records)
{
    size_t want, seen = 0;
    make("orders.example", NULL, TLS1_3_VERSION);
    for (size_t n = 0; n < len - SHIM_REC_HEAD; n++) {
        hello[3] = (uint8_t)(n >> 8);
        hello[4] = (uint8_t)n;
        enum shim_client c = look(hello, SHIM_REC_HEAD + n, &want);
        ck_assert(c == SHIM_CLIENT_MESH || c == SHIM_CLIENT_OWN);
        ck_assert(seen == 0 || c == SHIM_CLIENT_OWN);
        seen = c == SHIM_CLIENT_OWN && seen == 0 ? n : seen;
    }
    ck_assert_uint_gt(seen, 0);
}
END_TEST

START_TEST(too_long)
{
    const uint8_t head[] = {22, 3, 1, 0x40, 1};
    size_t want;
    ck_assert_int_eq(look(head, sizeof(head), &want), SHIM_CLIENT_MESH);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("tls inspect");
    TCase *tc = tcase_create("first bytes");
    tcase_add_test(tc, of_the_mesh);
    tcase_add_loop_test(tc, of_others, 0, 2);
    tcase_add_test(tc, no_tls);
    tcase_add_test(tc, in_two_records);
    tcase_add_test(tc, too_long);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
