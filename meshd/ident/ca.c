/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_ca: see ca.h. Owns the authority in memory and the list of issued leafs (facts only; a
 * leaf's key exists here from its making until the caller's meshd_svid_fini).
 */
#include "meshd/ident/ca.h"

#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "meshd/base/file.h"
#include "meshd/base/log.h"
#include "meshd/ident/cert.h"
#include "meshd/ident/store.h"

#define LIST_MAX 4096u

static struct meshd_authority ca;
static char dir[4096];
static char domain_uri[MESH_ID_MAX]; /* spiffe://<trust_domain> */
static struct meshd_cert *list;      /* LIST_MAX entries, a ring */
static uint64_t issued, listed;

static enum mesh_err
make_root(void)
{
    int64_t now = time(NULL);
    struct meshd_cert_spec spec = {MESHD_CERT_ROOT, domain_uri, now - MESHD_BACKDATE_S,
                                   now + MESHD_ROOT_S};
    if (!ca.root_key) { /* a start that died half-way left the key: go on with it */
        ca.root_key = meshd_ident_key_new();
    }
    ca.root = ca.root_key ? meshd_ident_cert_new(&spec, ca.root_key, NULL, ca.root_key) : NULL;
    if (!ca.root) {
        log_error("cannot make a root certificate: %s", meshd_ident_why());
        return MESH_E_SYSTEM;
    }
    log_info("new root certificate for %s in %s", domain_uri, dir);
    return meshd_ident_store_root(dir, &ca);
}

static enum mesh_err
make_issuing(void)
{
    int64_t now = time(NULL);
    struct meshd_cert root = {0};
    struct meshd_cert_spec spec = {MESHD_CERT_ISSUING, domain_uri, now - MESHD_BACKDATE_S,
                                   now + MESHD_ISSUING_S};
    meshd_ident_describe(ca.root, &root);
    if (spec.not_after > (int64_t)root.not_after) {
        spec.not_after = (int64_t)root.not_after;
    }
    EVP_PKEY *key = meshd_ident_key_new();
    X509 *cert = key ? meshd_ident_cert_new(&spec, key, ca.root, ca.root_key) : NULL;
    enum mesh_err e = cert ? meshd_ident_store_issuing(dir, cert, key) : MESH_E_SYSTEM;
    if (e != MESH_OK) {
        log_error("cannot make an issuing certificate: %s", meshd_ident_why());
        X509_free(cert);
        EVP_PKEY_free(key);
        return e;
    }
    X509_free(ca.issuing);
    EVP_PKEY_free(ca.issuing_key);
    ca.issuing = cert;
    ca.issuing_key = key;
    log_info("new issuing certificate in %s", dir);
    return MESH_OK;
}

/* Half of its life is over: leafs of a full day always fit into what is left. */
static uint64_t
issuing_renew_at(void)
{
    struct meshd_cert c = {0};
    meshd_ident_describe(ca.issuing, &c);
    return c.not_before + (c.not_after - c.not_before) / 2;
}

static enum mesh_err
complain(const char *what)
{
    log_error("%s: %s; restore it from a backup, or move the directory away to make a new "
              "authority", dir, what);
    return MESH_E_CONFIG;
}

static enum mesh_err
check_domain(void)
{
    char uri[MESH_ID_MAX] = "";
    if (!meshd_ident_uri(ca.root, uri) || strcmp(uri, domain_uri) != 0) {
        log_error("%s/root.crt is for %s, the configuration says %s", dir, uri, domain_uri);
        return MESH_E_CONFIG;
    }
    return MESH_OK;
}

