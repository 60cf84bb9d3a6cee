/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_psk, the client's part.
 */
#include "shim/tls/psk.h"

#include <string.h>

#include <openssl/crypto.h>

#include "shim/tls/mem.h"
#include "shim/tls/read.h"
#include "shim/tls/suite.h"
#include "shim/tls/ticket.h"

/* OpenSSL's hello under this identity, made once. */
static const struct shim_hello *
template(struct shim_ctx *c)
{
    struct shim_tape zeros = {0};
    struct shim_hello *none = NULL, *h = atomic_load(&c->hello);
    if (h != NULL)
        return h;
    h = OPENSSL_zalloc(sizeof(*h));
    if (h == NULL || !shim_hello_make(c->ssl, &zeros, h)) {
        OPENSSL_free(h);
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&c->hello, &none, h)) {
        OPENSSL_free(h); /* another thread's is in place */
        h = none;
    }
    return h;
}

static bool
hello_fill(struct shim_psk *p, const struct shim_hello *h)
{
    uint8_t *m = p->hello + SHIM_REC_HEAD, hash[SHIM_SCHED_HASH];
    memcpy(p->hello, h->head, sizeof(h->head));
    memcpy(m, h->message, h->len);
    p->hello_len = SHIM_REC_HEAD + h->len;
    memcpy(m + h->at.random, p->tape.random, sizeof(p->tape.random));
    memcpy(m + h->at.session_id, p->tape.session_id, sizeof(p->tape.session_id));
    memcpy(m + h->at.identity, p->tape.id, sizeof(p->tape.id));
    return shim_psk_share(p, p->tape.share, m + h->at.share) &&
           EVP_Digest(m, h->at.binders, hash, NULL, shim_suite_find(SHIM_SCHED_SUITE)->md, NULL) == 1 &&
           shim_sched_binder(&p->sched, hash, m + h->at.binder) &&
           shim_sched_add(&p->sched, m, h->len) && shim_psk_put(p, p->hello, p->hello_len);
}

/* OpenSSL makes the same hello from the same tape: who could not go on after a decline must not offer. Found
 * out once. */
static bool
is_repeated(struct shim_ctx *c, struct shim_psk *p)
{
    int repeats = atomic_load(&c->repeats);
    struct shim_hello *h = repeats == 0 ? OPENSSL_zalloc(sizeof(*h)) : NULL;
    if (h != NULL) {
        repeats = shim_hello_make(c->ssl, &p->tape, h) && SHIM_REC_HEAD + h->len == p->hello_len &&
                          memcmp(h->head, p->hello, SHIM_REC_HEAD) == 0 &&
                          memcmp(h->message, p->hello + SHIM_REC_HEAD, h->len) == 0
                      ? 1
                      : -1;
        atomic_store(&c->repeats, repeats);
        OPENSSL_clear_free(h, sizeof(*h));
    }
    return repeats > 0;
}

struct shim_psk *
shim_psk_offer(struct shim_ctx *c, const struct shim_ticket *t)
{
    const struct shim_hello *h = atomic_load(&c->repeats) >= 0 ? template(c) : NULL;
    struct shim_psk *p = h != NULL ? OPENSSL_zalloc(sizeof(*p)) : NULL;
    if (p == NULL)
        return NULL;
    memcpy(p->peer, t->peer, sizeof(p->peer));
    memcpy(p->tape.id, t->id, sizeof(p->tape.id));
    if (shim_ticket_open(t, c, p->tape.psk) && shim_tape_record(&p->tape) &&
        shim_sched_init(&p->sched, p->tape.psk) && hello_fill(p, h) && is_repeated(c, p))
        return p;
    shim_psk_free(p);
    return NULL;
}

