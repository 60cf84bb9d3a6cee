/* SPDX-License-Identifier: Apache-2.0
 *
 * Certificates for tests, by OpenSSL.
 */
#include "tests/unit/tls_pki.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            ERR_print_errors_fp(stderr);                                                           \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

OSSL_LIB_CTX *
pki_openssl(void)
{
    static OSSL_LIB_CTX *whole;
    if (whole == NULL)
        MUST((whole = OSSL_LIB_CTX_new()) != NULL);
    return whole;
}

static EVP_PKEY *
key_new(const char *curve)
{
    if (curve != NULL && strncmp(curve, "rsa", 3) == 0)
        return EVP_PKEY_Q_keygen(pki_openssl(), NULL, "RSA", (size_t)atoi(curve + 3));
    if (curve != NULL && strcmp(curve, "ed25519") == 0)
        return EVP_PKEY_Q_keygen(pki_openssl(), NULL, "ED25519");
    return EVP_PKEY_Q_keygen(pki_openssl(), NULL, "EC", curve != NULL ? curve : "P-256");
}

static void
ext_add(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX v;
    if (value == NULL)
        return;
    X509V3_set_ctx(&v, issuer, x, NULL, NULL, 0);
    X509V3_set_ctx_nodb(&v);
    X509_EXTENSION *e = X509V3_EXT_nconf_nid(NULL, &v, nid, value);
    MUST(e != NULL && X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
}

static void
names_set(X509 *x, const char *name, X509 *issuer)
{
    X509_NAME *n = X509_get_subject_name(x);
    MUST(name == NULL || X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8,
                                                    (const unsigned char *)name, -1, -1, 0) == 1);
    MUST(X509_set_issuer_name(x, X509_get_subject_name(issuer)) == 1);
}

struct pki_cert
pki_new(const struct pki_spec *spec, const struct pki_cert *issuer)
{
    static long serial = 1;
    struct pki_cert c = {X509_new_ex(pki_openssl(), NULL), key_new(spec->curve)};
    X509 *up = issuer != NULL ? issuer->x : c.x;
    EVP_PKEY *sign = issuer != NULL ? issuer->key : c.key;
    int plain = spec->from_s == 0 && spec->until_s == 0;
    MUST(c.x != NULL && c.key != NULL && X509_set_version(c.x, 2) == 1);
    MUST(ASN1_INTEGER_set(X509_get_serialNumber(c.x), serial++) == 1);
    MUST(X509_gmtime_adj(X509_getm_notBefore(c.x), plain ? -60 : spec->from_s) != NULL);
    MUST(X509_gmtime_adj(X509_getm_notAfter(c.x), plain ? 3600 : spec->until_s) != NULL);
    names_set(c.x, spec->name, up);
    MUST(X509_set_pubkey(c.x, c.key) == 1);
    ext_add(c.x, up, NID_basic_constraints, spec->basic);
    ext_add(c.x, up, NID_key_usage, spec->usage);
    ext_add(c.x, up, NID_ext_key_usage, spec->extended);
    ext_add(c.x, up, NID_subject_alt_name, spec->san);
    ext_add(c.x, up, NID_name_constraints, spec->constraints);
    ext_add(c.x, up, NID_subject_key_identifier, "hash");
    if (issuer != NULL)
        ext_add(c.x, up, NID_authority_key_identifier, "keyid");
    int ed = EVP_PKEY_is_a(sign, "ED25519");
    MUST(X509_sign(c.x, sign, ed ? NULL : EVP_sha256()) > 0);
    return c;
}

struct pki_cert
pki_root(const char *name)
{
    const struct pki_spec s = {.name = name,
                               .basic = "critical,CA:TRUE",
                               .usage = "critical,keyCertSign,cRLSign",
                               .from_s = -3600,
                               .until_s = 86400};
    return pki_new(&s, NULL);
}

struct pki_cert
pki_leaf(const char *san, const struct pki_cert *issuer)
{
    const struct pki_spec s = {.name = "leaf",
                               .san = san,
                               .basic = "critical,CA:FALSE",
                               .usage = "critical,digitalSignature",
                               .extended = "serverAuth,clientAuth"};
    return pki_new(&s, issuer);
}

void
pki_free(struct pki_cert *c)
{
    X509_free(c->x);
    EVP_PKEY_free(c->key);
    *c = (struct pki_cert){0};
}

static uint8_t *
certs_der(const struct pki_cert *a, const struct pki_cert *b, size_t *len)
{
    int na = a != NULL ? i2d_X509(a->x, NULL) : 0, nb = b != NULL ? i2d_X509(b->x, NULL) : 0;
    MUST(na >= 0 && nb >= 0);
    uint8_t *block = malloc((size_t)(na + nb) + 1), *p = block;
    MUST(block != NULL);
    if (a != NULL)
        i2d_X509(a->x, &p);
    if (b != NULL)
        i2d_X509(b->x, &p);
    *len = (size_t)(na + nb);
    return block;
}

static uint8_t *
key_der(EVP_PKEY *key, size_t *len)
{
    PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(key);
    MUST(p8 != NULL);
    int n = i2d_PKCS8_PRIV_KEY_INFO(p8, NULL);
    MUST(n > 0);
    uint8_t *block = malloc((size_t)n), *p = block;
    MUST(block != NULL);
    i2d_PKCS8_PRIV_KEY_INFO(p8, &p);
    PKCS8_PRIV_KEY_INFO_free(p8);
    *len = (size_t)n;
    return block;
}

void
pki_identity(struct pki_identity *out, const struct pki_cert *leaf, const struct pki_cert *mid,
             const struct pki_cert *root)
{
    *out = (struct pki_identity){0};
    out->id.chain = out->chain = certs_der(leaf, mid, &out->id.chain_len);
    out->id.bundle = out->bundle = certs_der(root, NULL, &out->id.bundle_len);
    out->id.key = out->key = key_der(leaf->key, &out->id.key_len);
    out->id.trust_domain = PKI_TD;
}

void
pki_identity_free(struct pki_identity *p)
{
    free(p->chain);
    free(p->bundle);
    free(p->key);
    *p = (struct pki_identity){0};
}
