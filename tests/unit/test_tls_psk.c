/* SPDX-License-Identifier: Apache-2.0
 *
 * Resumption by tickets: against ourselves and against OpenSSL's SSL object in both roles; when it must not be, and
 * that a full handshake comes instead; bytes that are wrong.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>

#include "shim/tls/hello.h"
#include "shim/tls/ticket.h"
#include "tests/unit/tls_pki.h"
#include "tests/unit/tls_talk.h"

static const struct shim_tls_ops *ops;
static struct pki_cert root, other_root, web, orders;
static struct pki_identity web_id, orders_id;
static struct shim_ticket ours, theirs; /* web's as a client, orders' as a server */
static bool has_theirs;
static unsigned looked;

static bool
find(const uint8_t id[32], struct shim_ticket *out)
{
    looked++;
    if (!has_theirs || memcmp(theirs.id, id, 32) != 0)
        return false;
    *out = theirs;
    return true;
}

static struct talk_pair *
pair_new(const struct shim_ticket *offer)
{
    struct talk_pair *p = talk_new();
    ck_assert_int_eq(ops->identity_set(&web_id.id), MESH_OK);
    p->client.hs = ops->hs_new(0, PKI_ORDERS);
    if (offer != NULL)
        ops->hs_offer(p->client.hs, offer);
    ck_assert_int_eq(ops->identity_set(&orders_id.id), MESH_OK);
    p->server.hs = ops->hs_new(1, NULL);
    return p;
}

static void
assert_keys(const struct talk_pair *p)
{
    ck_assert_int_eq(p->client.state, SHIM_HS_DONE);
    ck_assert_int_eq(p->server.state, SHIM_HS_DONE);
    ck_assert_mem_eq(&p->client.res.tx, &p->server.res.rx, sizeof(struct shim_key));
    ck_assert_mem_eq(&p->client.res.rx, &p->server.res.tx, sizeof(struct shim_key));
    ck_assert_mem_ne(&p->client.res.rx, &p->client.res.tx, sizeof(struct shim_key));
    ck_assert_str_eq(p->client.res.peer_id, PKI_ORDERS);
    ck_assert_str_eq(p->server.res.peer_id, PKI_WEB);
    ck_assert_uint_eq(ERR_peek_error(), 0);
}

static void
setup(void)
{
    ops = shim_tls_engine(NULL);
    ck_assert_ptr_nonnull(ops);
    root = pki_root("root");
    other_root = pki_root("other");
    web = pki_leaf("URI:" PKI_WEB, &root);
    orders = pki_leaf("URI:" PKI_ORDERS, &root);
    pki_identity(&web_id, &web, NULL, &root);
    pki_identity(&orders_id, &orders, NULL, &root);
    ops->tickets(find);
    struct talk_pair *p = pair_new(NULL);
    talk_run(&p->client, &p->server);
    assert_keys(p);
    ck_assert(!p->client.res.resumed && !p->server.res.resumed);
    ours = p->client.res.ticket;
    theirs = p->server.res.ticket;
    has_theirs = true;
    looked = 0;
    talk_free(p);
}

static void
teardown(void)
{
    ops->tickets(NULL);
    pki_identity_free(&orders_id);
    pki_identity_free(&web_id);
    pki_free(&orders);
    pki_free(&web);
    pki_free(&other_root);
    pki_free(&root);
}

START_TEST(both_have_the_same_key)
{
    ck_assert_mem_eq(ours.id, theirs.id, sizeof(ours.id));
    ck_assert_mem_ne(ours.sealed, theirs.sealed, sizeof(ours.sealed)); /* each under its own secret */
    ck_assert_mem_ne(ours.who, theirs.who, sizeof(ours.who));
    ck_assert_str_eq(ours.peer, PKI_ORDERS);
    ck_assert_str_eq(theirs.peer, PKI_WEB);
    int64_t now = (int64_t)time(NULL);
    ck_assert(ours.from <= now && ours.until > now && ours.until <= now + 3600);
}
END_TEST

