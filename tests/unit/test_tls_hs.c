/* SPDX-License-Identifier: Apache-2.0
 *
 * Handshakes of the engine with itself: both roles, keys that fit, identities that change, output
 * in small pieces, and every way in which a handshake fails that is not the certificate's fault.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "tests/unit/tls_pki.h"
#include "tests/unit/tls_talk.h"

static const struct shim_tls_ops *ops;
static struct pki_cert root, web, orders;
static struct pki_identity web_id, orders_id;

static void
setup(void)
{
    ops = shim_tls_engine(NULL);
    ck_assert_ptr_nonnull(ops);
    root = pki_root("root");
    web = pki_leaf("URI:" PKI_WEB, &root);
    orders = pki_leaf("URI:" PKI_ORDERS, &root);
    pki_identity(&web_id, &web, NULL, &root);
    pki_identity(&orders_id, &orders, NULL, &root);
    ck_assert_int_eq(ops->identity_set(&web_id.id), MESH_OK);
}

static void
teardown(void)
{
    pki_identity_free(&web_id);
    pki_identity_free(&orders_id);
    pki_free(&web);
    pki_free(&orders);
    pki_free(&root);
}

/* The client is web and the server orders. */
static struct talk_pair *
pair_new(const char *expect)
{
    struct talk_pair *p = talk_new();
    ck_assert_int_eq(ops->identity_set(&web_id.id), MESH_OK);
    p->client.hs = ops->hs_new(0, expect);
    ck_assert_int_eq(ops->identity_set(&orders_id.id), MESH_OK);
    p->server.hs = ops->hs_new(1, NULL);
    ck_assert(p->client.hs != NULL && p->server.hs != NULL);
    return p;
}

static void
assert_same_key(const struct shim_key *a, const struct shim_key *b)
{
    ck_assert_mem_eq(a, b, sizeof(*a));
    ck_assert_uint_eq(a->suite, 0x1301);
    ck_assert_uint_eq(a->secret_len, 32);
    ck_assert_uint_eq(a->key_len, 16);
    ck_assert_uint_eq(a->seq, 0);
    ck_assert_uint_eq(a->generation, 0);
}

static void
assert_pair_done(const struct talk_pair *p)
{
    ck_assert_int_eq(p->client.state, SHIM_HS_DONE);
    ck_assert_int_eq(p->server.state, SHIM_HS_DONE);
    ck_assert_int_eq(p->client.res.err, MESH_OK);
    ck_assert_int_eq(p->server.res.err, MESH_OK);
    ck_assert_uint_eq(p->client.res.alert, 0);
    ck_assert_str_eq(p->client.res.peer_id, PKI_ORDERS);
    ck_assert_str_eq(p->server.res.peer_id, PKI_WEB);
    assert_same_key(&p->client.res.tx, &p->server.res.rx);
    assert_same_key(&p->client.res.rx, &p->server.res.tx);
    ck_assert_mem_ne(p->client.res.tx.key, p->client.res.rx.key, 16);
    /* Nothing after the last flight: no tickets, and the record layer starts at 0. */
    ck_assert_uint_eq(p->client.in.at, p->client.in.len);
    ck_assert_uint_eq(p->server.in.at, p->server.in.len);
    ck_assert_uint_eq(ERR_peek_error(), 0);
}

START_TEST(both_roles)
{
    struct talk_pair *p = pair_new(_i ? PKI_ORDERS : NULL);
    talk_run(&p->client, &p->server);
    assert_pair_done(p);
    talk_free(p);
}
END_TEST

/* [DESIGN D1] output comes in pieces of any size, and DONE only with the last of them. */
START_TEST(small_output)
{
    static const size_t caps[] = {1, 2, 3, 7, 64, 100, 517, 1000};
    struct talk_pair *p = pair_new(PKI_ORDERS);
    p->client.cap = p->server.cap = caps[_i];
    talk_run(&p->client, &p->server);
    assert_pair_done(p);
    talk_free(p);
}
END_TEST

