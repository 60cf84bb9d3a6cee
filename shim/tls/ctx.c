/* SPDX-License-Identifier: Apache-2.0
 *
 * Identities. One SSL_CTX serves both roles: TLS 1.3 only, mutual, no sessions of OpenSSL's own.
 *
 * The swap takes no lock, because a lock held by another thread at fork would stay shut in the
 * child. A reader announces itself in `readers` while it turns the pointer into a reference; the
 * writer drops the old identity's base reference once it has seen no reader. If it keeps seeing
 * some (or a reader was lost in a fork), the old one waits in the `retired` list for the next
 * swap: late, never wrong.
 */
#include "shim/tls/ctx.h"

#include <sched.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "shim/tls/certs.h"
#include "shim/tls/hello.h"
#include "shim/tls/hs.h"
#include "shim/tls/mem.h"
#include "shim/tls/suite.h"
#include "shim/tls/verify.h"

/* Since OpenSSL 3.2, where it is built with zlib [RFC8879]: certificates of 400 bytes are not worth it, and what
 * unpacks them asks the program's malloc. */
#ifdef SSL_OP_NO_TX_CERTIFICATE_COMPRESSION
#define UNCOMPRESSED (SSL_OP_NO_TX_CERTIFICATE_COMPRESSION | SSL_OP_NO_RX_CERTIFICATE_COMPRESSION)
#else
#define UNCOMPRESSED 0
#endif

#define CHAIN_MAX   (32 << 10) /* bytes of certificates that a peer may send */
#define DEPTH_MAX   8
#define SPINS_MAX   1000

static const char ciphers[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
/* Not const: OpenSSL's macros cast that away. */
static char groups[] = "X25519:P-256";
static char sigalgs[] = "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ed25519:RSA-PSS+SHA256:"
                        "RSA-PSS+SHA384:RSA-PSS+SHA512:RSA+SHA256:RSA+SHA384:RSA+SHA512";

static struct shim_ctx *_Atomic current;
static struct shim_ctx *_Atomic retired;
static atomic_uint readers;

/* The next certificate of a DER sequence; NULL at its end or when it does not parse. */
static X509 *
cert_next(const uint8_t **p, const uint8_t *end)
{
    return *p < end ? d2i_X509(NULL, p, end - *p) : NULL;
}

static int
is_self_issued(X509 *x)
{
    return X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(x)) == 0;
}

/* Leaf and intermediates; a root in the chain is left out, the peer has it or does not trust it. */
static int
chain_use(SSL_CTX *ssl, const struct shim_identity *id)
{
    const uint8_t *p = id->chain, *end = p + id->chain_len;
    X509 *x = cert_next(&p, end);
    if (x == NULL || SSL_CTX_use_certificate(ssl, x) != 1) {
        X509_free(x);
        return 0;
    }
    X509_free(x);
    while ((x = cert_next(&p, end)) != NULL) {
        int ok = is_self_issued(x) || SSL_CTX_add1_chain_cert(ssl, x) == 1;
        X509_free(x);
        if (!ok)
            return 0;
    }
    return p == end;
}

static int
key_use(SSL_CTX *ssl, const struct shim_identity *id)
{
    const uint8_t *p = id->key;
    EVP_PKEY *k = d2i_AutoPrivateKey(NULL, &p, (long)id->key_len);
    int ok = k != NULL && p == id->key + id->key_len && SSL_CTX_use_PrivateKey(ssl, k) == 1 &&
             SSL_CTX_check_private_key(ssl) == 1;
    EVP_PKEY_free(k);
    return ok;
}

/* Only CA certificates: with PARTIAL_CHAIN anything in the store is trusted as it stands. An
 * empty bundle is allowed and trusts nobody [X509-SVID bundle format 4]. */
static int
bundle_use(SSL_CTX *ssl, const struct shim_identity *id)
{
    const uint8_t *p = id->bundle, *end = p + id->bundle_len;
    X509_STORE *store = SSL_CTX_get_cert_store(ssl);
    X509 *x = NULL;
    while ((x = cert_next(&p, end)) != NULL) {
        int ok = X509_check_ca(x) == 1 && X509_STORE_add_cert(store, x) == 1;
        X509_free(x);
        if (!ok)
            return 0;
    }
    /* OpenSSL's look at the clock goes through glibc's time zone lock; verify.c has its own. */
    return p == end && X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN |
                                                       X509_V_FLAG_NO_CHECK_TIME) == 1;
}

static int
settings_use(SSL_CTX *ssl)
{
    static const uint8_t sid[] = "mesh";
    if (SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ssl, ciphers) != 1 || SSL_CTX_set1_groups_list(ssl, groups) != 1 ||
        SSL_CTX_set1_sigalgs_list(ssl, sigalgs) != 1 || SSL_CTX_set_num_tickets(ssl, 0) != 1 ||
        SSL_CTX_set_session_id_context(ssl, sid, sizeof(sid) - 1) != 1)
        return 0;
    (void)SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | UNCOMPRESSED);
    /* Else OpenSSL would build and verify our own chain in every handshake. */
    SSL_CTX_set_mode(ssl, SSL_MODE_NO_AUTO_CHAIN | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_max_cert_list(ssl, CHAIN_MAX);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_verify_depth(ssl, DEPTH_MAX);
    SSL_CTX_set_psk_use_session_callback(ssl, shim_hello_on_psk);
    SSL_CTX_set_keylog_callback(ssl, shim_hs_on_keylog);
    SSL_CTX_set_info_callback(ssl, shim_hs_on_info);
    return 1;
}

