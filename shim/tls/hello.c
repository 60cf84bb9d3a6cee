/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_hello: see hello.h.
 */
#include "shim/tls/hello.h"

#include <string.h>

#include <openssl/bio.h>

#include "shim/tls/read.h"
#include "shim/tls/tls.h"

enum { CLIENT_HELLO = 1 };
enum { EXT_PSK = 41, EXT_EARLY_DATA = 42, EXT_VERSIONS = 43, EXT_PSK_MODES = 45, EXT_KEY_SHARE = 51 };
enum { GROUP_X25519 = 0x001d, MODE_DHE = 1 };

static bool
has_u16(struct shim_read v, uint32_t want)
{
    while (shim_read_more(&v))
        if (shim_read_number(&v, 2) == want)
            return true;
    return false;
}

static uint16_t
offset(const uint8_t *message, const uint8_t *p)
{
    return (uint16_t)(p - message);
}

static bool
shares_parse(struct shim_read v, const uint8_t *message, struct shim_hello_parts *at)
{
    struct shim_read list = shim_read_vector(&v, 2);
    while (shim_read_more(&list)) {
        uint32_t group = shim_read_number(&list, 2);
        struct shim_read key = shim_read_vector(&list, 2);
        if (group == GROUP_X25519 && key.left == 32 && at->share == 0)
            at->share = offset(message, key.p);
    }
    return !list.bad && v.left == 0;
}

static bool
psk_parse(struct shim_read v, const uint8_t *message, struct shim_hello_parts *at)
{
    struct shim_read ids = shim_read_vector(&v, 2);
    at->binders = v.p != NULL ? offset(message, v.p) : 0;
    struct shim_read binders = shim_read_vector(&v, 2);
    struct shim_read id = shim_read_vector(&ids, 2), binder = shim_read_vector(&binders, 1);
    (void)shim_read_number(&ids, 4); /* its age: of a ticket's */
    if (id.left == SHIM_PSK_ID)
        at->identity = offset(message, id.p);
    if (binder.left == 32)
        at->binder = offset(message, binder.p);
    return !v.bad && !ids.bad && !binders.bad && v.left == 0;
}

/* The key must be the last extension: the hash for its binders covers all that is before. */
static bool
extension_parse(uint32_t type, struct shim_read v, bool last, const uint8_t *message,
                struct shim_hello_parts *at)
{
    struct shim_read list;
    switch (type) {
    case EXT_VERSIONS:
        list = shim_read_vector(&v, 1);
        at->tls13 = has_u16(list, 0x0304);
        return !list.bad;
    case EXT_PSK_MODES:
        list = shim_read_vector(&v, 1);
        at->dhe_mode = list.left > 0 && memchr(list.p, MODE_DHE, list.left) != NULL;
        return !list.bad;
    case EXT_KEY_SHARE:
        return shares_parse(v, message, at);
    case EXT_EARLY_DATA:
        at->early_data = true;
        return true;
    case EXT_PSK:
        return last && psk_parse(v, message, at);
    default:
        return true;
    }
}

bool
shim_hello_parse(const uint8_t *message, size_t n, struct shim_hello_parts *at)
{
    uint64_t seen = 0;
    struct shim_read r = {message, n, false};
    memset(at, 0, sizeof(*at));
    if (n > SHIM_HELLO_MAX || shim_read_number(&r, 1) != CLIENT_HELLO ||
        shim_read_number(&r, 3) != r.left || shim_read_number(&r, 2) != 0x0303)
        return false;
    at->random = offset(message, r.p);
    (void)shim_read_bytes(&r, 32);
    struct shim_read id = shim_read_vector(&r, 1), suites = shim_read_vector(&r, 2),
                     compression = shim_read_vector(&r, 1), list = shim_read_vector(&r, 2);
    if (r.bad || r.left > 0 || id.left > 32 || compression.left != 1 || compression.p[0] != 0)
        return false;
    at->session_id = offset(message, id.p);
    at->session_id_len = (uint16_t)id.left;
    at->aes128 = has_u16(suites, 0x1301);
    while (shim_read_more(&list)) {
        uint32_t type = shim_read_number(&list, 2);
        struct shim_read v = shim_read_vector(&list, 2);
        uint64_t bit = type < 64 ? UINT64_C(1) << type : 0;
        if (v.bad || (seen & bit) != 0 || !extension_parse(type, v, list.left == 0, message, at))
            return false;
        seen |= bit;
    }
    return !list.bad;
}

/* ---- from OpenSSL ---- */

/* OpenSSL takes over the session, the name it copies. */
int
shim_hello_on_psk(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *len, SSL_SESSION **out)
{
    static const uint8_t suite[] = {0x13, 0x01};
    const struct shim_tape *t = shim_tape_playing();
    (void)md;
    *out = NULL;
    if (t == NULL)
        return 1; /* none to offer: also in the second hello that a server may ask for */
    SSL_SESSION *s = SSL_SESSION_new();
    const SSL_CIPHER *c = SSL_CIPHER_find(ssl, suite);
    if (s == NULL || c == NULL || SSL_SESSION_set1_master_key(s, t->psk, SHIM_PSK_ID) != 1 ||
        SSL_SESSION_set_cipher(s, c) != 1 || SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION) != 1) {
        SSL_SESSION_free(s);
        return 0;
    }
    *id = t->id;
    *len = SHIM_PSK_ID;
    *out = s;
    return 1;
}

/* One record with one message is expected, and all that differs in its place. */
static bool
template_use(struct shim_hello *h, const uint8_t *rec, size_t n)
{
    const struct shim_hello_parts *at = &h->at;
    if (n <= SHIM_REC_HEAD || n - SHIM_REC_HEAD > SHIM_HELLO_MAX || rec[0] != SHIM_REC_HANDSHAKE ||
        ((size_t)rec[3] << 8 | rec[4]) != n - SHIM_REC_HEAD)
        return false;
    memcpy(h->head, rec, SHIM_REC_HEAD);
    memcpy(h->message, rec + SHIM_REC_HEAD, n - SHIM_REC_HEAD);
    h->len = (uint16_t)(n - SHIM_REC_HEAD);
    return shim_hello_parse(h->message, h->len, &h->at) && at->session_id_len == 32 && at->share != 0 &&
           at->identity != 0 && at->binder != 0 && at->binder + 32u == h->len && at->aes128 && at->dhe_mode;
}

bool
shim_hello_make(SSL_CTX *ctx, struct shim_tape *t, struct shim_hello *h)
{
    char *rec = NULL;
    SSL *ssl = SSL_new(ctx);
    BIO *out = BIO_new(BIO_s_mem()), *in = BIO_new(BIO_s_mem());
    bool ok = false;
    if (ssl == NULL || in == NULL || out == NULL) {
        BIO_free(in);
        BIO_free(out);
        SSL_free(ssl);
        return false;
    }
    SSL_set_bio(ssl, in, out);
    SSL_set_connect_state(ssl);
    shim_tape_play(t);
    (void)SSL_do_handshake(ssl); /* as far as it can go without an answer */
    shim_tape_play(NULL);
    long n = BIO_get_mem_data(out, &rec);
    if (n > 0)
        ok = template_use(h, (const uint8_t *)rec, (size_t)n);
    SSL_free(ssl);
    return ok;
}
