/* SPDX-License-Identifier: Apache-2.0
 *
 * Two TLS ends in one process.
 */
#include "tests/unit/tls_talk.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

void
talk_put(struct talk_queue *q, const void *p, size_t n)
{
    if (q->at > 0) {
        memmove(q->bytes, q->bytes + q->at, q->len - q->at);
        q->len -= q->at;
        q->at = 0;
    }
    if (n > sizeof(q->bytes) - q->len)
        abort();
    if (n > 0)
        memcpy(q->bytes + q->len, p, n);
    q->len += n;
}

size_t
talk_record(struct talk_queue *q, const uint8_t **rec)
{
    const uint8_t *p = q->bytes + q->at;
    size_t have = q->len - q->at;
    if (have < SHIM_REC_HEAD)
        return 0;
    size_t n = SHIM_REC_HEAD + (size_t)(p[3] << 8 | p[4]);
    if (have < n)
        return 0;
    q->at += n;
    *rec = p;
    return n;
}

static void
hs_result(struct talk_end *e)
{
    if (e->state != SHIM_HS_MORE)
        shim_tls_engine(NULL)->hs_result(e->hs, &e->res);
}

/* One step with its output; true when something moved. */
static int
hs_move(struct talk_end *e, const uint8_t *in, size_t len, struct talk_queue *out)
{
    uint8_t buf[16 << 10];
    size_t n = 0, cap = e->cap != 0 ? e->cap : sizeof(buf), total = len;
    do {
        e->state = shim_tls_engine(NULL)->hs_step(e->hs, in, len, buf, cap, &n);
        talk_put(out, buf, n);
        total += n;
        len = 0;
    } while (n == cap);
    hs_result(e);
    return total > 0;
}

static int
ssl_move(struct talk_end *e, const uint8_t *in, size_t len, struct talk_queue *out)
{
    size_t before = out->len - out->at;
    if (len > 0 && BIO_write(SSL_get_rbio(e->ssl), in, (int)len) != (int)len)
        abort();
    int rc = SSL_do_handshake(e->ssl);
    if (rc == 1)
        e->state = SHIM_HS_DONE;
    else if (SSL_get_error(e->ssl, rc) != SSL_ERROR_WANT_READ)
        e->state = SHIM_HS_FAILED;
    ERR_clear_error();
    talk_ssl_drain(e->ssl, out);
    return len > 0 || out->len - out->at != before;
}

static int
end_move(struct talk_end *e, struct talk_queue *out)
{
    const uint8_t *rec = NULL;
    if (e->state != SHIM_HS_MORE)
        return 0;
    size_t n = talk_record(&e->in, &rec);
    return e->hs != NULL ? hs_move(e, rec, n, out) : ssl_move(e, rec, n, out);
}

void
talk_run(struct talk_end *a, struct talk_end *b)
{
    while (end_move(a, &b->in) | end_move(b, &a->in))
        ;
}

struct talk_pair *
talk_new(void)
{
    struct talk_pair *p = calloc(1, sizeof(*p));
    if (p == NULL)
        abort();
    return p;
}

void
talk_free(struct talk_pair *p)
{
    shim_tls_engine(NULL)->hs_free(p->client.hs);
    shim_tls_engine(NULL)->hs_free(p->server.hs);
    SSL_free(p->client.ssl);
    SSL_free(p->server.ssl);
    free(p);
}

void
talk_ssl_feed(SSL *ssl, struct talk_queue *in)
{
    int n = (int)(in->len - in->at);
    if (n > 0 && BIO_write(SSL_get_rbio(ssl), in->bytes + in->at, n) != n)
        abort();
    in->at = in->len;
}

void
talk_ssl_drain(SSL *ssl, struct talk_queue *out)
{
    uint8_t buf[16 << 10];
    int n;
    while ((n = BIO_read(SSL_get_wbio(ssl), buf, sizeof(buf))) > 0)
        talk_put(out, buf, (size_t)n);
}

void
talk_ssl_bios(SSL *ssl)
{
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
}