static enum mesh_err
check_loaded(void)
{
    if (!ca.root) {
        return ca.issuing ? complain("root.crt is missing") : MESH_OK;
    }
    if (ca.root_key && X509_check_private_key(ca.root, ca.root_key) != 1) {
        return complain("root.key does not belong to root.crt");
    }
    if (X509_cmp_current_time(X509_get0_notAfter(ca.root)) <= 0) {
        return complain("root.crt has expired");
    }
    if (ca.issuing && X509_check_private_key(ca.issuing, ca.issuing_key) != 1) {
        return complain("the key in issuing.pem does not belong to its certificate");
    }
    if (ca.issuing && X509_verify(ca.issuing, X509_get0_pubkey(ca.root)) != 1) {
        return complain("issuing.pem was not signed by root.crt");
    }
    if (!ca.issuing && !ca.root_key) {
        return complain("issuing.pem and root.key are missing");
    }
    return check_domain();
}

enum mesh_err
meshd_ca_init(const char *state_dir, const char *trust_domain)
{
    int n = snprintf(domain_uri, sizeof(domain_uri), "spiffe://%s", trust_domain);
    int m = snprintf(dir, sizeof(dir), "%s", state_dir);
    if (n < 0 || (size_t)n >= sizeof(domain_uri) || m < 0 || (size_t)m >= sizeof(dir)) {
        return MESH_E_CONFIG;
    }
    enum mesh_err e = meshd_dir_make(dir, 0700);
    if (e == MESH_OK) {
        e = meshd_ident_store_load(dir, &ca);
    }
    if (e == MESH_OK) {
        e = check_loaded();
    }
    if (e == MESH_OK && !ca.root) {
        e = make_root();
    }
    if (e == MESH_OK && (!ca.issuing || (ca.root_key && (uint64_t)time(NULL) >= issuing_renew_at()))) {
        e = make_issuing();
    }
    if (e == MESH_OK && !list) {
        list = calloc(LIST_MAX, sizeof(*list));
        e = list ? MESH_OK : MESH_E_NO_MEMORY;
    }
    ERR_clear_error();
    if (e != MESH_OK) {
        meshd_ca_fini();
    }
    return e;
}

void
meshd_ca_fini(void)
{
    meshd_authority_fini(&ca);
    free(list);
    list = NULL;
    issued = listed = 0;
}

/* Half-life, give or take a tenth, so that a host's workloads do not all come at once. */
static uint64_t
renew_at(uint64_t now, uint64_t not_after)
{
    uint32_t r = 0;
    uint64_t left = not_after > now ? not_after - now : 0;
    if (RAND_bytes((unsigned char *)&r, sizeof(r)) != 1) {
        r = 0;
    }
    return now + left * (900 + r % 201) / 2000;
}

static enum mesh_err
make_leaf(const char *id, uint32_t ttl_s, EVP_PKEY *key, X509 **out, struct meshd_cert *info)
{
    struct meshd_cert issuer = {0};
    int64_t now = time(NULL);
    struct meshd_cert_spec spec = {MESHD_CERT_LEAF, id, now - MESHD_BACKDATE_S, now + ttl_s};
    meshd_ident_describe(ca.issuing, &issuer);
    if (spec.not_after > (int64_t)issuer.not_after) {
        spec.not_after = (int64_t)issuer.not_after;
    }
    if (spec.not_after <= now) {
        log_error("the issuing certificate in %s has expired and cannot be renewed", dir);
        return MESH_E_NO_IDENTITY;
    }
    *out = meshd_ident_cert_new(&spec, key, ca.issuing, ca.issuing_key);
    if (!*out) {
        log_error("cannot make a certificate: %s", meshd_ident_why());
        return MESH_E_SYSTEM;
    }
    meshd_ident_describe(*out, info);
    info->kind = MESHD_CERT_LEAF;
    info->renew_at = renew_at((uint64_t)now, info->not_after);
    return MESH_OK;
}

/* DER of up to two certificates, one after the other. */
static bool
pack_certs(X509 *first, X509 *second, uint8_t **out, size_t *len)
{
    int a = i2d_X509(first, NULL), b = second ? i2d_X509(second, NULL) : 0;
    uint8_t *buf = a > 0 && b >= 0 ? malloc((size_t)(a + b)) : NULL;
    if (!buf) {
        return false;
    }
    unsigned char *p = buf;
    i2d_X509(first, &p);
    if (second) {
        i2d_X509(second, &p);
    }
    *out = buf;
    *len = (size_t)(a + b);
    return true;
}