/* With little room for output at a time, too; and as often as one likes, each time with other keys. */
START_TEST(resumes)
{
    struct shim_key last = {0};
    for (int i = 0; i < 3; i++) {
        struct talk_pair *p = pair_new(&ours);
        p->client.cap = p->server.cap = _i == 0 ? 0 : 1;
        talk_run(&p->client, &p->server);
        assert_keys(p);
        ck_assert(p->client.res.resumed && p->server.res.resumed && !p->client.res.declined);
        ck_assert_int_eq((int)(p->client.res.ticket.until | p->server.res.ticket.until), 0);
        ck_assert_mem_ne(last.secret, p->client.res.tx.secret, sizeof(last.secret));
        last = p->client.res.tx;
        talk_free(p);
    }
    ck_assert_uint_eq(looked, 3);
}
END_TEST

/* What keeps a ticket from being offered, or taken: a full handshake, and a new ticket of use. */
enum { UNKNOWN, OLD_OURS, OLD_THEIRS, EARLY, OTHER_KEY, OTHER_BUNDLE, OTHER_PEER, NOWHERE, CASES };

static void
spoil(int how)
{
    static const int64_t long_ago = 1000;
    switch (how) {
    case UNKNOWN: theirs.id[5] ^= 1; break;
    case OLD_OURS: ours.until = long_ago; break;
    case OLD_THEIRS: theirs.until = long_ago; break;
    case EARLY: theirs.from += 1000; break;
    case OTHER_KEY: /* a new certificate of the same identity */
        pki_identity_free(&orders_id);
        pki_free(&orders);
        orders = pki_leaf("URI:" PKI_ORDERS, &root);
        pki_identity(&orders_id, &orders, NULL, &root);
        break;
    case OTHER_PEER: strcpy(ours.peer, PKI_WEB); break; /* not whom we expect */
    case NOWHERE: ops->tickets(NULL); break;
    default: break;
    }
}

START_TEST(full_instead)
{
    struct pki_identity both = web_id;
    uint8_t bundle[8192];
    spoil(_i);
    if (_i == OTHER_BUNDLE) { /* one more authority: what was verified was so under another rule */
        uint8_t *end = bundle + web_id.id.bundle_len;
        memcpy(bundle, web_id.id.bundle, web_id.id.bundle_len);
        both.id.bundle = bundle;
        both.id.bundle_len += (size_t)i2d_X509(other_root.x, &end);
        web_id = both;
    }
    struct talk_pair *p = pair_new(&ours);
    talk_run(&p->client, &p->server);
    assert_keys(p);
    ck_assert(!p->client.res.resumed && !p->server.res.resumed);
    bool offered = _i != OLD_OURS && _i != OTHER_BUNDLE && _i != OTHER_PEER;
    ck_assert_int_eq(p->client.res.declined, offered);
    ours = p->client.res.ticket;
    theirs = p->server.res.ticket;
    talk_free(p);
    ops->tickets(find);
    p = pair_new(&ours);
    talk_run(&p->client, &p->server);
    assert_keys(p);
    ck_assert(p->client.res.resumed && p->server.res.resumed);
    talk_free(p);
}
END_TEST

/* The name of a key is no proof of it. */
START_TEST(without_the_key)
{
    struct talk_pair *p = NULL;
    (_i == 0 ? &ours : &theirs)->sealed[7] ^= 1;
    p = pair_new(&ours);
    talk_run(&p->client, &p->server);
    ck_assert_int_eq(p->server.state, SHIM_HS_FAILED);
    ck_assert_int_eq(p->server.res.err, MESH_E_BAD_MAC);
    ck_assert_int_eq(p->server.res.alert, 51); /* decrypt_error */
    ck_assert_int_eq(p->client.state, SHIM_HS_FAILED);
    ck_assert_int_eq(p->client.res.err, MESH_E_PEER_ALERT);
    ck_assert_int_eq(p->client.res.alert, 51);
    talk_free(p);
}
END_TEST

