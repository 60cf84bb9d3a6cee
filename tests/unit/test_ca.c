/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_ca: the rules of X509-SVID one by one, validity, files and their damage, and the same
 * verdict from `openssl verify`.
 */
#include "meshd/ident/ca.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <time.h>

#include "meshd/base/log.h"
#include "meshd/ident/cert.h"
#include "tests/unit/unit.h"

#define ID "spiffe://mesh.local/ns/default/sa/web"

static const char *dir;
static char state[512];

static void
setup(void)
{
    meshd_log_set(MESHD_LOG_ERROR);
    dir = unit_mkdir();
    snprintf(state, sizeof(state), "%s/state", dir);
    ck_assert_int_eq(meshd_ca_init(state, "mesh.local"), MESH_OK);
}

static void
teardown(void)
{
    meshd_ca_fini();
    unit_rmdir(dir);
}

static const char *
file(const char *name)
{
    static char path[600];
    snprintf(path, sizeof(path), "%s/%s", state, name);
    return path;
}

struct issued {
    struct meshd_svid svid;
    X509 *leaf, *issuing, *root;
    EVP_PKEY *key;
};

static struct issued
issue(uint32_t ttl)
{
    struct issued i = {0};
    ck_assert_int_eq(meshd_ca_issue("web", ID, ttl, 42, &i.svid), MESH_OK);
    const unsigned char *p = i.svid.chain;
    i.leaf = d2i_X509(NULL, &p, (long)i.svid.chain_len);
    i.issuing = d2i_X509(NULL, &p, i.svid.chain + i.svid.chain_len - p);
    ck_assert_ptr_eq(p, i.svid.chain + i.svid.chain_len);
    p = i.svid.bundle;
    i.root = d2i_X509(NULL, &p, (long)i.svid.bundle_len);
    ck_assert_ptr_eq(p, i.svid.bundle + i.svid.bundle_len);
    p = i.svid.key;
    PKCS8_PRIV_KEY_INFO *p8 = d2i_PKCS8_PRIV_KEY_INFO(NULL, &p, (long)i.svid.key_len);
    ck_assert_ptr_nonnull(p8);
    i.key = EVP_PKCS82PKEY(p8);
    PKCS8_PRIV_KEY_INFO_free(p8);
    ck_assert(i.leaf && i.issuing && i.root && i.key);
    return i;
}

static void
issued_free(struct issued *i)
{
    X509_free(i->leaf);
    X509_free(i->issuing);
    X509_free(i->root);
    EVP_PKEY_free(i->key);
    meshd_svid_fini(&i->svid);
    ck_assert_ptr_null(i->svid.key);
}

static int
critical(X509 *x, int nid)
{
    int at = X509_get_ext_by_NID(x, nid, -1);
    return at < 0 ? -1 : X509_EXTENSION_get_critical(X509_get_ext(x, at));
}

/* [X509-SVID 2, 3, 4] */
START_TEST(leaf_rules)
{
    struct issued i = issue(86400);
    GENERAL_NAMES *san = X509_get_ext_d2i(i.leaf, NID_subject_alt_name, NULL, NULL);
    ck_assert_int_eq(sk_GENERAL_NAME_num(san), 1);
    const GENERAL_NAME *n = sk_GENERAL_NAME_value(san, 0);
    ck_assert_int_eq(n->type, GEN_URI);
    ck_assert_str_eq((const char *)ASN1_STRING_get0_data(n->d.uniformResourceIdentifier), ID);
    GENERAL_NAMES_free(san);
    ck_assert_int_eq(X509_NAME_entry_count(X509_get_subject_name(i.leaf)), 0);
    ck_assert_int_eq(critical(i.leaf, NID_subject_alt_name), 1);
    ck_assert_int_eq(critical(i.leaf, NID_key_usage), 1);
    ck_assert_int_eq(critical(i.leaf, NID_basic_constraints), 1);
    ck_assert_uint_eq(X509_get_key_usage(i.leaf), KU_DIGITAL_SIGNATURE);
    ck_assert_uint_eq(X509_get_extended_key_usage(i.leaf), XKU_SSL_SERVER | XKU_SSL_CLIENT);
    ck_assert_int_eq(X509_check_ca(i.leaf), 0);
    ck_assert_int_eq(X509_check_private_key(i.leaf, i.key), 1);
    ck_assert_int_eq(EVP_PKEY_get_bits(i.key), 256);
    char id[MESH_ID_MAX];
    ck_assert(meshd_ident_is_svid(i.leaf, id));
    ck_assert_str_eq(id, ID);
    issued_free(&i);
}
END_TEST

