/* SPDX-License-Identifier: Apache-2.0
 *
 * Peer verification. The order is: what the leaf is (SVID rules), of which trust domain it is, who
 * signed it and when (X509_verify_cert over the bundle alone), who it is. Each verdict maps to one
 * enum mesh_err for us and one alert for the peer, by way of the verify error that OpenSSL turns
 * into that alert.
 */
#include "shim/tls/verify.h"

#include <string.h>
#include <time.h>

#include <openssl/asn1.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "shim/tls/certs.h"
#include "shim/tls/ctx.h"
#include "shim/tls/hs.h"
#include "shim/tls/spiffe.h"
#include "shim/tls/suite.h"

/* The alert is what OpenSSL's own table makes of the verify error. */
static const struct {
    enum mesh_err err;
    int verify; /* X509_V_ERR_* */
} verdicts[] = {
    {MESH_E_CERT_EXPIRED, X509_V_ERR_CERT_HAS_EXPIRED}, /* certificate_expired */
    {MESH_E_CERT_UNTRUSTED, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY}, /* unknown_ca */
    {MESH_E_TRUST_DOMAIN, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY}, /* unknown_ca */
    {MESH_E_CERT_BAD_SVID, X509_V_ERR_CERT_REJECTED}, /* bad_certificate */
    {MESH_E_IDENTITY, X509_V_ERR_CERT_REJECTED}, /* bad_certificate */
    {MESH_E_NO_MEMORY, X509_V_ERR_OUT_OF_MEM}, /* internal_error */
};

static int
verify_error(enum mesh_err e)
{
    for (size_t i = 0; i < sizeof(verdicts) / sizeof(verdicts[0]); i++)
        if (verdicts[i].err == e)
            return verdicts[i].verify;
    return X509_V_ERR_UNSPECIFIED;
}

/* X509_verify_cert failed with `v` at `depth` (0: the leaf). */
static enum mesh_err
chain_verdict(int v, int depth)
{
    switch (v) {
    case X509_V_ERR_OUT_OF_MEM:
        return MESH_E_NO_MEMORY;
    case X509_V_ERR_INVALID_PURPOSE:
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_INVALID_EXTENSION:
    case X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION:
    case X509_V_ERR_EC_KEY_EXPLICIT_PARAMS:
        return depth == 0 ? MESH_E_CERT_BAD_SVID : MESH_E_CERT_UNTRUSTED;
    default:
        return MESH_E_CERT_UNTRUSTED;
    }
}

/* keyUsage: there, critical, for signatures, not for issuing [X509-SVID 4.3, 5.2]. */
static int
has_leaf_usage(X509 *leaf)
{
    int at = X509_get_ext_by_NID(leaf, NID_key_usage, -1);
    if (at < 0 || !X509_EXTENSION_get_critical(X509_get_ext(leaf, at)))
        return 0;
    uint32_t ku = X509_get_key_usage(leaf);
    return (ku & KU_DIGITAL_SIGNATURE) != 0 && (ku & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)) == 0;
}

/* The only URI among the names, NULL if there are none or several [X509-SVID 2, 5.2]. */
static const ASN1_IA5STRING *
only_uri(const GENERAL_NAMES *names)
{
    const ASN1_IA5STRING *uri = NULL;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        if (g->type != GEN_URI)
            continue;
        if (uri != NULL)
            return NULL;
        uri = g->d.uniformResourceIdentifier;
    }
    return uri;
}

/* The leaf's SPIFFE ID. The bytes belong to *names, which the caller frees in any case. */
static enum mesh_err
svid_read(X509 *leaf, GENERAL_NAMES **names, struct shim_spiffe *id)
{
    uint32_t flags = X509_get_extension_flags(leaf);
    if ((flags & (EXFLAG_INVALID | EXFLAG_CA)) != 0 || !has_leaf_usage(leaf))
        return MESH_E_CERT_BAD_SVID;
    *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL); /* NULL for two SANs, too */
    const ASN1_IA5STRING *uri = *names != NULL ? only_uri(*names) : NULL;
    if (uri == NULL || !shim_spiffe_parse((const char *)ASN1_STRING_get0_data(uri),
                                          (size_t)ASN1_STRING_length(uri), id))
        return MESH_E_CERT_BAD_SVID;
    return MESH_OK;
}