/* The server's share if this is a hello that takes our key; NULL for everything else. */
static const uint8_t *
accepted(const struct shim_psk *p, const uint8_t *message, size_t n)
{
    const uint8_t *share = NULL;
    bool version = false, key = false;
    struct shim_read r = {message, n, false};
    if (shim_read_number(&r, 1) != SHIM_MSG_SERVER_HELLO || shim_read_number(&r, 3) != r.left ||
        shim_read_number(&r, 2) != 0x0303)
        return NULL;
    (void)shim_read_bytes(&r, 32); /* in a HelloRetryRequest there is no share that we could use */
    struct shim_read id = shim_read_vector(&r, 1);
    if (id.left != sizeof(p->tape.session_id) || memcmp(id.p, p->tape.session_id, id.left) != 0 ||
        shim_read_number(&r, 2) != SHIM_SCHED_SUITE || shim_read_number(&r, 1) != 0)
        return NULL;
    struct shim_read list = shim_read_vector(&r, 2);
    while (shim_read_more(&list)) {
        uint32_t type = shim_read_number(&list, 2);
        struct shim_read v = shim_read_vector(&list, 2);
        if (type == 43 && v.left == 2 && !version)
            version = shim_read_number(&v, 2) == 0x0304;
        else if (type == 41 && v.left == 2 && !key)
            key = shim_read_number(&v, 2) == 0;
        else if (type == 51 && v.left == 36 && share == NULL && shim_read_number(&v, 4) == 0x001d0020)
            share = v.p;
        else
            return NULL;
    }
    return !list.bad && r.left == 0 && version && key ? share : NULL;
}

enum shim_psk_state
shim_psk_client_hello(struct shim_psk *p, const uint8_t *rec, size_t len)
{
    const uint8_t *message = rec + SHIM_REC_HEAD, *share = NULL;
    if (rec[0] == SHIM_REC_HANDSHAKE)
        share = accepted(p, message, len - SHIM_REC_HEAD);
    if (share == NULL)
        return SHIM_PSK_DECLINED;
    p->answered = true;
    enum mesh_err e = MESH_E_NO_MEMORY;
    if (shim_sched_add(&p->sched, message, len - SHIM_REC_HEAD))
        e = shim_psk_exchange(p, share);
    if (e == MESH_OK)
        return SHIM_PSK_MORE;
    return shim_psk_fail(p, e, e == MESH_E_HANDSHAKE ? SHIM_ALERT_ILLEGAL : SHIM_ALERT_INTERNAL);
}

/* EncryptedExtensions without any, for we asked for none, and Finished. */
static const uint8_t expected[] = {SHIM_MSG_EXTENSIONS, 0, 0, 2, 0, 0, SHIM_MSG_FINISHED, 0, 0, SHIM_SCHED_HASH};
#define EXTENSIONS_LEN 6u

static bool
reply(struct shim_psk *p)
{
    static const uint8_t ccs[] = {20, 3, 3, 0, 1, 1};
    uint8_t finished[SHIM_FINISHED_LEN];
    return shim_sched_add(&p->sched, p->messages + EXTENSIONS_LEN, SHIM_FINISHED_LEN) && shim_psk_keys(p) &&
           shim_psk_finished(p, p->client_secret, finished) && shim_psk_put(p, ccs, sizeof(ccs)) &&
           shim_psk_seal(p, SHIM_REC_HANDSHAKE, finished, sizeof(finished));
}

enum shim_psk_state
shim_psk_client_flight(struct shim_psk *p)
{
    uint8_t want[SHIM_FINISHED_LEN];
    size_t all = EXTENSIONS_LEN + SHIM_FINISHED_LEN;
    if (memcmp(p->messages, expected, p->have < sizeof(expected) ? p->have : sizeof(expected)) != 0 ||
        p->have > all)
        return shim_psk_fail(p, MESH_E_HANDSHAKE, SHIM_ALERT_UNEXPECTED);
    if (p->have < all)
        return SHIM_PSK_MORE;
    if (!shim_sched_add(&p->sched, p->messages, EXTENSIONS_LEN) ||
        !shim_psk_finished(p, p->server_secret, want))
        return shim_psk_fail(p, MESH_E_NO_MEMORY, SHIM_ALERT_INTERNAL);
    if (CRYPTO_memcmp(want, p->messages + EXTENSIONS_LEN, sizeof(want)) != 0)
        return shim_psk_fail(p, MESH_E_BAD_MAC, SHIM_ALERT_DECRYPT);
    return reply(p) ? SHIM_PSK_DONE : shim_psk_fail(p, MESH_E_NO_MEMORY, SHIM_ALERT_INTERNAL);
}