START_TEST(authority_rules)
{
    struct issued i = issue(86400);
    X509 *ca[] = {i.issuing, i.root};
    const long pathlen[] = {0, 1};
    for (int k = 0; k < 2; k++) {
        char uri[MESH_ID_MAX], id[MESH_ID_MAX];
        ck_assert_int_eq(X509_check_ca(ca[k]), 1);
        ck_assert_uint_eq(X509_get_key_usage(ca[k]), KU_KEY_CERT_SIGN | KU_CRL_SIGN);
        ck_assert_int_eq(critical(ca[k], NID_key_usage), 1);
        ck_assert_int_eq(critical(ca[k], NID_basic_constraints), 1);
        ck_assert_int_eq(X509_get_pathlen(ca[k]), pathlen[k]);
        ck_assert(meshd_ident_uri(ca[k], uri));
        ck_assert_str_eq(uri, "spiffe://mesh.local");
        ck_assert(!meshd_ident_is_svid(ca[k], id)); /* never authenticates anybody */
    }
    issued_free(&i);
}
END_TEST

static double
days(const X509 *a, const X509 *b)
{
    int d = 0, s = 0;
    ck_assert_int_eq(ASN1_TIME_diff(&d, &s, X509_get0_notBefore(a), X509_get0_notAfter(b)), 1);
    return d + s / 86400.0;
}

START_TEST(validity)
{
    uint64_t now = (uint64_t)time(NULL);
    struct issued i = issue(86400);
    ck_assert_uint_le(i.svid.info.not_before, now - 115);
    ck_assert_uint_ge(i.svid.info.not_before, now - 121);
    ck_assert_uint_ge(i.svid.info.not_after, now + 86400);
    ck_assert_uint_le(i.svid.info.not_after, now + 86405);
    ck_assert_uint_ge(i.svid.info.renew_at, now + 86400 * 45 / 100 - 5);
    ck_assert_uint_le(i.svid.info.renew_at, now + 86400 * 55 / 100 + 5);
    ck_assert(days(i.root, i.root) > 3649 && days(i.root, i.root) < 3651);
    ck_assert(days(i.issuing, i.issuing) > 89.9 && days(i.issuing, i.issuing) < 90.1);
    issued_free(&i);
    i = issue(400u * 86400); /* longer than its issuer lives */
    ck_assert_int_eq(ASN1_TIME_compare(X509_get0_notAfter(i.leaf), X509_get0_notAfter(i.issuing)), 0);
    issued_free(&i);
}
END_TEST

START_TEST(serials_differ_and_are_positive)
{
    char seen[64][MESHD_SERIAL_TEXT];
    for (int k = 0; k < 64; k++) {
        struct issued i = issue(60);
        const ASN1_INTEGER *n = X509_get0_serialNumber(i.leaf);
        ck_assert_int_eq(n->type & V_ASN1_NEG, 0);
        ck_assert_int_le(n->length, 16);
        memcpy(seen[k], i.svid.info.serial, sizeof(seen[k]));
        for (int j = 0; j < k; j++) {
            ck_assert_str_ne(seen[j], seen[k]);
        }
        issued_free(&i);
    }
}
END_TEST

static void
write_pem(const char *name, X509 *x)
{
    char path[600];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    PEM_write_X509(f, x);
    fclose(f);
}

START_TEST(openssl_agrees)
{
    char cmd[2048];
    struct issued i = issue(86400);
    write_pem("leaf.pem", i.leaf);
    write_pem("issuing.pem", i.issuing);
    write_pem("root.pem", i.root);
    snprintf(cmd, sizeof(cmd),
             "cd %s && for p in sslserver sslclient; do openssl verify -x509_strict -purpose $p "
             "-CAfile root.pem -untrusted issuing.pem leaf.pem >out 2>&1 || { cat out; exit 1; }; done",
             dir);
    ck_assert_int_eq(system(cmd), 0);
    issued_free(&i);
}
END_TEST

/* A name that is not one stays one URI. */
START_TEST(no_injection)
{
    struct meshd_svid s;
    char id[MESH_ID_MAX];
    const char *evil = "spiffe://mesh.local/ns/default/sa/a,URI:spiffe://mesh.local/ns/default/sa/b";
    ck_assert_int_eq(meshd_ca_issue("a", evil, 60, 1, &s), MESH_OK);
    const unsigned char *p = s.chain;
    X509 *x = d2i_X509(NULL, &p, (long)s.chain_len);
    ck_assert(meshd_ident_uri(x, id));
    ck_assert_str_eq(id, evil);
    X509_free(x);
    meshd_svid_fini(&s);
}
END_TEST

static const struct {
    const char *uri;
    bool good;
} ids[] = {
    {"spiffe://td/ns/a/sa/b", true},  {"spiffe://td/x", true},   {"spiffe://td", false},
    {"spiffe://td/", false},          {"spiffe://td/x/", false}, {"https://td/x", false},
    {"spiffe:///x", false},
};

START_TEST(svid_ids)
{
    EVP_PKEY *key = meshd_ident_key_new();
    struct meshd_cert_spec spec = {MESHD_CERT_LEAF, ids[_i].uri, 0, 1000};
    X509 *x = meshd_ident_cert_new(&spec, key, NULL, key);
    char id[MESH_ID_MAX];
    ck_assert_int_eq(meshd_ident_is_svid(x, id), ids[_i].good);
    X509_free(x);
    EVP_PKEY_free(key);
}
END_TEST

