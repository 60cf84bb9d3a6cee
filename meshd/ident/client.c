/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_ident_client: see client.h.
 */
#include "meshd/ident/client.h"

#include <openssl/x509.h>
#include <string.h>

#include "meshd/ident/cert.h"

/* After OpenSSL's own path checks: is it an SVID, and the right one? */
static int
check_peer(int ok, X509_STORE_CTX *store)
{
    char id[MESH_ID_MAX] = "";
    if (!ok || X509_STORE_CTX_get_error_depth(store) > 0) {
        return ok;
    }
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    const char *expect = SSL_get_app_data(ssl);
    if (!expect || !meshd_ident_is_svid(X509_STORE_CTX_get_current_cert(store), id) ||
        strcmp(id, expect) != 0) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
        return 0;
    }
    return 1;
}

/* The chain: leaf first, then what stands between it and the root. */
static bool
use_chain(SSL_CTX *ctx, const struct meshd_svid *s)
{
    const unsigned char *p = s->chain, *end = s->chain + s->chain_len;
    X509 *leaf = d2i_X509(NULL, &p, (long)s->chain_len);
    bool ok = leaf && SSL_CTX_use_certificate(ctx, leaf) == 1;
    X509_free(leaf);
    while (ok && p < end) {
        X509 *x = d2i_X509(NULL, &p, end - p);
        ok = x && SSL_CTX_add0_chain_cert(ctx, x) == 1;
        if (!ok) {
            X509_free(x);
        }
    }
    return ok;
}

static bool
use_key(SSL_CTX *ctx, const struct meshd_svid *s)
{
    const unsigned char *p = s->key;
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &p, (long)s->key_len);
    bool ok = key && SSL_CTX_use_PrivateKey(ctx, key) == 1;
    EVP_PKEY_free(key);
    return ok;
}

static bool
use_bundle(SSL_CTX *ctx, const struct meshd_svid *s)
{
    const unsigned char *p = s->bundle;
    X509 *root = d2i_X509(NULL, &p, (long)s->bundle_len);
    bool ok = root && X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), root) == 1;
    X509_free(root);
    return ok;
}

SSL_CTX *
meshd_ident_client_ctx(const struct meshd_svid *svid)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (ctx && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 && use_chain(ctx, svid) &&
        use_key(ctx, svid) && use_bundle(ctx, svid)) {
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, check_peer);
        return ctx;
    }
    SSL_CTX_free(ctx);
    return NULL;
}

void
meshd_ident_client_expect(SSL *ssl, const char *id)
{
    union {
        const char *in;
        void *out;
    } as = {.in = id};
    SSL_set_app_data(ssl, as.out);
}
