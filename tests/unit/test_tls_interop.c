/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine against OpenSSL's own SSL object, in both roles: every suite, data and KeyUpdate both
 * ways, tickets, close, and peers that are wrong in ways which the engine itself never is.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "shim/tls/read.h"
#include "tests/unit/tls_pki.h"
#include "tests/unit/tls_talk.h"

static const struct shim_tls_ops *ops;
static struct pki_cert root, web, orders;
static struct pki_identity web_id;
static SSL_CTX *plain; /* the other end: orders */

static void
setup(void)
{
    ops = shim_tls_engine(NULL);
    ck_assert_ptr_nonnull(ops);
    root = pki_root("root");
    web = pki_leaf("URI:" PKI_WEB, &root);
    orders = pki_leaf("URI:" PKI_ORDERS, &root);
    pki_identity(&web_id, &web, NULL, &root);
    ck_assert_int_eq(ops->identity_set(&web_id.id), MESH_OK);
    plain = SSL_CTX_new_ex(pki_openssl(), NULL, TLS_method());
    ck_assert_int_eq(SSL_CTX_use_certificate(plain, orders.x), 1);
    ck_assert_int_eq(SSL_CTX_use_PrivateKey(plain, orders.key), 1);
    ck_assert_int_eq(X509_STORE_add_cert(SSL_CTX_get_cert_store(plain), root.x), 1);
    SSL_CTX_set_verify(plain, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
}

static void
teardown(void)
{
    SSL_CTX_free(plain);
    pki_identity_free(&web_id);
    pki_free(&web);
    pki_free(&orders);
    pki_free(&root);
}

/* The engine's end, and the SSL's. */
static struct talk_end *
us(struct talk_pair *p)
{
    return p->client.hs != NULL ? &p->client : &p->server;
}

static struct talk_end *
them(struct talk_pair *p)
{
    return p->client.hs != NULL ? &p->server : &p->client;
}

static struct talk_pair *
pair_new(int we_serve)
{
    struct talk_pair *p = talk_new();
    struct talk_end *e = we_serve ? &p->server : &p->client;
    struct talk_end *o = we_serve ? &p->client : &p->server;
    e->hs = ops->hs_new(we_serve, we_serve ? NULL : PKI_ORDERS);
    o->ssl = SSL_new(plain);
    ck_assert(e->hs != NULL && o->ssl != NULL);
    talk_ssl_bios(o->ssl);
    if (we_serve)
        SSL_set_connect_state(o->ssl);
    else
        SSL_set_accept_state(o->ssl);
    return p;
}

static struct talk_pair *
pair_joined(int we_serve, uint16_t suite)
{
    struct talk_pair *p = pair_new(we_serve);
    talk_run(&p->client, &p->server);
    ck_assert_int_eq(p->client.state, SHIM_HS_DONE);
    ck_assert_int_eq(p->server.state, SHIM_HS_DONE);
    ck_assert_str_eq(us(p)->res.peer_id, PKI_ORDERS);
    ck_assert_uint_eq(us(p)->res.tx.suite, suite);
    ck_assert_uint_eq(us(p)->res.rx.suite, suite);
    ck_assert_uint_eq(ERR_peek_error(), 0);
    return p;
}

/* Our next record from them; its type. */
static int
receive(struct talk_pair *p, uint8_t *out, size_t *n)
{
    const uint8_t *rec = NULL;
    uint8_t type = 0;
    talk_ssl_drain(them(p)->ssl, &us(p)->in);
    size_t len = talk_record(&us(p)->in, &rec);
    ck_assert_uint_ne(len, 0);
    ck_assert_int_eq(ops->open(&us(p)->res.rx, rec, len, out, n, &type), MESH_OK);
    return type;
}

static void
send_to_them(struct talk_pair *p, uint8_t type, const void *in, size_t n)
{
    uint8_t rec[SHIM_REC_MAX];
    size_t len = ops->seal(&us(p)->res.tx, type, in, n, rec);
    ck_assert_uint_eq(len, n + SHIM_REC_OVERHEAD);
    talk_put(&them(p)->in, rec, len);
    talk_ssl_feed(them(p)->ssl, &them(p)->in);
}

static void
exchange(struct talk_pair *p, size_t n)
{
    uint8_t *a = malloc(16384), *b = malloc(16384);
    size_t len = 0;
    for (size_t i = 0; i < n; i++)
        a[i] = (uint8_t)(i * 31 + n);
    send_to_them(p, 23, a, n);
    ck_assert_int_eq(SSL_read(them(p)->ssl, b, 16384), (int)n);
    ck_assert_mem_eq(a, b, n);
    ck_assert_int_eq(SSL_write(them(p)->ssl, a, (int)n), (int)n);
    int type = receive(p, b, &len);
    while (type == 22) /* NewSessionTicket, perhaps in pieces */
        type = receive(p, b, &len);
    ck_assert_int_eq(type, 23);
    ck_assert_uint_eq(len, n);
    ck_assert_mem_eq(a, b, n);
    free(a);
    free(b);
}

static const struct {
    uint16_t id;
    const char *name;
} suites[] = {
    {0x1301, "TLS_AES_128_GCM_SHA256"},
    {0x1302, "TLS_AES_256_GCM_SHA384"},
    {0x1303, "TLS_CHACHA20_POLY1305_SHA256"},
};

START_TEST(data_both_ways)
{
    ck_assert_int_eq(SSL_CTX_set_ciphersuites(plain, suites[_i / 2].name), 1);
    struct talk_pair *p = pair_joined(_i % 2, suites[_i / 2].id);
    for (size_t n = 1; n <= 16384; n = n * 2 + (n < 16 ? 1 : 0))
        exchange(p, n <= 16384 ? n : 16384);
    exchange(p, 16384);
    talk_free(p);
}
END_TEST

/* [RFC8446 4.6.3] each side updates, with and without asking the other to. */
START_TEST(key_update)
{
    ck_assert_int_eq(SSL_CTX_set_ciphersuites(plain, suites[_i / 2].name), 1);
    struct talk_pair *p = pair_joined(_i % 2, suites[_i / 2].id);
    uint8_t buf[16384];
    size_t n = 0;
    exchange(p, 10);
    for (int round = 0; round < 6; round++) {
        int ask = round % 2;
        /* ours */
        send_to_them(p, 22, ask ? "\x18\0\0\x01\x01" : "\x18\0\0\x01\x00", 5);
        ck_assert_int_eq(ops->key_update(&us(p)->res.tx), MESH_OK);
        if (ask) {
            send_to_them(p, 23, "x", 1);
            ck_assert_int_eq(SSL_read(them(p)->ssl, buf, 1), 1);
            ck_assert_int_eq(SSL_write(them(p)->ssl, "y", 1), 1);
            ck_assert_int_eq(receive(p, buf, &n), 22);
            ck_assert(n == 5 && memcmp(buf, "\x18\0\0\x01\x00", 5) == 0);
            ck_assert_int_eq(ops->key_update(&us(p)->res.rx), MESH_OK);
            ck_assert_int_eq(receive(p, buf, &n), 23);
        }
        exchange(p, 100);
        /* theirs */
        ck_assert_int_eq(SSL_key_update(them(p)->ssl, ask ? SSL_KEY_UPDATE_REQUESTED
                                                          : SSL_KEY_UPDATE_NOT_REQUESTED),
                         1);
        ck_assert_int_eq(SSL_do_handshake(them(p)->ssl), 1);
        ck_assert_int_eq(receive(p, buf, &n), 22);
        ck_assert(n == 5 && buf[0] == 24 && buf[4] == ask);
        ck_assert_int_eq(ops->key_update(&us(p)->res.rx), MESH_OK);
        if (ask) {
            send_to_them(p, 22, "\x18\0\0\x01\x00", 5);
            ck_assert_int_eq(ops->key_update(&us(p)->res.tx), MESH_OK);
        }
        exchange(p, 1000);
    }
    talk_free(p);
}
END_TEST

/* [RFC8446 5.4] what OpenSSL pads we understand. */
START_TEST(their_padding)
{
    SSL_CTX_set_block_padding(plain, 256);
    struct talk_pair *p = pair_joined(_i, 0x1301);
    exchange(p, 1);
    exchange(p, 255);
    exchange(p, 256);
    talk_free(p);
}
END_TEST

START_TEST(close_both_ways)
{
    struct talk_pair *p = pair_joined(_i, 0x1301);
    uint8_t buf[16384];
    size_t n = 0;
    exchange(p, 5);
    send_to_them(p, 21, "\x01\x00", 2);
    ck_assert_int_eq(SSL_read(them(p)->ssl, buf, 1), 0);
    ck_assert_int_eq(SSL_get_error(them(p)->ssl, 0), SSL_ERROR_ZERO_RETURN);
    SSL_shutdown(them(p)->ssl);
    ck_assert_int_eq(receive(p, buf, &n), 21);
    ck_assert(n == 2 && buf[0] == 1 && buf[1] == 0);
    talk_free(p);
}
END_TEST

/* Bytes that we damage are refused by OpenSSL as bytes that it damages are by us. */
START_TEST(damage_is_seen)
{
    struct talk_pair *p = pair_joined(_i, 0x1301);
    uint8_t rec[64];
    size_t n = ops->seal(&us(p)->res.tx, 23, (const uint8_t *)"hello", 5, rec);
    rec[n - 1] ^= 1;
    talk_put(&them(p)->in, rec, n);
    talk_ssl_feed(them(p)->ssl, &them(p)->in);
    ck_assert_int_eq(SSL_read(them(p)->ssl, rec, 5), -1);
    ERR_clear_error();
    talk_free(p);
}
END_TEST

/* The failure that we report, and the alert that went over the wire. */
static void
assert_we_fail(int we_serve, enum mesh_err err, int alert)
{
    struct talk_pair *p = pair_new(we_serve);
    talk_run(&p->client, &p->server);
    ck_assert_int_eq(us(p)->state, SHIM_HS_FAILED);
    ck_assert_int_eq(us(p)->res.err, (int)err);
    ck_assert_uint_eq(us(p)->res.alert, alert);
    ck_assert_uint_eq(ERR_peek_error(), 0);
    talk_free(p);
}

/* What our alert is to them: its number is in OpenSSL's error. */
static int
alert_at_them(struct talk_pair *p)
{
    char buf[1];
    talk_ssl_feed(them(p)->ssl, &them(p)->in);
    ERR_clear_error();
    ck_assert_int_le(SSL_read(them(p)->ssl, buf, 1), 0);
    int reason = ERR_GET_REASON(ERR_peek_error());
    ERR_clear_error();
    return reason > SSL_AD_REASON_OFFSET ? reason - SSL_AD_REASON_OFFSET : -1;
}

START_TEST(client_of_tls12)
{
    SSL_CTX_set_max_proto_version(plain, TLS1_2_VERSION);
    assert_we_fail(1, MESH_E_TLS_VERSION, 70);
}
END_TEST

/* What a newer OpenSSL would add of its own: compressed certificates [RFC8879], hybrid shares. */
START_TEST(hello_has_what_we_mean)
{
    static const uint16_t ours[] = {10, 11, 13, 22, 23, 43, 45, 51};
    struct shim_hs *hs = ops->hs_new(0, NULL);
    uint8_t out[4096];
    size_t n = 0;
    ck_assert_int_eq(ops->hs_step(hs, NULL, 0, out, sizeof(out), &n), SHIM_HS_MORE);
    struct shim_read r = {out + SHIM_REC_HEAD + 4 + 2 + 32, n - SHIM_REC_HEAD - 4 - 2 - 32, false};
    (void)shim_read_vector(&r, 1);
    (void)shim_read_vector(&r, 2);
    (void)shim_read_vector(&r, 1);
    struct shim_read list = shim_read_vector(&r, 2);
    ck_assert(!list.bad && list.left > 0 && r.left == 0);
    while (shim_read_more(&list)) {
        uint32_t type = shim_read_number(&list, 2);
        struct shim_read body = shim_read_vector(&list, 2);
        size_t i = 0;
        while (i < sizeof(ours) / sizeof(*ours) && ours[i] != type)
            i++;
        ck_assert_msg(i < sizeof(ours) / sizeof(*ours), "extension %u", type);
        ck_assert_uint_eq(type == 51 ? body.left : 38, 38); /* one share: X25519 */
    }
    ck_assert(!list.bad);
    ops->hs_free(hs);
}
END_TEST

/* A server of TLS 1.2 refuses our hello by an alert. */
START_TEST(server_of_tls12)
{
    SSL_CTX_set_max_proto_version(plain, TLS1_2_VERSION);
    assert_we_fail(0, MESH_E_PEER_ALERT, 70);
}
END_TEST

/* A server that answers with TLS 1.2 although it was not offered. */
START_TEST(server_hello_of_tls12)
{
    static const uint8_t hello[] = {22, 3, 3, 0, 42, 2, 0, 0, 38, 3, 3, 1, 2, 3, 4, 5,
                                    6,  7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0, 0xc0, 0x2b, 0};
    struct shim_hs *hs = ops->hs_new(0, NULL);
    struct shim_hs_result res;
    uint8_t out[4096];
    size_t n = 0;
    ck_assert_int_eq(ops->hs_step(hs, NULL, 0, out, sizeof(out), &n), SHIM_HS_MORE);
    ck_assert_int_eq(ops->hs_step(hs, hello, sizeof(hello), out, sizeof(out), &n),
                     SHIM_HS_FAILED);
    ck_assert_uint_eq(n, 7);
    ck_assert_uint_eq(out[6], 70);
    ops->hs_result(hs, &res);
    ck_assert_int_eq(res.err, MESH_E_TLS_VERSION);
    ck_assert_uint_eq(res.alert, 70);
    ops->hs_free(hs);
}
END_TEST

START_TEST(client_without_certificate)
{
    SSL_CTX *bare = SSL_CTX_new_ex(pki_openssl(), NULL, TLS_client_method());
    struct talk_pair *p = pair_new(1);
    SSL_free(p->client.ssl);
    p->client.ssl = SSL_new(bare);
    talk_ssl_bios(p->client.ssl);
    SSL_set_connect_state(p->client.ssl);
    talk_run(&p->client, &p->server);
    ck_assert_int_eq(p->server.res.err, MESH_E_NO_PEER_CERT);
    ck_assert_uint_eq(p->server.res.alert, 116);
    ck_assert_int_eq(alert_at_them(p), 116);
    talk_free(p);
    SSL_CTX_free(bare);
}
END_TEST

/* They do not trust us. A server learns it during the handshake. */
START_TEST(they_refuse_us)
{
    SSL_CTX_set_cert_store(plain, X509_STORE_new());
    assert_we_fail(1, MESH_E_PEER_ALERT, 48);
}
END_TEST

/* A client learns it from the first record afterwards. */
START_TEST(they_refuse_us_later)
{
    uint8_t buf[64];
    size_t n = 0;
    SSL_CTX_set_cert_store(plain, X509_STORE_new());
    struct talk_pair *p = pair_new(0);
    talk_run(&p->client, &p->server);
    ck_assert_int_eq(p->client.state, SHIM_HS_DONE);
    ck_assert_int_eq(p->server.state, SHIM_HS_FAILED);
    ck_assert_int_eq(receive(p, buf, &n), 21);
    ck_assert(n == 2 && buf[0] == 2 && buf[1] == 48);
    talk_free(p);
}
END_TEST

/* P-256 only: HelloRetryRequest when they serve. No common group: handshake_failure. */
START_TEST(groups)
{
    char p256[] = "P-256", p384[] = "P-384";
    ck_assert_int_eq(SSL_CTX_set1_groups_list(plain, p256), 1);
    struct talk_pair *p = pair_joined(_i, 0x1301);
    exchange(p, 100);
    talk_free(p);
    ck_assert_int_eq(SSL_CTX_set1_groups_list(plain, p384), 1);
    assert_we_fail(_i, _i ? MESH_E_HANDSHAKE : MESH_E_PEER_ALERT, 40);
}
END_TEST

/* We prefer AES-128, whatever the client likes best; the client's choice is the server's. */
START_TEST(preference)
{
    ck_assert_int_eq(SSL_CTX_set_ciphersuites(plain, "TLS_CHACHA20_POLY1305_SHA256:"
                                                     "TLS_AES_256_GCM_SHA384:"
                                                     "TLS_AES_128_GCM_SHA256"),
                     1);
    talk_free(pair_joined(1, 0x1301));
    talk_free(pair_joined(0, 0x1301));
    SSL_CTX_set_options(plain, SSL_OP_CIPHER_SERVER_PREFERENCE);
    talk_free(pair_joined(0, 0x1303));
}
END_TEST

/* A client that comes back with a session gets a whole handshake, and no ticket. */
START_TEST(no_resumption)
{
    struct talk_pair *p = pair_joined(1, 0x1301);
    exchange(p, 1);
    SSL_SESSION *session = SSL_get1_session(them(p)->ssl);
    ck_assert(!SSL_SESSION_is_resumable(session));
    talk_free(p);
    SSL_SESSION_free(session);
}
END_TEST

START_TEST(their_small_records)
{
    SSL_CTX_set_max_send_fragment(plain, 512);
    struct talk_pair *p = pair_joined(_i, 0x1301);
    exchange(p, 512);
    talk_free(p);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("tls interop");
    TCase *tc = tcase_create("openssl");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, data_both_ways, 0, 6);
    tcase_add_loop_test(tc, key_update, 0, 6);
    tcase_add_loop_test(tc, their_padding, 0, 2);
    tcase_add_loop_test(tc, close_both_ways, 0, 2);
    tcase_add_loop_test(tc, damage_is_seen, 0, 2);
    tcase_add_test(tc, hello_has_what_we_mean);
    tcase_add_test(tc, client_of_tls12);
    tcase_add_test(tc, server_of_tls12);
    tcase_add_test(tc, server_hello_of_tls12);
    tcase_add_test(tc, client_without_certificate);
    tcase_add_test(tc, they_refuse_us);
    tcase_add_test(tc, they_refuse_us_later);
    tcase_add_loop_test(tc, groups, 0, 2);
    tcase_add_test(tc, preference);
    tcase_add_test(tc, no_resumption);
    tcase_add_loop_test(tc, their_small_records, 0, 2);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
