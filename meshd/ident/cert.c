/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_ident_cert: see cert.h. Rules by name: [X509-SVID 2-5], [RFC5280 4.2].
 */
#include "meshd/ident/cert.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* What each kind of certificate says of itself. */
static const struct {
    const char *basic, *usage, *extended, *name;
} rules[] = {
    [MESHD_CERT_ROOT] = {"critical,CA:TRUE,pathlen:1", "critical,keyCertSign,cRLSign", NULL,
                         "libmesh root"},
    [MESHD_CERT_ISSUING] = {"critical,CA:TRUE,pathlen:0", "critical,keyCertSign,cRLSign", NULL,
                            "libmesh issuing"},
    /* [X509-SVID 4.3, 4.4] one role each side of every connection: both extended usages. */
    [MESHD_CERT_LEAF] = {"critical,CA:FALSE", "critical,digitalSignature",
                         "serverAuth,clientAuth", NULL},
};

const char *
meshd_ident_why(void)
{
    unsigned long e = ERR_peek_last_error();
    const char *why = e ? ERR_reason_error_string(e) : NULL;
    ERR_clear_error();
    return why ? why : "unknown reason";
}

EVP_PKEY *
meshd_ident_key_new(void)
{
    return EVP_EC_gen("P-256");
}

/* Random, positive, at most 127 bits, not zero [RFC5280 4.1.2.2]. */
static bool
set_serial(X509 *x)
{
    unsigned char raw[16] = {0};
    if (RAND_bytes(raw, sizeof(raw)) != 1) {
        return false;
    }
    raw[0] &= 0x7f;
    raw[15] |= (raw[0] == 0); /* never all zero, and no measurable loss */
    BIGNUM *n = BN_bin2bn(raw, sizeof(raw), NULL);
    bool ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));
    BN_free(n);
    return ok;
}

static bool
set_times(X509 *x, const struct meshd_cert_spec *spec)
{
    return ASN1_TIME_set(X509_getm_notBefore(x), (time_t)spec->not_before) &&
           ASN1_TIME_set(X509_getm_notAfter(x), (time_t)spec->not_after);
}

/* A leaf has no subject; then the SAN must be critical [RFC5280 4.2.1.6]. An authority needs a
 * name, and each issuing certificate another one, so that chains are built without guessing. */
static bool
set_names(X509 *x, const struct meshd_cert_spec *spec, X509 *issuer)
{
    X509_NAME *name = X509_get_subject_name(x);
    const char *base = rules[spec->kind].name;
    if (base) {
        char cn[64];
        const ASN1_INTEGER *serial = X509_get0_serialNumber(x);
        snprintf(cn, sizeof(cn), "%s %02x%02x%02x%02x", base, serial->data[0], serial->data[1],
                 serial->data[2], serial->data[3]);
        const char *part[] = {"O", "CN"}, *value[] = {"libmesh", cn};
        for (int i = 0; i < 2; i++) {
            if (!X509_NAME_add_entry_by_txt(name, part[i], MBSTRING_UTF8,
                                            (const unsigned char *)value[i], -1, -1, 0)) {
                return false;
            }
        }
    }
    return X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : name);
}

static bool
add_text_ext(X509 *x, X509V3_CTX *ctx, int nid, const char *value)
{
    if (!value) {
        return true;
    }
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
    bool ok = ext && X509_add_ext(x, ext, -1);
    X509_EXTENSION_free(ext);
    return ok;
}

/* Built by hand: a configuration string would let a comma in the name add another SAN. */
static bool
add_uri(X509 *x, const char *uri, bool critical)
{
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    bool ok = names && name && text && ASN1_STRING_set(text, uri, -1);
    if (!ok) {
        ASN1_IA5STRING_free(text);
        GENERAL_NAME_free(name);
        GENERAL_NAMES_free(names);
        return false;
    }
    GENERAL_NAME_set0_value(name, GEN_URI, text);
    if (!sk_GENERAL_NAME_push(names, name)) {
        GENERAL_NAME_free(name);
        GENERAL_NAMES_free(names);
        return false;
    }
    ok = X509_add1_ext_i2d(x, NID_subject_alt_name, names, critical, X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(names);
    return ok;
}

static bool
add_extensions(X509 *x, const struct meshd_cert_spec *spec, X509 *issuer)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer ? issuer : x, x, NULL, NULL, 0);
    return add_text_ext(x, &ctx, NID_basic_constraints, rules[spec->kind].basic) &&
           add_text_ext(x, &ctx, NID_key_usage, rules[spec->kind].usage) &&
           add_text_ext(x, &ctx, NID_ext_key_usage, rules[spec->kind].extended) &&
           add_text_ext(x, &ctx, NID_subject_key_identifier, "hash") &&
           add_text_ext(x, &ctx, NID_authority_key_identifier, "keyid") &&
           add_uri(x, spec->uri, spec->kind == MESHD_CERT_LEAF);
}