/* Days from 1970-01-01 to a day of the Gregorian calendar. Not timegm, which takes glibc's time
 * zone lock (one that a fork can leave shut) and reads files. Years begin in March here, so that
 * the leap day is a year's last. */
static int64_t
civil_days(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400, of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static int
cert_time(const ASN1_TIME *t, int64_t *out)
{
    struct tm tm;
    if (t == NULL || ASN1_TIME_to_tm(t, &tm) != 1)
        return 0;
    *out = civil_days(tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday) * 86400 + tm.tm_hour * 3600 +
           tm.tm_min * 60 + tm.tm_sec;
    return 1;
}

/* The time in which every certificate of the verified chain is valid, ends included
 * [RFC5280 4.1.2.5]; false when one cannot be read. */
static int
chain_span(X509_STORE_CTX *store, int64_t *from, int64_t *until)
{
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(store);
    *from = INT64_MIN;
    *until = INT64_MAX;
    for (int i = 0; i < sk_X509_num(chain); i++) {
        const X509 *x = sk_X509_value(chain, i);
        int64_t a = 0, b = 0;
        if (!cert_time(X509_get0_notBefore(x), &a) || !cert_time(X509_get0_notAfter(x), &b))
            return 0;
        *from = a > *from ? a : *from;
        *until = b < *until ? b : *until;
    }
    return sk_X509_num(chain) > 0;
}

static int
leaf_hash(X509 *leaf, uint8_t hash[SHIM_SEEN_HASH])
{
    unsigned n = 0;
    return X509_digest(leaf, shim_suite_find(0x1301)->md, hash, &n) == 1 && n == SHIM_SEEN_HASH;
}

/* Signatures, purpose, name constraints (not the time, see ctx.c), then the time. All this is
 * skipped for a leaf that passed it before. */
static enum mesh_err
chain_check(struct shim_ctx *c, X509_STORE_CTX *store, X509 *leaf, int as_server, int64_t *until)
{
    uint8_t hash[SHIM_SEEN_HASH];
    int64_t from = 0, now = (int64_t)time(NULL);
    int hashed = leaf_hash(leaf, hash);
    if (hashed && shim_seen_has(&c->seen, hash, as_server, now, until))
        return MESH_OK;
    if (X509_verify_cert(store) != 1)
        return chain_verdict(X509_STORE_CTX_get_error(store),
                             X509_STORE_CTX_get_error_depth(store));
    if (!chain_span(store, &from, until) || now < from || now > *until)
        return MESH_E_CERT_EXPIRED;
    if (hashed)
        shim_seen_add(&c->seen, hash, as_server, from, *until);
    return MESH_OK;
}

static void
chain_keep(X509_STORE_CTX *store)
{
    const STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(store); /* the leaf is the first */
    for (int i = 0; i < sk_X509_num(sent); i++)
        shim_certs_keep(sk_X509_value(sent, i));
}

static enum mesh_err
peer_check(struct shim_ctx *c, struct shim_hs *hs, X509_STORE_CTX *store)
{
    GENERAL_NAMES *names = NULL;
    struct shim_spiffe id = {0};
    int64_t until = 0;
    X509 *leaf = X509_STORE_CTX_get0_cert(store);
    enum mesh_err e = svid_read(leaf, &names, &id);
    if (e == MESH_OK && (id.td_len != c->td_len || memcmp(id.td, c->td, id.td_len) != 0))
        e = MESH_E_TRUST_DOMAIN;
    if (e == MESH_OK)
        e = chain_check(c, store, leaf, shim_hs_is_server(hs), &until);
    if (e == MESH_OK)
        e = shim_hs_peer_id(hs, id.id, id.id_len, until);
    if (e == MESH_OK)
        chain_keep(store);
    GENERAL_NAMES_free(names);
    return e;
}

int
shim_verify_on_peer(X509_STORE_CTX *store, void *ctx)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct shim_hs *hs = SSL_get_app_data(ssl);
    enum mesh_err e = peer_check(ctx, hs, store);
    shim_hs_verdict(hs, e);
    X509_STORE_CTX_set_error(store, e == MESH_OK ? X509_V_OK : verify_error(e));
    return e == MESH_OK;
}
