/* SPDX-License-Identifier: Apache-2.0
 *
 * The X.509-SVID rules: each way in which a peer's certificate is wrong gives the right error
 * here and the right alert there, in both roles. And the syntax of SPIFFE IDs.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "shim/tls/seen.h"
#include "shim/tls/spiffe.h"
#include "tests/unit/tls_pki.h"
#include "tests/unit/tls_talk.h"

#define ORDERS "URI:" PKI_ORDERS
#define CA_NO  "critical,CA:FALSE"
#define SIGN   "critical,digitalSignature"
#define BOTH   "serverAuth,clientAuth"

enum { OK = MESH_OK, BAD = MESH_E_CERT_BAD_SVID, EXP = MESH_E_CERT_EXPIRED,
       UNTR = MESH_E_CERT_UNTRUSTED, DOM = MESH_E_TRUST_DOMAIN };
enum { BAD_CERT = 42, CERT_EXPIRED = 45, UNKNOWN_CA = 48 };

static const struct shim_tls_ops *ops;
static struct pki_cert root, other_root, web;
static struct pki_identity web_id;

static void
setup(void)
{
    ops = shim_tls_engine(NULL);
    ck_assert_ptr_nonnull(ops);
    root = pki_root("root");
    other_root = pki_root("root"); /* the same name, another key */
    web = pki_leaf("URI:" PKI_WEB, &root);
    pki_identity(&web_id, &web, NULL, &root);
}

static void
teardown(void)
{
    pki_identity_free(&web_id);
    pki_free(&web);
    pki_free(&other_root);
    pki_free(&root);
}

/* web talks to the peer with that identity; in which role is the peer's choice. */
static struct talk_pair *
talk_with(const struct pki_identity *peer, int peer_is_server)
{
    struct talk_pair *p = talk_new();
    struct talk_end *us = peer_is_server ? &p->client : &p->server;
    struct talk_end *them = peer_is_server ? &p->server : &p->client;
    ck_assert_int_eq(ops->identity_set(&web_id.id), MESH_OK);
    us->hs = ops->hs_new(!peer_is_server, NULL);
    ck_assert_int_eq(ops->identity_set(&peer->id), MESH_OK);
    them->hs = ops->hs_new(peer_is_server, NULL);
    ck_assert(us->hs != NULL && them->hs != NULL);
    talk_run(&p->client, &p->server);
    return p;
}

/* The alert that reaches the peer; a client hears it after its own end is done. */
static int
alert_heard(struct talk_end *them)
{
    const uint8_t *rec = NULL;
    uint8_t buf[64], type = 0;
    size_t n = talk_record(&them->in, &rec), len = 0;
    if (them->state == SHIM_HS_FAILED)
        return them->res.err == MESH_E_PEER_ALERT ? them->res.alert : -1;
    if (n == 0 || n > sizeof(buf) + SHIM_REC_OVERHEAD)
        return -1;
    if (ops->open(&them->res.rx, rec, n, buf, &len, &type) != MESH_OK || type != 21 || len != 2)
        return -1;
    return buf[0] == 2 ? buf[1] : -1;
}

static void
assert_outcome(const struct pki_identity *peer, int peer_is_server, int err, int alert)
{
    struct talk_pair *p = talk_with(peer, peer_is_server);
    struct talk_end *us = peer_is_server ? &p->client : &p->server;
    struct talk_end *them = peer_is_server ? &p->server : &p->client;
    ck_assert_int_eq((int)us->res.err, err);
    ck_assert_int_eq(us->state, err == OK ? SHIM_HS_DONE : SHIM_HS_FAILED);
    ck_assert_uint_eq(us->res.alert, alert);
    if (err != OK)
        ck_assert_int_eq(alert_heard(them), alert);
    ck_assert_uint_eq(ERR_peek_error(), 0);
    talk_free(p);
}