START_TEST(identity_changes_under_way)
{
    struct talk_pair *p = pair_new(PKI_ORDERS);
    const uint8_t *rec = NULL;
    uint8_t buf[4096];
    size_t n = 0;
    ck_assert_int_eq(ops->hs_step(p->client.hs, NULL, 0, buf, sizeof(buf), &n), SHIM_HS_MORE);
    talk_put(&p->server.in, buf, n);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(ops->identity_set(&web_id.id), MESH_OK);
    n = talk_record(&p->server.in, &rec);
    ck_assert_uint_ne(n, 0);
    p->server.in.at = 0;
    talk_run(&p->client, &p->server);
    assert_pair_done(p);
    talk_free(p);
}
END_TEST

START_TEST(another_server_than_expected)
{
    struct talk_pair *p = pair_new(PKI_ORDERS "x");
    talk_run(&p->client, &p->server);
    ck_assert_int_eq(p->client.state, SHIM_HS_FAILED);
    ck_assert_int_eq(p->client.res.err, MESH_E_IDENTITY);
    ck_assert_uint_eq(p->client.res.alert, 42);
    ck_assert_str_eq(p->client.res.peer_id, PKI_ORDERS);
    ck_assert_int_eq(p->server.res.err, MESH_E_PEER_ALERT);
    ck_assert_uint_eq(p->server.res.alert, 42);
    talk_free(p);
}
END_TEST

START_TEST(failure_leaves_no_key)
{
    static const struct shim_key none;
    struct talk_pair *p = pair_new(PKI_WEB);
    talk_run(&p->client, &p->server);
    ck_assert_int_eq(p->client.state, SHIM_HS_FAILED);
    ck_assert_mem_eq(&p->client.res.tx, &none, sizeof(none));
    ck_assert_mem_eq(&p->client.res.rx, &none, sizeof(none));
    ck_assert_uint_eq(ERR_peek_error(), 0);
    talk_free(p);
}
END_TEST

static const struct {
    const char *bytes;
    size_t n;
} garbage[] = {
    {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27},
    {"CONNECT x:1 HTTP/1.1\r\n\r\n", 25},
    {"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10", 11}, /* SSLv2's hello */
    {"\0\0\0\0\0\0\0\0", 8},
    {"\x17\x03\x03\x00\x01\x00", 6},
    {"\x16\x02\x00\x00\x01\x00", 6},
    {"\x16\x05", 2},
    {"Q", 1},
    {"SSH-2.0-OpenSSH\r\n", 17},
};

START_TEST(not_tls)
{
    for (int server = 0; server < 2; server++) {
        struct shim_hs *hs = ops->hs_new(server, NULL);
        struct shim_hs_result res;
        uint8_t out[4096];
        size_t n = 0;
        if (!server)
            ck_assert_int_eq(ops->hs_step(hs, NULL, 0, out, sizeof(out), &n), SHIM_HS_MORE);
        ck_assert_int_eq(ops->hs_step(hs, (const uint8_t *)garbage[_i].bytes, garbage[_i].n, out,
                                      sizeof(out), &n),
                         SHIM_HS_FAILED);
        ck_assert_uint_eq(n, 0);
        ops->hs_result(hs, &res);
        ck_assert_int_eq(res.err, MESH_E_NOT_TLS);
        ck_assert_uint_eq(res.alert, 0);
        ck_assert_uint_eq(ERR_peek_error(), 0);
        ops->hs_free(hs);
    }
}
END_TEST