/* What X509_set_pubkey finds out by a search through all of OpenSSL's encoders and decoders was half of what a leaf
 * cost. The certificate has no parsed key then, which only authorities need here. */
static bool
set_leaf_key(X509 *x, EVP_PKEY *subject)
{
    unsigned char *point = NULL;
    size_t n = EVP_PKEY_get1_encoded_public_key(subject, &point);
    if (n == 0 || X509_PUBKEY_set0_param(X509_get_X509_PUBKEY(x), OBJ_nid2obj(NID_X9_62_id_ecPublicKey), V_ASN1_OBJECT,
                                         OBJ_nid2obj(NID_X9_62_prime256v1), point, (int)n) != 1) {
        OPENSSL_free(point);
        return false;
    }
    return true;
}

X509 *
meshd_ident_cert_new(const struct meshd_cert_spec *spec, EVP_PKEY *subject, X509 *issuer,
                     EVP_PKEY *issuer_key)
{
    X509 *x = X509_new();
    if (x && X509_set_version(x, X509_VERSION_3) && set_serial(x) && set_times(x, spec) &&
        set_names(x, spec, issuer) &&
        (spec->kind == MESHD_CERT_LEAF ? set_leaf_key(x, subject) : X509_set_pubkey(x, subject)) &&
        add_extensions(x, spec, issuer) && X509_sign(x, issuer_key, EVP_sha256())) {
        return x;
    }
    X509_free(x);
    return NULL;
}

static bool
copy_uri(const GENERAL_NAME *n, char *out)
{
    const ASN1_IA5STRING *s = n->d.uniformResourceIdentifier;
    int len = ASN1_STRING_length(s);
    const unsigned char *p = ASN1_STRING_get0_data(s);
    if (len <= 0 || len >= (int)MESH_ID_MAX || memchr(p, '\0', (size_t)len)) {
        return false;
    }
    memcpy(out, p, (size_t)len);
    out[len] = '\0';
    return true;
}

bool
meshd_ident_uri(const X509 *x, char *out)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    const GENERAL_NAME *uri = NULL;
    int uris = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
        if (n->type == GEN_URI) {
            uri = n;
            uris++;
        }
    }
    bool ok = uris == 1 && copy_uri(uri, out);
    GENERAL_NAMES_free(names);
    return ok;
}

/* "spiffe://td/path": a path that is not the root, without an empty segment at its end. */
static bool
is_leaf_id(const char *id)
{
    static const char scheme[] = "spiffe://";
    const char *td = id + sizeof(scheme) - 1;
    if (strncmp(id, scheme, sizeof(scheme) - 1) != 0) {
        return false;
    }
    const char *path = strchr(td, '/');
    return path && path > td && path[1] && path[strlen(path) - 1] != '/';
}

bool
meshd_ident_is_svid(X509 *x, char *id)
{
    char uri[MESH_ID_MAX] = "";
    uint32_t flags = X509_get_extension_flags(x), usage = X509_get_key_usage(x);
    uint32_t both = XKU_SSL_SERVER | XKU_SSL_CLIENT;
    if ((flags & (EXFLAG_INVALID | EXFLAG_CA)) || !(flags & EXFLAG_KUSAGE) ||
        !(usage & KU_DIGITAL_SIGNATURE) || (usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)) ||
        ((flags & EXFLAG_XKUSAGE) && (X509_get_extended_key_usage(x) & both) != both) ||
        !meshd_ident_uri(x, uri) || !is_leaf_id(uri)) {
        return false;
    }
    memcpy(id, uri, sizeof(uri));
    return true;
}

static uint64_t
seconds(const ASN1_TIME *t)
{
    struct tm tm = {0};
    time_t s = ASN1_TIME_to_tm(t, &tm) == 1 ? timegm(&tm) : 0;
    return s > 0 ? (uint64_t)s : 0;
}

void
meshd_ident_describe(const X509 *x, struct meshd_cert *out)
{
    BIGNUM *n = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x), NULL);
    char *hex = n ? BN_bn2hex(n) : NULL;
    snprintf(out->serial, sizeof(out->serial), "%s", hex ? hex : "");
    OPENSSL_free(hex);
    BN_free(n);
    out->not_before = seconds(X509_get0_notBefore(x));
    out->not_after = seconds(X509_get0_notAfter(x));
}