/* What is said of the leaf; issued by the root, valid for an hour, P-256, if no more is said. */
#define SPEC(san, basic, usage, ext) {"x", san, basic, usage, ext, NULL, 0, 0, NULL}
static const struct {
    const char *what;
    int err, alert;
    struct pki_spec spec;
} leaves[] = {
    {"good", OK, 0, SPEC(ORDERS, CA_NO, SIGN, BOTH)},
    {"no extended usage", OK, 0, SPEC(ORDERS, CA_NO, SIGN, NULL)},
    {"no basic constraints", OK, 0, SPEC(ORDERS, NULL, SIGN, BOTH)},
    {"no subject", OK, 0, {NULL, "critical," ORDERS, CA_NO, SIGN, BOTH, NULL, 0, 0, NULL}},
    {"other names beside", OK, 0, SPEC("DNS:orders," ORDERS ",IP:10.0.0.1", CA_NO, SIGN, BOTH)},
    {"P-384", OK, 0, {"x", ORDERS, CA_NO, SIGN, BOTH, NULL, 0, 0, "P-384"}},
    {"RSA", OK, 0, {"x", ORDERS, CA_NO, SIGN, BOTH, NULL, 0, 0, "rsa2048"}},
    {"Ed25519", OK, 0, {"x", ORDERS, CA_NO, SIGN, BOTH, NULL, 0, 0, "ed25519"}},
    {"expired", EXP, CERT_EXPIRED, {"x", ORDERS, CA_NO, SIGN, BOTH, NULL, -100, -10, NULL}},
    {"not yet valid", EXP, CERT_EXPIRED, {"x", ORDERS, CA_NO, SIGN, BOTH, NULL, 100, 1000, NULL}},
    {"a CA", BAD, BAD_CERT, SPEC(ORDERS, "critical,CA:TRUE", SIGN, BOTH)},
    {"no SAN", BAD, BAD_CERT, SPEC(NULL, CA_NO, SIGN, BOTH)},
    {"no URI", BAD, BAD_CERT, SPEC("DNS:orders", CA_NO, SIGN, BOTH)},
    {"two URIs", BAD, BAD_CERT, SPEC(ORDERS "," ORDERS "2", CA_NO, SIGN, BOTH)},
    {"URI and other URI", BAD, BAD_CERT, SPEC(ORDERS ",URI:http://x/y", CA_NO, SIGN, BOTH)},
    {"wrong scheme", BAD, BAD_CERT, SPEC("URI:https://mesh.local/ns/a", CA_NO, SIGN, BOTH)},
    {"no path", BAD, BAD_CERT, SPEC("URI:spiffe://mesh.local", CA_NO, SIGN, BOTH)},
    {"trailing slash", BAD, BAD_CERT, SPEC(ORDERS "/", CA_NO, SIGN, BOTH)},
    {"no key usage", BAD, BAD_CERT, SPEC(ORDERS, CA_NO, NULL, BOTH)},
    {"usage not critical", BAD, BAD_CERT, SPEC(ORDERS, CA_NO, "digitalSignature", BOTH)},
    {"no signature", BAD, BAD_CERT, SPEC(ORDERS, CA_NO, "critical,keyAgreement", BOTH)},
    {"signs certificates", BAD, BAD_CERT, SPEC(ORDERS, CA_NO, SIGN ",keyCertSign", BOTH)},
    {"signs CRLs", BAD, BAD_CERT, SPEC(ORDERS, CA_NO, SIGN ",cRLSign", BOTH)},
    {"for something else", BAD, BAD_CERT, SPEC(ORDERS, CA_NO, SIGN, "codeSigning")},
    {"other trust domain", DOM, UNKNOWN_CA,
     SPEC("URI:spiffe://mesh.locals/ns/default/sa/orders", CA_NO, SIGN, BOTH)},
    {"shorter trust domain", DOM, UNKNOWN_CA,
     SPEC("URI:spiffe://mesh.loca/ns/default/sa/orders", CA_NO, SIGN, BOTH)},
};
#define LEAVES ((int)(sizeof(leaves) / sizeof(leaves[0])))