/* A plain alert as the first thing that a client hears: a server of TLS 1.2 says so. */
START_TEST(alert_first)
{
    static const uint8_t alert[] = {21, 3, 3, 0, 2, 2, 70};
    struct shim_hs *hs = ops->hs_new(0, NULL);
    struct shim_hs_result res;
    uint8_t out[4096];
    size_t n = 0;
    ck_assert_int_eq(ops->hs_step(hs, NULL, 0, out, sizeof(out), &n), SHIM_HS_MORE);
    ck_assert_int_eq(ops->hs_step(hs, alert, sizeof(alert), out, sizeof(out), &n),
                     SHIM_HS_FAILED);
    ops->hs_result(hs, &res);
    ck_assert_int_eq(res.err, MESH_E_PEER_ALERT);
    ck_assert_uint_eq(res.alert, 70);
    ops->hs_free(hs);
}
END_TEST

/* Bytes of the next layer in the same step would be lost; that is refused, not ignored. */
START_TEST(bytes_beyond_the_end)
{
    struct talk_pair *p = pair_new(NULL);
    const uint8_t *rec = NULL;
    uint8_t buf[8192], last[8192];
    size_t n = 0, len = 0;
    enum shim_hs_state st = ops->hs_step(p->client.hs, NULL, 0, buf, sizeof(buf), &n);
    ck_assert_int_eq(st, SHIM_HS_MORE);
    ck_assert_int_eq(ops->hs_step(p->server.hs, buf, n, buf, sizeof(buf), &n), SHIM_HS_MORE);
    talk_put(&p->client.in, buf, n);
    while (st == SHIM_HS_MORE && (n = talk_record(&p->client.in, &rec)) > 0) {
        st = ops->hs_step(p->client.hs, rec, n, buf, sizeof(buf), &n);
        memcpy(last + len, buf, n);
        len += n;
    }
    ck_assert_int_eq(st, SHIM_HS_DONE);
    memset(last + len, 23, 6);
    ck_assert_int_eq(ops->hs_step(p->server.hs, last, len + 6, buf, sizeof(buf), &n),
                     SHIM_HS_FAILED);
    ops->hs_result(p->server.hs, &p->server.res);
    ck_assert_int_eq(p->server.res.err, MESH_E_HANDSHAKE);
    talk_free(p);
}
END_TEST

/* True when the byte is part of a record's version, which nobody looks at [RFC8446 5.1]. */
static int
is_version(const uint8_t *p, size_t n, size_t byte)
{
    for (size_t at = 0; at + SHIM_REC_HEAD <= n; at += SHIM_REC_HEAD + (p[at + 3] << 8 | p[at + 4]))
        if (byte == at + 1 || byte == at + 2)
            return 1;
    return 0;
}

/* A handshake with one bit of what goes to one end flipped; *done when there is no such bit. */
static struct talk_pair *
damage(struct talk_end *(*from)(struct talk_pair *), size_t bit, int *done, int *harmless)
{
    struct talk_pair *p = pair_new(NULL);
    struct talk_end *victim = from(p), *other = victim == &p->client ? &p->server : &p->client;
    size_t seen = 0;
    *done = 1;
    for (int round = 0; round < 8; round++) {
        struct talk_end *e = round % 2 == 0 ? &p->client : &p->server;
        struct talk_end *to = e == &p->client ? &p->server : &p->client;
        uint8_t buf[8192];
        size_t n = 0, len = e->in.len;
        if (e->state != SHIM_HS_MORE)
            continue;
        e->state = ops->hs_step(e->hs, e->in.bytes, len, buf, sizeof(buf), &n);
        e->in.len = 0;
        if (e->state != SHIM_HS_MORE)
            ops->hs_result(e->hs, &e->res);
        if (e == other && bit / 8 >= seen && bit / 8 < seen + n) {
            *harmless = is_version(buf, n, bit / 8 - seen);
            buf[bit / 8 - seen] ^= (uint8_t)(1u << bit % 8);
            *done = 0;
        }
        seen += e == other ? n : 0;
        talk_put(&to->in, buf, n);
    }
    return p;
}

static struct talk_end *
the_server(struct talk_pair *p)
{
    return &p->server;
}

static struct talk_end *
the_client(struct talk_pair *p)
{
    return &p->client;
}