static bool
pack_key(EVP_PKEY *key, uint8_t **out, size_t *len)
{
    PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(key);
    int n = p8 ? i2d_PKCS8_PRIV_KEY_INFO(p8, NULL) : 0;
    uint8_t *buf = n > 0 ? malloc((size_t)n) : NULL;
    if (buf) {
        unsigned char *p = buf;
        i2d_PKCS8_PRIV_KEY_INFO(p8, &p);
        *out = buf;
        *len = (size_t)n;
    }
    PKCS8_PRIV_KEY_INFO_free(p8); /* wipes its octets */
    return buf != NULL;
}

/* One line per process and identity: a renewal replaces it. */
static void
remember(const struct meshd_cert *c)
{
    uint64_t n = listed < LIST_MAX ? listed : LIST_MAX;
    issued++;
    for (uint64_t i = 0; i < n; i++) {
        if (list[i].pid == c->pid && strcmp(list[i].id, c->id) == 0) {
            list[i] = *c;
            return;
        }
    }
    list[listed++ % LIST_MAX] = *c;
}

enum mesh_err
meshd_ca_issue(const char *service, const char *id, uint32_t ttl_s, int32_t pid,
               struct meshd_svid *out)
{
    struct meshd_svid s = {.info = {.pid = pid}};
    X509 *leaf = NULL;
    EVP_PKEY *key = NULL;
    enum mesh_err e = MESH_OK;
    if (ca.root_key && (uint64_t)time(NULL) >= issuing_renew_at()) {
        e = make_issuing(); /* if that fails the old one still serves */
        log_debug("renewal of the issuing certificate: %s", mesh_err_reason(e));
    }
    key = meshd_ident_key_new();
    e = key ? make_leaf(id, ttl_s, key, &leaf, &s.info) : MESH_E_SYSTEM;
    if (e != MESH_OK) {
        goto out;
    }
    if (!pack_certs(leaf, ca.issuing, &s.chain, &s.chain_len) ||
        !pack_key(key, &s.key, &s.key_len) ||
        !pack_certs(ca.root, NULL, &s.bundle, &s.bundle_len)) {
        e = MESH_E_NO_MEMORY;
        goto out;
    }
    snprintf(s.info.service, sizeof(s.info.service), "%s", service);
    snprintf(s.info.id, sizeof(s.info.id), "%s", id);
    remember(&s.info);
    *out = s;
    s = (struct meshd_svid){0};
out:
    meshd_svid_fini(&s);
    X509_free(leaf);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return e;
}

void
meshd_svid_fini(struct meshd_svid *svid)
{
    if (svid->key) {
        explicit_bzero(svid->key, svid->key_len);
    }
    free(svid->key);
    free(svid->chain);
    free(svid->bundle);
    *svid = (struct meshd_svid){0};
}

void
meshd_ca_visit(meshd_cert_visit *visit, void *arg)
{
    struct meshd_cert c = {.kind = MESHD_CERT_ROOT};
    uint64_t now = (uint64_t)time(NULL);
    if (!ca.root || !ca.issuing) {
        return;
    }
    snprintf(c.id, sizeof(c.id), "%s", domain_uri);
    meshd_ident_describe(ca.root, &c);
    if (visit(&c, arg) != 0) {
        return;
    }
    c.kind = MESHD_CERT_ISSUING;
    meshd_ident_describe(ca.issuing, &c);
    c.renew_at = issuing_renew_at();
    if (visit(&c, arg) != 0) {
        return;
    }
    for (uint32_t i = 0; i < LIST_MAX; i++) {
        if (list[i].id[0] && list[i].not_after > now && visit(&list[i], arg) != 0) {
            return;
        }
    }
}

uint64_t
meshd_ca_issued(void)
{
    return issued;
}