/* The registry's word changes while the hello is on its way. */
START_TEST(somebody_else_is_expected)
{
    struct talk_pair *p = pair_new(&ours);
    uint8_t buf[4096];
    size_t n = 0;
    ck_assert_int_eq(ops->hs_step(p->client.hs, NULL, 0, buf, sizeof(buf), &n), SHIM_HS_MORE);
    talk_put(&p->server.in, buf, n);
    ops->hs_expect(p->client.hs, PKI_WEB);
    talk_run(&p->client, &p->server);
    ck_assert_int_eq(p->client.res.err, MESH_E_IDENTITY);
    ck_assert_int_eq(p->server.res.err, MESH_E_PEER_ALERT);
    ck_assert_int_eq(p->server.res.alert, 42);
    talk_free(p);
}
END_TEST

/* ---- OpenSSL at the other end ---- */

static SSL_SESSION *
session(SSL *ssl)
{
    static const uint8_t suite[] = {0x13, 0x01};
    static uint8_t secret[32];
    struct shim_ctx *c = shim_ctx_get();
    SSL_SESSION *s = SSL_SESSION_new();
    ck_assert(shim_ticket_open(c->who[0] == ours.who[0] ? &ours : &theirs, c, secret));
    ck_assert(SSL_SESSION_set1_master_key(s, secret, 32) && SSL_SESSION_set_cipher(s, SSL_CIPHER_find(ssl, suite)) &&
              SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION));
    shim_ctx_put(c);
    return s;
}

static int
server_finds(SSL *ssl, const unsigned char *id, size_t len, SSL_SESSION **out)
{
    *out = len == 32 && memcmp(id, ours.id, 32) == 0 ? session(ssl) : NULL;
    return 1;
}

static int
client_uses(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *len, SSL_SESSION **out)
{
    (void)md;
    *id = theirs.id;
    *len = 32;
    *out = session(ssl);
    return 1;
}

/* Whoever the engine is then, data goes both ways. */
static void
assert_data(struct talk_end *us, struct talk_end *them)
{
    uint8_t rec[256], got[64] = {0}, type = 0;
    const uint8_t *in = NULL;
    size_t n = ops->seal(&us->res.tx, SHIM_REC_DATA, (const uint8_t *)"hello", 5, rec), len = 0;
    talk_put(&them->in, rec, n);
    talk_ssl_feed(them->ssl, &them->in);
    ck_assert_int_eq(SSL_read(them->ssl, got, sizeof(got)), 5);
    ck_assert_mem_eq(got, "hello", 5);
    ck_assert_int_eq(SSL_write(them->ssl, "world", 5), 5);
    talk_ssl_drain(them->ssl, &us->in);
    n = talk_record(&us->in, &in);
    ck_assert_int_eq(ops->open(&us->res.rx, in, n, got, &len, &type), MESH_OK);
    ck_assert_uint_eq(len, 5);
    ck_assert_mem_eq(got, "world", 5);
}

START_TEST(with_openssl)
{
    SSL_CTX *plain = SSL_CTX_new_ex(pki_openssl(), NULL, TLS_method());
    struct talk_pair *p = talk_new();
    char x25519[] = "X25519"; /* as every peer with a ticket; OpenSSL since 3.5 prefers X25519MLKEM768, and says so */
    struct talk_end *us = _i ? &p->server : &p->client, *them = _i ? &p->client : &p->server;
    ck_assert(SSL_CTX_set1_groups_list(plain, x25519) == 1);
    SSL_CTX_set_num_tickets(plain, 0);
    if (_i)
        SSL_CTX_set_psk_use_session_callback(plain, client_uses);
    else
        SSL_CTX_set_psk_find_session_callback(plain, server_finds);
    ck_assert_int_eq(ops->identity_set(_i ? &orders_id.id : &web_id.id), MESH_OK);
    us->hs = ops->hs_new(_i, _i ? NULL : PKI_ORDERS);
    if (!_i)
        ops->hs_offer(us->hs, &ours);
    them->ssl = SSL_new(plain);
    talk_ssl_bios(them->ssl);
    if (_i)
        SSL_set_connect_state(them->ssl);
    else
        SSL_set_accept_state(them->ssl);
    talk_run(&p->client, &p->server);
    ck_assert_int_eq(us->state, SHIM_HS_DONE);
    ck_assert_int_eq(them->state, SHIM_HS_DONE);
    ck_assert_int_eq(us->res.resumed, 1);
    ck_assert_int_eq(SSL_session_reused(them->ssl), 1);
    assert_data(us, them);
    talk_free(p);
    SSL_CTX_free(plain);
}
END_TEST