static void
leaf_try(int i, const struct pki_cert *issuer, int peer_is_server, int err, int alert)
{
    struct pki_identity id;
    struct pki_cert leaf = pki_new(&leaves[i].spec, issuer);
    pki_identity(&id, &leaf, NULL, &root);
    assert_outcome(&id, peer_is_server, err, alert);
    pki_identity_free(&id);
    pki_free(&leaf);
}

START_TEST(leaf_rules)
{
    int i = _i / 2;
    ck_assert_msg(leaves[i].what != NULL, "a row");
    leaf_try(i, &root, _i % 2, leaves[i].err, leaves[i].alert);
}
END_TEST

/* The extended usage, if there is one, must allow the peer's role. */
START_TEST(purpose)
{
    struct pki_spec s = leaves[0].spec;
    struct pki_identity id;
    s.extended = _i / 2 ? "serverAuth" : "clientAuth";
    struct pki_cert leaf = pki_new(&s, &root);
    pki_identity(&id, &leaf, NULL, &root);
    int good = _i / 2 == _i % 2;
    assert_outcome(&id, _i % 2, good ? OK : BAD, good ? 0 : BAD_CERT);
    pki_identity_free(&id);
    pki_free(&leaf);
}
END_TEST

/* Signed by a CA of the same name whose key is another, or by itself. */
START_TEST(untrusted)
{
    leaf_try(0, _i / 2 ? &other_root : NULL, _i % 2, UNTR, UNKNOWN_CA);
}
END_TEST

/* The names and key identifiers are right: only the signature tells. */
START_TEST(untrusted_signature)
{
    struct pki_cert leaf = pki_leaf(ORDERS, &root);
    struct pki_identity id;
    pki_identity(&id, &leaf, NULL, &root);
    id.chain[id.id.chain_len - 3] ^= 1; /* inside the signature */
    struct talk_pair *p = NULL;
    if (ops->identity_set(&id.id) == MESH_OK) {
        p = talk_with(&id, _i);
        struct talk_end *us = _i ? &p->client : &p->server;
        ck_assert_int_eq((int)us->res.err, UNTR);
        ck_assert_uint_eq(us->res.alert, UNKNOWN_CA);
        talk_free(p);
    }
    pki_identity_free(&id);
    pki_free(&leaf);
}
END_TEST

static struct pki_cert
mid_new(const char *basic, const char *usage, const char *constraints, long until_s)
{
    const struct pki_spec s = {.name = "issuing",
                               .basic = basic,
                               .usage = usage,
                               .constraints = constraints,
                               .from_s = -1000,
                               .until_s = until_s};
    return pki_new(&s, &root);
}

static const struct {
    const char *basic, *usage, *constraints;
    long until_s;
    int sent, err, alert;
} mids[] = {
    {"critical,CA:TRUE,pathlen:0", "critical,keyCertSign", NULL, 1000, 1, OK, 0},
    {"critical,CA:TRUE", "critical,keyCertSign", "critical,permitted;URI:mesh.local", 1000, 1, OK,
     0},
    {"critical,CA:TRUE", "critical,keyCertSign", NULL, 1000, 0, UNTR, UNKNOWN_CA},
    {"critical,CA:TRUE", "critical,keyCertSign", NULL, -1, 1, EXP, CERT_EXPIRED},
    {CA_NO, SIGN, NULL, 1000, 1, UNTR, UNKNOWN_CA},
    {"critical,CA:TRUE", "critical,cRLSign", NULL, 1000, 1, UNTR, UNKNOWN_CA},
    {"critical,CA:TRUE", "critical,keyCertSign", "critical,permitted;URI:other.local", 1000, 1,
     UNTR, UNKNOWN_CA},
};

START_TEST(intermediate)
{
    int i = _i / 2;
    struct pki_cert mid = mid_new(mids[i].basic, mids[i].usage, mids[i].constraints,
                                  mids[i].until_s);
    struct pki_cert leaf = pki_leaf(ORDERS, &mid);
    struct pki_identity id;
    pki_identity(&id, &leaf, mids[i].sent ? &mid : NULL, &root);
    assert_outcome(&id, _i % 2, mids[i].err, mids[i].alert);
    pki_identity_free(&id);
    pki_free(&leaf);
    pki_free(&mid);
}
END_TEST