/* Any bit of the handshake flipped: at least one end fails. */
START_TEST(bit_flips)
{
    int done = 0;
    for (size_t bit = (size_t)_i; !done; bit += 83) {
        int harmless = 0;
        struct talk_pair *p = damage(_i % 2 ? the_server : the_client, bit, &done, &harmless);
        int ok = p->client.state == SHIM_HS_DONE && p->server.state == SHIM_HS_DONE;
        ck_assert_msg(!ok || done || harmless, "bit %zu went unseen", bit);
        ck_assert_msg(ok || !done, "an undamaged handshake failed");
        ck_assert_uint_eq(ERR_peek_error(), 0);
        talk_free(p);
    }
}
END_TEST

START_TEST(no_identity)
{
    struct shim_identity id = web_id.id;
    id.chain_len -= 1;
    ck_assert_int_eq(ops->identity_set(&id), MESH_E_NO_IDENTITY);
    id = web_id.id;
    id.key_len -= 1;
    ck_assert_int_eq(ops->identity_set(&id), MESH_E_NO_IDENTITY);
    id = web_id.id;
    id.bundle_len -= 1;
    ck_assert_int_eq(ops->identity_set(&id), MESH_E_NO_IDENTITY);
    id = web_id.id;
    id.key = orders_id.id.key;
    id.key_len = orders_id.id.key_len;
    ck_assert_int_eq(ops->identity_set(&id), MESH_E_NO_IDENTITY);
    id = web_id.id;
    id.bundle = id.chain; /* a leaf is no root */
    id.bundle_len = id.chain_len;
    ck_assert_int_eq(ops->identity_set(&id), MESH_E_NO_IDENTITY);
    id = web_id.id;
    id.trust_domain = "Mesh";
    ck_assert_int_eq(ops->identity_set(&id), MESH_E_NO_IDENTITY);
    id.trust_domain = NULL;
    ck_assert_int_eq(ops->identity_set(&id), MESH_E_NO_IDENTITY);
    ck_assert_int_eq(ops->identity_set(NULL), MESH_E_NO_IDENTITY);
    ck_assert_uint_eq(ERR_peek_error(), 0);
}
END_TEST

START_TEST(chain_truncations)
{
    struct shim_identity id = web_id.id;
    for (size_t n = 0; n < web_id.id.chain_len; n++) {
        uint8_t *p = malloc(n + 1);
        memcpy(p, web_id.chain, n);
        id.chain = p;
        id.chain_len = n;
        ck_assert_int_eq(ops->identity_set(&id), MESH_E_NO_IDENTITY);
        free(p);
    }
}
END_TEST

START_TEST(no_identity_yet)
{
    /* A process of its own (the test runner forks), before the fixture's identity. */
    ops = shim_tls_engine(NULL);
    ck_assert_ptr_nonnull(ops);
    ck_assert_ptr_null(ops->hs_new(0, NULL));
    ck_assert_ptr_null(ops->hs_new(1, NULL));
    ops->hs_free(NULL);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("tls handshake");
    TCase *tc = tcase_create("self-talk"), *bare = tcase_create("bare");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, both_roles, 0, 2);
    tcase_add_loop_test(tc, small_output, 0, 8);
    tcase_add_test(tc, identity_changes_under_way);
    tcase_add_loop_test(tc, another_server_than_expected, 0, 3);
    tcase_add_test(tc, failure_leaves_no_key);
    tcase_add_loop_test(tc, not_tls, 0, (int)(sizeof(garbage) / sizeof(garbage[0])));
    tcase_add_test(tc, alert_first);
    tcase_add_test(tc, bytes_beyond_the_end);
    tcase_add_loop_test(tc, bit_flips, 0, 8);
    tcase_add_test(tc, no_identity);
    tcase_add_test(tc, chain_truncations);
    tcase_add_test(bare, no_identity_yet);
    suite_add_tcase(s, tc);
    suite_add_tcase(s, bare);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