/* A server that has no use for our share asks for another hello: OpenSSL's, which offers no ticket any more. And one
 * that is not ours, and so knows no ticket. */
START_TEST(offered_to_openssl)
{
    char p256[] = "P-256";
    SSL_CTX *plain = SSL_CTX_new_ex(pki_openssl(), NULL, TLS_method());
    struct talk_pair *p = talk_new();
    ck_assert(SSL_CTX_use_certificate(plain, orders.x) == 1 && SSL_CTX_use_PrivateKey(plain, orders.key) == 1 &&
              X509_STORE_add_cert(SSL_CTX_get_cert_store(plain), root.x) == 1);
    SSL_CTX_set_verify(plain, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    ck_assert(_i == 0 || SSL_CTX_set1_groups_list(plain, p256) == 1);
    ck_assert_int_eq(ops->identity_set(&web_id.id), MESH_OK);
    p->client.hs = ops->hs_new(0, PKI_ORDERS);
    ops->hs_offer(p->client.hs, &ours);
    p->server.ssl = SSL_new(plain);
    SSL_set_num_tickets(p->server.ssl, 0);
    talk_ssl_bios(p->server.ssl);
    SSL_set_accept_state(p->server.ssl);
    talk_run(&p->client, &p->server);
    ck_assert_int_eq(p->client.state, SHIM_HS_DONE);
    ck_assert_int_eq(p->server.state, SHIM_HS_DONE);
    ck_assert(!p->client.res.resumed && p->client.res.declined);
    ck_assert_str_eq(p->client.res.peer_id, PKI_ORDERS);
    assert_data(&p->client, &p->server);
    talk_free(p);
    SSL_CTX_free(plain);
}
END_TEST

/* ---- wrong bytes ---- */

/* Resuming with one bit of what goes to `victim` flipped; *done when there is no such bit. A bit of a record's
 * version is nobody's business [RFC8446 5.1]. */
static struct talk_pair *
damage(int to_server, size_t bit, int *done, int *harmless)
{
    struct talk_pair *p = pair_new(&ours);
    size_t seen = 0;
    *done = 1;
    for (int round = 0; round < 8; round++) {
        struct talk_end *e = round % 2 ? &p->server : &p->client, *to = round % 2 ? &p->client : &p->server;
        uint8_t buf[8192];
        size_t n = 0, made = 0, len = 0;
        const uint8_t *rec = NULL;
        do {
            len = talk_record(&e->in, &rec);
            if (e->state != SHIM_HS_MORE || (len == 0 && (round > 0 || made > 0)))
                break;
            e->state = ops->hs_step(e->hs, rec, len, buf + made, sizeof(buf) - made, &n);
            made += n;
            if (e->state != SHIM_HS_MORE)
                ops->hs_result(e->hs, &e->res);
        } while (len > 0);
        int hit = (round % 2 == 0) == to_server && bit / 8 >= seen && bit / 8 < seen + made;
        for (size_t at = 0; hit && at < made; at += SHIM_REC_HEAD + (size_t)(buf[at + 3] << 8 | buf[at + 4]))
            *harmless |= bit / 8 - seen == at + 1 || bit / 8 - seen == at + 2;
        if (hit) {
            buf[bit / 8 - seen] ^= (uint8_t)(1u << bit % 8);
            *done = 0;
        }
        seen += (round % 2 == 0) == to_server ? made : 0;
        talk_put(&to->in, buf, made);
    }
    return p;
}

START_TEST(bit_flips)
{
    int done = 0, resumed = 0, failed = 0;
    for (size_t bit = (size_t)_i / 2; !done; bit += 11) {
        int harmless = 0;
        struct talk_pair *p = damage(_i % 2, bit, &done, &harmless);
        int ok = p->client.state == SHIM_HS_DONE && p->server.state == SHIM_HS_DONE;
        /* A flipped name of a key is a name that nobody knows: but then the transcripts differ. */
        ck_assert_msg(!ok || done || harmless, "bit %zu went unseen", bit);
        ck_assert_msg(ok || !done, "an undamaged handshake failed");
        ck_assert_uint_eq(ERR_peek_error(), 0);
        resumed += ok && p->client.res.resumed;
        failed += !ok;
        talk_free(p);
    }
    ck_assert(resumed >= 1 && failed > 20);
}
END_TEST

static int
add_count(SSL *ssl, unsigned type, unsigned context, const unsigned char **out, size_t *len, X509 *x, size_t i,
          int *alert, void *arg)
{
    (void)ssl, (void)type, (void)context, (void)x, (void)i, (void)alert;
    unsigned char *count = arg;
    ++*count;
    *out = count;
    *len = 1;
    return 1;
}

/* An OpenSSL that makes another hello from the same bytes could not go on after a decline: no ticket is offered. */
START_TEST(hellos_that_differ)
{
    unsigned char count = 0;
    struct talk_pair *p = talk_new();
    ck_assert_int_eq(ops->identity_set(&orders_id.id), MESH_OK);
    p->server.hs = ops->hs_new(1, NULL);
    ck_assert_int_eq(ops->identity_set(&web_id.id), MESH_OK);
    struct shim_ctx *c = shim_ctx_get();
    ck_assert_int_eq(SSL_CTX_add_custom_ext(c->ssl, 65000, SSL_EXT_CLIENT_HELLO, add_count, NULL, &count, NULL, NULL), 1);
    p->client.hs = ops->hs_new(0, PKI_ORDERS);
    ops->hs_offer(p->client.hs, &ours);
    ck_assert_int_eq(atomic_load(&c->repeats), -1);
    talk_run(&p->client, &p->server);
    assert_keys(p);
    ck_assert(!p->client.res.resumed && !p->client.res.declined);
    shim_ctx_put(c);
    talk_free(p);
}
END_TEST

/* Any hello cut short, or with a length too long, is not taken for one. */
START_TEST(hellos)
{
    struct shim_hello h;
    struct shim_tape zeros = {0};
    struct shim_hello_parts at;
    struct shim_ctx *c = shim_ctx_get();
    ck_assert(shim_hello_make(c->ssl, &zeros, &h));
    ck_assert(shim_hello_parse(h.message, h.len, &at));
    for (size_t n = 0; n < h.len; n++)
        ck_assert(!shim_hello_parse(h.message, n, &at));
    for (size_t i = 0; i < h.len; i++) {
        uint8_t was = h.message[i];
        for (unsigned v = 0; v < 256; v++) {
            h.message[i] = (uint8_t)v;
            if (shim_hello_parse(h.message, h.len, &at))
                ck_assert(at.share + 32 <= h.len && at.identity + 32 <= h.len && at.binder + 32 <= h.len &&
                          at.binders <= h.len);
        }
        h.message[i] = was;
    }
    shim_ctx_put(c);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("tls psk");
    TCase *tc = tcase_create("psk");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, both_have_the_same_key);
    tcase_add_loop_test(tc, resumes, 0, 2);
    tcase_add_loop_test(tc, full_instead, 0, CASES);
    tcase_add_loop_test(tc, without_the_key, 0, 2);
    tcase_add_test(tc, somebody_else_is_expected);
    tcase_add_loop_test(tc, with_openssl, 0, 2);
    tcase_add_loop_test(tc, offered_to_openssl, 0, 2);
    tcase_add_loop_test(tc, bit_flips, 0, 22);
    tcase_add_test(tc, hellos);
    tcase_add_test(tc, hellos_that_differ);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