/* A bundle may hold an issuing CA without its root. */
START_TEST(bundle_of_issuing_ca)
{
    struct pki_cert mid = mid_new("critical,CA:TRUE", "critical,keyCertSign", NULL, 1000);
    struct pki_cert leaf = pki_leaf(ORDERS, &mid);
    struct pki_identity id, ours = web_id;
    pki_identity(&id, &leaf, NULL, &root);
    pki_identity(&web_id, &web, NULL, &mid);
    assert_outcome(&id, _i, OK, 0);
    pki_identity_free(&web_id);
    web_id = ours;
    pki_identity_free(&id);
    pki_free(&leaf);
    pki_free(&mid);
}
END_TEST

START_TEST(empty_bundle_trusts_nobody)
{
    struct pki_cert leaf = pki_leaf(ORDERS, &root);
    struct pki_identity id, ours = web_id;
    pki_identity(&id, &leaf, NULL, &root);
    pki_identity(&web_id, &web, NULL, NULL);
    assert_outcome(&id, _i, UNTR, UNKNOWN_CA);
    pki_identity_free(&web_id);
    web_id = ours;
    pki_identity_free(&id);
    pki_free(&leaf);
}
END_TEST

/* A leaf in the peer's place that expires while we remember it, and a bundle that changes. */
START_TEST(memory_of_peers)
{
    struct shim_seen *s = calloc(1, sizeof(*s));
    uint8_t a[SHIM_SEEN_HASH] = {1}, b[SHIM_SEEN_HASH] = {1, 2};
    int64_t until = 0;
    shim_seen_add(s, a, 1, 100, 200);
    ck_assert(shim_seen_has(s, a, 1, 100, &until) && shim_seen_has(s, a, 1, 200, &until));
    ck_assert_int_eq(until, 200);
    ck_assert(!shim_seen_has(s, a, 1, 99, &until) && !shim_seen_has(s, a, 1, 201, &until));
    ck_assert(!shim_seen_has(s, a, 0, 150, &until) && !shim_seen_has(s, b, 1, 150, &until));
    shim_seen_add(s, b, 1, 100, 200);
    ck_assert(shim_seen_has(s, b, 1, 150, &until) && !shim_seen_has(s, a, 1, 150, &until));
    free(s);
}
END_TEST

START_TEST(remembered_peer_passes_again)
{
    struct pki_cert leaf = pki_leaf(ORDERS, &root);
    struct pki_identity id;
    pki_identity(&id, &leaf, NULL, &root);
    ck_assert_int_eq(ops->identity_set(&id.id), MESH_OK);
    for (int i = 0; i < 4; i++) {
        struct talk_pair *p = talk_new();
        p->client.hs = ops->hs_new(0, i < 3 ? PKI_ORDERS : PKI_WEB);
        p->server.hs = ops->hs_new(1, NULL);
        talk_run(&p->client, &p->server);
        ck_assert_int_eq(p->client.res.err, i < 3 ? MESH_OK : MESH_E_IDENTITY);
        ck_assert_str_eq(p->client.res.peer_id, PKI_ORDERS);
        talk_free(p);
    }
    pki_identity_free(&id);
    pki_free(&leaf);
}
END_TEST

/* An ID of the allowed length that the result has no room for, and one that is too long. */
START_TEST(long_ids)
{
    char san[2400] = "URI:spiffe://mesh.local/";
    size_t n = strlen(san), id_len = _i == 0 ? 255 : _i == 1 ? 256 : _i == 2 ? 2048 : 2049;
    memset(san + n, 'a', id_len + 4 - n);
    struct pki_cert leaf = pki_leaf(san, &root);
    struct pki_identity id;
    pki_identity(&id, &leaf, NULL, &root);
    struct talk_pair *p = talk_with(&id, 1);
    ck_assert_int_eq((int)p->client.res.err, _i == 3 ? BAD : OK);
    if (_i < 3) {
        ck_assert_uint_eq(strlen(p->client.res.peer_id), 255);
        ck_assert_mem_eq(p->client.res.peer_id, san + 4, 254);
        ck_assert_int_eq(p->client.res.peer_id[254], _i == 0 ? 'a' : '*');
    }
    talk_free(p);
    pki_identity_free(&id);
    pki_free(&leaf);
}
END_TEST

