/* SPDX-License-Identifier: Apache-2.0
 *
 * Handshakes. OpenSSL reads and writes the caller's buffers through a BIO of our own; what does
 * not fit the caller's output waits in `spill`. The traffic secrets come by the keylog callback,
 * for want of another way; once they are turned into keys the SSL object is freed. It is made when it is
 * needed: a handshake that resumes by a ticket is psk.h's, until the client's offer is declined.
 *
 *   MORE --step--> DONE     keys in res.tx, res.rx
 *              \-> FAILED   res.err, res.alert
 *   DONE and FAILED are shown only when all output was taken.
 */
#include "shim/tls/hs.h"

#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>

#include "shim/tls/cache.h"
#include "shim/tls/ctx.h"
#include "shim/tls/mem.h"
#include "shim/tls/psk.h"
#include "shim/tls/suite.h"
#include "shim/tls/ticket.h"

#define SECRET_MAX sizeof(((struct shim_key *)0)->secret)

struct secret {
    size_t len;
    uint8_t bytes[SECRET_MAX];
};

struct shim_hs {
    SSL *ssl; /* once OpenSSL has something to say, until the state is final */
    struct shim_psk *psk; /* while we resume */
    size_t replayed; /* bytes of the hello that OpenSSL has said again */
    int replaying;
    int64_t until; /* the peer's certificates are valid so long */
    struct shim_ctx *ctx;
    int server, begun;
    enum shim_hs_state state;
    enum mesh_err verdict; /* of the verifier */
    uint8_t alert_in, alert_out;
    struct secret client, server_secret; /* application traffic secrets 0 */
    struct shim_hs_result res;

    const uint8_t *in; /* the caller's, during a step */
    size_t in_len;
    uint8_t *out;
    size_t out_len, out_cap;
    uint8_t *spill; /* output that found no room; OPENSSL_malloc */
    size_t spill_at, spill_len, spill_cap;

    int expects;
    size_t expect_len;
    char expect[MESH_ID_MAX]; /* SPIFFE ID that the peer must show; "" is nobody's */
};

static BIO_METHOD *bio_method; /* set once by shim_hs_init */
static shim_ticket_find *_Atomic find_ticket;

static int
bio_read(BIO *b, char *buf, int n)
{
    struct shim_hs *hs = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (hs->in_len == 0) {
        BIO_set_retry_read(b);
        return -1;
    }
    size_t take = (size_t)n < hs->in_len ? (size_t)n : hs->in_len;
    memcpy(buf, hs->in, take);
    hs->in += take;
    hs->in_len -= take;
    return (int)take;
}

static int
spill_add(struct shim_hs *hs, const void *p, size_t n)
{
    if (hs->spill_cap - hs->spill_len < n) {
        size_t cap = hs->spill_len + n + 4096;
        uint8_t *q = OPENSSL_realloc(hs->spill, cap);
        if (q == NULL)
            return 0;
        hs->spill = q;
        hs->spill_cap = cap;
    }
    memcpy(hs->spill + hs->spill_len, p, n);
    hs->spill_len += n;
    return 1;
}

static int
put(struct shim_hs *hs, const void *p, size_t n)
{
    size_t room = hs->out_cap - hs->out_len, now = n < room ? n : room;
    if (hs->spill_len > hs->spill_at)
        now = 0; /* keep the order */
    if (now < n && !spill_add(hs, (const uint8_t *)p + now, n - now))
        return 0;
    if (now > 0)
        memcpy(hs->out + hs->out_len, p, now);
    hs->out_len += now;
    return 1;
}

/* What was sent is not sent again; it must be the same. */
static int
is_replay(struct shim_hs *hs, const void *p, size_t n)
{
    if (n > hs->psk->hello_len - hs->replayed || memcmp(hs->psk->hello + hs->replayed, p, n) != 0)
        return 0;
    hs->replayed += n;
    return 1;
}

static int
bio_write(BIO *b, const char *buf, int n)
{
    struct shim_hs *hs = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (n <= 0)
        return 0;
    return (hs->replaying ? is_replay(hs, buf, (size_t)n) : put(hs, buf, (size_t)n)) ? n : -1;
}

static long
bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    (void)b, (void)num, (void)ptr;
    return cmd == BIO_CTRL_FLUSH || cmd == BIO_CTRL_DUP;
}

static int
bio_create(BIO *b)
{
    BIO_set_init(b, 1);
    return 1;
}

enum mesh_err
shim_hs_init(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "mesh");
    if (bio_method == NULL || !BIO_meth_set_read(bio_method, bio_read) ||
        !BIO_meth_set_write(bio_method, bio_write) || !BIO_meth_set_ctrl(bio_method, bio_ctrl) ||
        !BIO_meth_set_create(bio_method, bio_create))
        return MESH_E_ENGINE;
    return MESH_OK;
}