START_TEST(modes)
{
    struct stat st;
    ck_assert_int_eq(stat(state, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0700);
    ck_assert_int_eq(stat(file("root.key"), &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    ck_assert_int_eq(stat(file("issuing.pem"), &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    ck_assert_int_eq(stat(file("root.crt"), &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0644);
}
END_TEST

START_TEST(loads_what_it_made)
{
    struct issued a = issue(60);
    meshd_ca_fini();
    ck_assert_int_eq(meshd_ca_init(state, "mesh.local"), MESH_OK);
    struct issued b = issue(60);
    ck_assert_int_eq(X509_cmp(a.root, b.root), 0);
    ck_assert_int_eq(X509_cmp(a.issuing, b.issuing), 0);
    issued_free(&a);
    issued_free(&b);
}
END_TEST

static void
overwrite(const char *name, const char *text)
{
    FILE *f = fopen(file(name), "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

START_TEST(damage_is_an_error)
{
    static const char *const names[] = {"root.key", "root.crt", "issuing.pem"};
    meshd_ca_fini();
    overwrite(names[_i], "-----BEGIN CERTIFICATE-----\nxxxx\n-----END CERTIFICATE-----\n");
    ck_assert_int_eq(meshd_ca_init(state, "mesh.local"), MESH_E_CONFIG);
    FILE *f = fopen(file(names[_i]), "r");
    char line[64] = "";
    ck_assert_ptr_nonnull(f);
    ck_assert_ptr_nonnull(fgets(line, sizeof(line), f));
    fclose(f);
    ck_assert_str_eq(line, "-----BEGIN CERTIFICATE-----\n"); /* nothing was overwritten */
}
END_TEST

START_TEST(readable_key_is_an_error)
{
    meshd_ca_fini();
    ck_assert_int_eq(chmod(file("root.key"), 0644), 0);
    ck_assert_int_eq(meshd_ca_init(state, "mesh.local"), MESH_E_CONFIG);
}
END_TEST

START_TEST(other_domain_is_an_error)
{
    meshd_ca_fini();
    ck_assert_int_eq(meshd_ca_init(state, "other.local"), MESH_E_CONFIG);
}
END_TEST

START_TEST(foreign_key_is_an_error)
{
    char other[512], cmd[2048];
    meshd_ca_fini();
    snprintf(other, sizeof(other), "%s/other", dir);
    ck_assert_int_eq(meshd_ca_init(other, "mesh.local"), MESH_OK);
    meshd_ca_fini();
    snprintf(cmd, sizeof(cmd), "cp %s/%s %s/", other, _i ? "issuing.pem" : "root.key", state);
    ck_assert_int_eq(system(cmd), 0);
    ck_assert_int_eq(meshd_ca_init(state, "mesh.local"), MESH_E_CONFIG);
}
END_TEST

START_TEST(missing_files)
{
    meshd_ca_fini();
    ck_assert_int_eq(unlink(file("issuing.pem")), 0); /* made anew from the root */
    ck_assert_int_eq(meshd_ca_init(state, "mesh.local"), MESH_OK);
    meshd_ca_fini();
    ck_assert_int_eq(unlink(file("root.key")), 0); /* kept elsewhere: fine while issuing lives */
    ck_assert_int_eq(meshd_ca_init(state, "mesh.local"), MESH_OK);
    meshd_ca_fini();
    ck_assert_int_eq(unlink(file("root.crt")), 0);
    ck_assert_int_eq(meshd_ca_init(state, "mesh.local"), MESH_E_CONFIG);
}
END_TEST

static int
count_leafs(const struct meshd_cert *c, void *arg)
{
    *(int *)arg += c->kind == MESHD_CERT_LEAF;
    return 0;
}

START_TEST(list)
{
    int n = 0;
    for (int pid = 1; pid <= 5000; pid++) {
        struct meshd_svid s;
        if (pid <= 3 || pid % 500 == 0) { /* keeps the test quick */
            ck_assert_int_eq(meshd_ca_issue("web", ID, 3600, pid % 7, &s), MESH_OK);
            meshd_svid_fini(&s);
        }
    }
    meshd_ca_visit(count_leafs, &n);
    ck_assert_int_le(n, 7);
    ck_assert_int_ge(n, 3);
    ck_assert_uint_eq(meshd_ca_issued(), 13);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("ca");
    TCase *t = tcase_create("ca");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, leaf_rules);
    tcase_add_test(t, authority_rules);
    tcase_add_test(t, validity);
    tcase_add_test(t, serials_differ_and_are_positive);
    tcase_add_test(t, openssl_agrees);
    tcase_add_test(t, no_injection);
    tcase_add_loop_test(t, svid_ids, 0, (int)(sizeof(ids) / sizeof(ids[0])));
    tcase_add_test(t, modes);
    tcase_add_test(t, loads_what_it_made);
    tcase_add_loop_test(t, damage_is_an_error, 0, 3);
    tcase_add_test(t, readable_key_is_an_error);
    tcase_add_test(t, other_domain_is_an_error);
    tcase_add_loop_test(t, foreign_key_is_an_error, 0, 2);
    tcase_add_test(t, missing_files);
    tcase_add_test(t, list);
    suite_add_tcase(s, t);
    return unit_run(s);
}