static const struct {
    const char *id;
    size_t td_len; /* 0: refused */
} ids[] = {
    {"spiffe://mesh.local/a", 10},
    {"spiffe://mesh.local/a/b/C.d-e_9", 10},
    {"spiffe://a/...", 1},
    {"spiffe://a/.a", 1},
    {"spiffe://a_b-c.d9/x", 8},
    {"spiffe://", 0},
    {"spiffe:///a", 0},
    {"spiffe://a", 0},
    {"spiffe://a/", 0},
    {"spiffe://a//b", 0},
    {"spiffe://a/b/", 0},
    {"spiffe://a/.", 0},
    {"spiffe://a/b/../c", 0},
    {"spiffe://a/./c", 0},
    {"spiffe://A/b", 0},
    {"SPIFFE://a/b", 0},
    {"Spiffe://a/b", 0},
    {"spiffe://a:80/b", 0},
    {"spiffe://u@a/b", 0},
    {"spiffe://a%20/b", 0},
    {"spiffe://a/%41", 0},
    {"spiffe://a/b?c", 0},
    {"spiffe://a/b#c", 0},
    {"spiffe://a/b c", 0},
    {"spiffe://a/\xc3\xa4", 0},
    {"spiffe:/a/b", 0},
    {"http://a/b", 0},
    {"", 0},
};

START_TEST(id_syntax)
{
    struct shim_spiffe s = {0};
    size_t n = strlen(ids[_i].id);
    char *copy = malloc(n + 1); /* exactly n bytes and no NUL to run into */
    memcpy(copy, ids[_i].id, n);
    char *exact = realloc(copy, n > 0 ? n : 1);
    ck_assert_int_eq(shim_spiffe_parse(exact, n, &s), ids[_i].td_len != 0);
    ck_assert_uint_eq(s.td_len, ids[_i].td_len);
    free(exact);
}
END_TEST

START_TEST(id_with_nul)
{
    struct shim_spiffe s = {0};
    ck_assert(!shim_spiffe_parse("spiffe://a/b\0c", 14, &s));
    ck_assert(!shim_spiffe_parse("spiffe://a\0/b", 13, &s));
    ck_assert(!shim_spiffe_parse("spiffe://a/b\0", 13, &s));
}
END_TEST

START_TEST(td_length)
{
    char td[300];
    memset(td, 'a', sizeof(td));
    ck_assert(shim_spiffe_is_td(td, 255));
    ck_assert(!shim_spiffe_is_td(td, 256));
    ck_assert(!shim_spiffe_is_td(td, 0));
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("tls verify");
    TCase *tc = tcase_create("svid"), *syntax = tcase_create("syntax");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, leaf_rules, 0, 2 * LEAVES);
    tcase_add_loop_test(tc, purpose, 0, 4);
    tcase_add_loop_test(tc, untrusted, 0, 4);
    tcase_add_loop_test(tc, untrusted_signature, 0, 2);
    tcase_add_loop_test(tc, intermediate, 0, 2 * (int)(sizeof(mids) / sizeof(mids[0])));
    tcase_add_loop_test(tc, bundle_of_issuing_ca, 0, 2);
    tcase_add_loop_test(tc, empty_bundle_trusts_nobody, 0, 2);
    tcase_add_test(tc, memory_of_peers);
    tcase_add_test(tc, remembered_peer_passes_again);
    tcase_add_loop_test(tc, long_ids, 0, 4);
    tcase_add_loop_test(syntax, id_syntax, 0, (int)(sizeof(ids) / sizeof(ids[0])));
    tcase_add_test(syntax, id_with_nul);
    tcase_add_test(syntax, td_length);
    suite_add_tcase(s, tc);
    suite_add_tcase(s, syntax);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