static int
ssl_init(struct shim_hs *hs)
{
    hs->ssl = SSL_new(hs->ctx->ssl);
    BIO *b = hs->ssl != NULL ? BIO_new(bio_method) : NULL;
    if (b == NULL)
        return 0;
    BIO_set_data(b, hs);
    SSL_set_bio(hs->ssl, b, b);
    if (SSL_set_app_data(hs->ssl, hs) != 1)
        return 0; /* no memory; the callbacks would find nobody */
    if (hs->server)
        SSL_set_accept_state(hs->ssl);
    else
        SSL_set_connect_state(hs->ssl);
    return 1;
}

/* After this only the result and unsent output are left. */
static void
ssl_fini(struct shim_hs *hs)
{
    SSL_free(hs->ssl);
    hs->ssl = NULL;
    shim_psk_free(hs->psk);
    hs->psk = NULL;
    shim_ctx_put(hs->ctx);
    hs->ctx = NULL;
    shim_mem_wipe(&hs->client, sizeof(hs->client));
    shim_mem_wipe(&hs->server_secret, sizeof(hs->server_secret));
}

void
shim_hs_expect(struct shim_hs *hs, const char *id)
{
    hs->expects = 1;
    hs->expect_len = strnlen(id, sizeof(hs->expect)); /* at its longest no identity is equal to it */
    memcpy(hs->expect, id, hs->expect_len);
}

struct shim_hs *
shim_hs_new(int server, const char *expect_id)
{
    struct shim_hs *hs = OPENSSL_zalloc(sizeof(*hs));
    if (hs == NULL)
        return NULL;
    hs->server = server != 0;
    if (expect_id != NULL)
        shim_hs_expect(hs, expect_id);
    hs->ctx = shim_ctx_get();
    if (hs->ctx != NULL)
        return hs;
    shim_hs_free(hs);
    return NULL;
}

void
shim_hs_tickets(shim_ticket_find *find)
{
    atomic_store(&find_ticket, find);
}

void
shim_hs_offer(struct shim_hs *hs, const struct shim_ticket *t)
{
    size_t n = strnlen(t->peer, sizeof(t->peer));
    if (hs->server || hs->psk != NULL || hs->ssl != NULL ||
        (hs->expects && (n != hs->expect_len || memcmp(t->peer, hs->expect, n) != 0)))
        return;
    hs->psk = shim_psk_offer(hs->ctx, t);
    ERR_clear_error();
}

void
shim_hs_free(struct shim_hs *hs)
{
    if (hs == NULL)
        return;
    ssl_fini(hs);
    OPENSSL_free(hs->spill);
    OPENSSL_free(hs); /* wipes */
}

int
shim_hs_is_server(const struct shim_hs *hs)
{
    return hs->server;
}

/* An ID that is too long for the result is cut, and ends in a sign that no ID can contain, so
 * that it never equals another's. */
static void
id_copy(char out[MESH_ID_MAX], const char *id, size_t n)
{
    size_t take = n < MESH_ID_MAX ? n : MESH_ID_MAX - 1;
    memcpy(out, id, take);
    if (take < n)
        out[take - 1] = '*';
    out[take] = '\0';
}

enum mesh_err
shim_hs_peer_id(struct shim_hs *hs, const char *id, size_t n, int64_t until)
{
    hs->until = until;
    id_copy(hs->res.peer_id, id, n);
    if (hs->expects && (hs->expect_len != n || memcmp(hs->expect, id, n) != 0))
        return MESH_E_IDENTITY;
    return MESH_OK;
}