static int
has_blobs(const struct shim_identity *id)
{
    return id != NULL && id->chain != NULL && id->key != NULL && id->trust_domain != NULL &&
           (id->bundle != NULL || id->bundle_len == 0) && id->chain_len > 0 && id->key_len > 0 &&
           shim_spiffe_is_td(id->trust_domain,
                             strnlen(id->trust_domain, SHIM_SPIFFE_TD_MAX + 1));
}

/* Who has the key and trusts the same authorities. */
static int
ticket_key_make(struct shim_ctx *c, const struct shim_identity *id)
{
    static const char name[] = "libmesh tickets";
    const struct shim_suite *s = shim_suite_find(0x1301);
    uint8_t who[32] = {0};
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    int ok = md != NULL && EVP_DigestInit_ex2(md, s->md, NULL) == 1 &&
             EVP_DigestUpdate(md, name, sizeof(name)) == 1 && EVP_DigestUpdate(md, id->key, id->key_len) == 1 &&
             EVP_DigestUpdate(md, id->bundle, id->bundle_len) == 1 &&
             EVP_DigestFinal_ex(md, c->ticket_key, NULL) == 1 &&
             shim_suite_hmac(s, c->ticket_key, (const uint8_t *)name, sizeof(name), who) == MESH_OK;
    EVP_MD_CTX_free(md);
    memcpy(c->who, who, sizeof(c->who));
    return ok;
}

static void
ctx_free(struct shim_ctx *c)
{
    SSL_CTX_free(c->ssl);
    OPENSSL_free(atomic_load(&c->hello));
    OPENSSL_clear_free(c, sizeof(*c));
}

/* NULL and *e when `id` will not do. */
static struct shim_ctx *
ctx_new(const struct shim_identity *id, enum mesh_err *e)
{
    *e = MESH_E_NO_IDENTITY;
    if (!has_blobs(id))
        return NULL;
    struct shim_ctx *c = OPENSSL_zalloc(sizeof(*c));
    if (c == NULL || (c->ssl = SSL_CTX_new(TLS_method())) == NULL) {
        *e = MESH_E_NO_MEMORY;
        goto out;
    }
    atomic_init(&c->refs, 1);
    c->td_len = strlen(id->trust_domain);
    memcpy(c->td, id->trust_domain, c->td_len + 1);
    SSL_CTX_set_cert_verify_callback(c->ssl, shim_verify_on_peer, c);
    if (settings_use(c->ssl) && chain_use(c->ssl, id) && key_use(c->ssl, id) &&
        bundle_use(c->ssl, id) && ticket_key_make(c, id)) {
        *e = MESH_OK;
        return c;
    }
out:
    if (c != NULL)
        ctx_free(c);
    return NULL;
}

/* True when, some moment after the swap, nobody was between reading `current` and referencing. */
static int
is_quiet(void)
{
    for (unsigned i = 0; i < SPINS_MAX; i++) {
        if (atomic_load(&readers) == 0)
            return 1;
        sched_yield();
    }
    return 0;
}

static void
retire(struct shim_ctx *c)
{
    c->retired = atomic_load(&retired);
    while (!atomic_compare_exchange_weak(&retired, &c->retired, c))
        ;
}

/* Puts `next` (may be NULL) in force and lets go of what was, and of what waited. */
static void
swap(struct shim_ctx *next)
{
    struct shim_ctx *old = atomic_exchange(&current, next);
    if (old != NULL)
        retire(old);
    struct shim_ctx *list = atomic_exchange(&retired, NULL);
    int quiet = is_quiet();
    while (list != NULL) {
        struct shim_ctx *c = list;
        list = c->retired;
        if (quiet)
            shim_ctx_put(c);
        else
            retire(c);
    }
}

enum mesh_err
shim_ctx_set(const struct shim_identity *id)
{
    enum mesh_err e = MESH_OK;
    unsigned lacks = shim_mem_lacks();
    ERR_clear_error();
    struct shim_ctx *c = ctx_new(id, &e);
    if (c != NULL)
        swap(c);
    else if (shim_mem_lacks() != lacks)
        e = MESH_E_NO_MEMORY;
    ERR_clear_error();
    return e;
}

struct shim_ctx *
shim_ctx_get(void)
{
    atomic_fetch_add(&readers, 1);
    struct shim_ctx *c = atomic_load(&current);
    if (c != NULL)
        atomic_fetch_add(&c->refs, 1);
    atomic_fetch_sub(&readers, 1);
    return c;
}

void
shim_ctx_put(struct shim_ctx *c)
{
    if (c != NULL && atomic_fetch_sub(&c->refs, 1) == 1)
        ctx_free(c);
}

void
shim_ctx_fini(void)
{
    swap(NULL);
    shim_certs_fini();
}