void
shim_hs_verdict(struct shim_hs *hs, enum mesh_err e)
{
    hs->verdict = e;
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void
secret_read(struct secret *s, const char *hex)
{
    size_t n = strlen(hex) / 2;
    if (n > SECRET_MAX)
        return;
    for (size_t i = 0; i < n; i++) {
        int hi = hex_digit(hex[2 * i]), lo = hex_digit(hex[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return;
        s->bytes[i] = (uint8_t)(hi << 4 | lo);
    }
    s->len = n;
}

/* "LABEL <client random> <secret>", all but the label in hex. */
void
shim_hs_on_keylog(const SSL *ssl, const char *line)
{
    static const char client[] = "CLIENT_TRAFFIC_SECRET_0 ";
    static const char server[] = "SERVER_TRAFFIC_SECRET_0 ";
    struct shim_hs *hs = SSL_get_app_data(ssl);
    const char *hex = strrchr(line, ' ');
    if (hex == NULL)
        return;
    if (strncmp(line, client, sizeof(client) - 1) == 0)
        secret_read(&hs->client, hex + 1);
    else if (strncmp(line, server, sizeof(server) - 1) == 0)
        secret_read(&hs->server_secret, hex + 1);
}

void
shim_hs_on_info(const SSL *ssl, int where, int ret)
{
    struct shim_hs *hs = SSL_get_app_data(ssl);
    if (hs == NULL)
        return; /* a hello is made, and there is no memory: no handshake is behind it */
    if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT)
        hs->alert_in = (uint8_t)ret;
    else if ((where & SSL_CB_WRITE_ALERT) == SSL_CB_WRITE_ALERT)
        hs->alert_out = (uint8_t)ret;
}

static enum mesh_err
keys_make(struct shim_hs *hs)
{
    uint16_t id = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(hs->ssl));
    const struct secret *tx = hs->server ? &hs->server_secret : &hs->client;
    const struct secret *rx = hs->server ? &hs->client : &hs->server_secret;
    enum mesh_err e = shim_suite_key_init(&hs->res.tx, id, tx->bytes, tx->len);
    if (e == MESH_OK)
        e = shim_suite_key_init(&hs->res.rx, id, rx->bytes, rx->len);
    return e;
}

static void
hs_end(struct shim_hs *hs, enum mesh_err e)
{
    if (e != MESH_OK) {
        shim_mem_wipe(&hs->res.tx, sizeof(hs->res.tx));
        shim_mem_wipe(&hs->res.rx, sizeof(hs->res.rx));
    }
    hs->res.err = e;
    hs->res.alert = hs->alert_in != 0 ? hs->alert_in : hs->alert_out;
    hs->state = e == MESH_OK ? SHIM_HS_DONE : SHIM_HS_FAILED;
    ssl_fini(hs);
}

/* What stopped OpenSSL; the verifier's word comes first, being the most exact. */
static enum mesh_err
failure(const struct shim_hs *hs, unsigned lacks)
{
    unsigned long code = ERR_peek_error();
    if (shim_mem_lacks() != lacks)
        return MESH_E_NO_MEMORY; /* whatever that looked like to who asked for it */
    if (hs->verdict != MESH_OK)
        return hs->verdict;
    if (hs->alert_in != 0)
        return MESH_E_PEER_ALERT;
    if (ERR_GET_LIB(code) != ERR_LIB_SSL)
        return ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE ? MESH_E_NO_MEMORY : MESH_E_HANDSHAKE;
    switch (ERR_GET_REASON(code)) {
    case ERR_R_MALLOC_FAILURE:
        return MESH_E_NO_MEMORY;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return MESH_E_NO_PEER_CERT;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_WRONG_SSL_VERSION:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_UNKNOWN_PROTOCOL:
        return MESH_E_TLS_VERSION;
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
        return MESH_E_BAD_MAC;
    default:
        return MESH_E_HANDSHAKE;
    }
}

static void
ssl_end(struct shim_hs *hs)
{
    enum mesh_err e = keys_make(hs);
    /* Bytes beyond the last record would be lost with the SSL: the caller's mistake. And who came by a key has
     * shown no certificate: that is psk.c's to do, never OpenSSL's. */
    if (hs->in_len > 0 || SSL_session_reused(hs->ssl))
        e = MESH_E_HANDSHAKE;
    if (e == MESH_OK)
        shim_ticket_make(&hs->res.ticket, hs->ctx, hs->ssl, hs->res.peer_id, hs->until);
    hs_end(hs, e);
}

static void
hs_advance(struct shim_hs *hs)
{
    unsigned lacks = shim_mem_lacks();
    ERR_clear_error();
    if (hs->ssl == NULL && !ssl_init(hs)) {
        hs_end(hs, MESH_E_NO_MEMORY);
    } else {
        int rc = SSL_do_handshake(hs->ssl);
        if (rc == 1)
            ssl_end(hs);
        else if (SSL_get_error(hs->ssl, rc) != SSL_ERROR_WANT_READ)
            hs_end(hs, failure(hs, lacks));
    }
    ERR_clear_error();
}

/* ---- by a ticket ---- */

/* The offer was not taken. OpenSSL makes the same hello, and gets the answer to it. */
static void
psk_decline(struct shim_hs *hs)
{
    size_t len = hs->in_len;
    hs->in_len = 0;
    hs->replaying = 1;
    shim_tape_play(&hs->psk->tape);
    int made = ssl_init(hs), rc = made ? SSL_do_handshake(hs->ssl) : -1;
    shim_tape_play(NULL);
    hs->replaying = 0;
    int same = made && SSL_get_error(hs->ssl, rc) == SSL_ERROR_WANT_READ && hs->replayed == hs->psk->hello_len;
    hs->in_len = len;
    hs->res.declined = 1;
    if (!same) {
        hs_end(hs, made ? MESH_E_HANDSHAKE : MESH_E_NO_MEMORY);
        return;
    }
    shim_psk_free(hs->psk);
    hs->psk = NULL;
}

static void
psk_moved(struct shim_hs *hs, enum shim_psk_state st)
{
    struct shim_psk *p = hs->psk;
    if (p->answered && hs->res.peer_id[0] == '\0') { /* now we know who has the other end */
        enum mesh_err e = shim_hs_peer_id(hs, p->peer, strlen(p->peer), 0);
        if (e != MESH_OK && st != SHIM_PSK_FAILED)
            st = shim_psk_fail(p, e, SHIM_ALERT_BAD_CERT);
    }
    if (!put(hs, p->out, p->out_len)) {
        hs_end(hs, MESH_E_NO_MEMORY);
        return;
    }
    p->out_len = 0;
    if (st == SHIM_PSK_DONE) {
        hs->res.tx = p->tx;
        hs->res.rx = p->rx;
        hs->res.resumed = 1;
        hs_end(hs, hs->in_len == 0 ? MESH_OK : MESH_E_HANDSHAKE);
    } else if (st == SHIM_PSK_FAILED) {
        hs->alert_out = p->alert;
        hs_end(hs, p->err);
    }
}

/* As long as it is ours: record by record. What it leaves is OpenSSL's. */
static void
psk_advance(struct shim_hs *hs)
{
    if (!hs->begun && hs->server && hs->in_len > 0) {
        hs->psk = shim_psk_accept(hs->ctx, hs->in, hs->in_len, atomic_load(&find_ticket));
        if (hs->psk == NULL)
            return;
        hs->in_len = 0;
        psk_moved(hs, hs->psk->err == MESH_OK ? SHIM_PSK_MORE : SHIM_PSK_FAILED);
    }
    if (hs->psk != NULL && hs->psk->hello_len > 0 && hs->psk->out_len > 0)
        psk_moved(hs, SHIM_PSK_MORE); /* the hello */
    while (hs->psk != NULL && hs->in_len > 0) {
        size_t n = hs->in_len < SHIM_REC_HEAD ? SIZE_MAX : SHIM_REC_HEAD + ((size_t)hs->in[3] << 8 | hs->in[4]);
        if (n > hs->in_len) {
            hs_end(hs, MESH_E_HANDSHAKE); /* the caller's mistake */
            return;
        }
        enum shim_psk_state st = shim_psk_step(hs->psk, hs->in, n);
        if (st == SHIM_PSK_DECLINED) {
            psk_decline(hs);
            return;
        }
        hs->in += n;
        hs->in_len -= n;
        psk_moved(hs, st);
    }
}

/* Could these be the first bytes of a TLS peer? A type of record, then version 3.x [RFC8446 5.1].
 * OpenSSL would also take SSLv2's hello. */
static int
is_tls(const uint8_t *p, size_t n)
{
    return (p[0] == SHIM_REC_HANDSHAKE || p[0] == SHIM_REC_ALERT) && (n < 2 || p[1] == 3);
}

static void
spill_drain(struct shim_hs *hs)
{
    size_t have = hs->spill_len - hs->spill_at, room = hs->out_cap - hs->out_len;
    size_t n = have < room ? have : room;
    if (n > 0)
        memcpy(hs->out + hs->out_len, hs->spill + hs->spill_at, n);
    hs->out_len += n;
    hs->spill_at += n;
    if (hs->spill_at == hs->spill_len)
        hs->spill_at = hs->spill_len = 0;
}

enum shim_hs_state
shim_hs_step(struct shim_hs *hs, const uint8_t *in, size_t len, uint8_t *out, size_t cap,
             size_t *out_len)
{
    hs->in = in;
    hs->in_len = len;
    hs->out = out;
    hs->out_len = 0;
    hs->out_cap = cap;
    spill_drain(hs);
    if (hs->state == SHIM_HS_MORE && len > 0 && !hs->begun && !is_tls(in, len))
        hs_end(hs, MESH_E_NOT_TLS);
    if (hs->state == SHIM_HS_MORE && (len > 0 || !hs->server)) {
        psk_advance(hs);
        if (hs->state == SHIM_HS_MORE && hs->psk == NULL)
            hs_advance(hs);
    }
    hs->begun |= len > 0;
    hs->in = NULL;
    hs->in_len = 0;
    *out_len = hs->out_len;
    return hs->spill_len > 0 ? SHIM_HS_MORE : hs->state;
}

void
shim_hs_result(struct shim_hs *hs, struct shim_hs_result *res)
{
    *res = hs->res;
    if (hs->state == SHIM_HS_DONE) {
        shim_cache_warm(&res->tx, 1);
        shim_cache_warm(&res->rx, 0);
    }
    shim_mem_wipe(&hs->res, sizeof(hs->res));
}
