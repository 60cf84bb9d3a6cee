/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_psk, the server's part. A hello that is not exactly what our clients send when they resume, with a key that
 * we know, is OpenSSL's.
 */
#include "shim/tls/psk.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "shim/tls/mem.h"
#include "shim/tls/suite.h"
#include "shim/tls/ticket.h"

static bool
is_ours(const struct shim_hello_parts *at)
{
    return at->tls13 && at->aes128 && at->dhe_mode && !at->early_data && at->share != 0 && at->identity != 0 &&
           at->binder != 0;
}

/* The client has the key: 1; it has not: 0; out of memory: -1. */
static int
binder_check(const struct shim_sched *s, const uint8_t *message, const struct shim_hello_parts *at)
{
    uint8_t hash[SHIM_SCHED_HASH], want[SHIM_SCHED_HASH];
    if (EVP_Digest(message, at->binders, hash, NULL, shim_suite_find(SHIM_SCHED_SUITE)->md, NULL) != 1 ||
        !shim_sched_binder(s, hash, want))
        return -1;
    return CRYPTO_memcmp(want, message + at->binder, sizeof(want)) == 0;
}

/* [RFC8446 4.1.3]: the client's session ID, and three extensions: version, share, which key. */
static bool
server_hello(struct shim_psk *p, const uint8_t *message, const struct shim_hello_parts *at,
             const uint8_t public[32])
{
    static const uint8_t before_share[] = {0x13, 0x01, 0, 0, 52, /* suite, compression, extensions */
                                           0, 43, 0, 2, 3, 4, 0, 51, 0, 36, 0, 0x1d, 0, 32};
    static const uint8_t after_share[] = {0, 41, 0, 2, 0, 0};
    uint8_t m[SHIM_REC_HEAD + 160], *body = m + SHIM_REC_HEAD;
    size_t n = 0;
    const uint8_t head[] = {SHIM_MSG_SERVER_HELLO, 0, 0, (uint8_t)(2 + 32 + 1 + at->session_id_len + 5 + 52), 3, 3};
    memcpy(body, head, sizeof(head));
    n += sizeof(head);
    if (RAND_bytes(body + n, 32) != 1)
        return false;
    n += 32;
    body[n++] = (uint8_t)at->session_id_len;
    memcpy(body + n, message + at->session_id, at->session_id_len);
    n += at->session_id_len;
    memcpy(body + n, before_share, sizeof(before_share));
    n += sizeof(before_share);
    memcpy(body + n, public, 32);
    n += 32;
    memcpy(body + n, after_share, sizeof(after_share));
    n += sizeof(after_share);
    const uint8_t rec[] = {SHIM_REC_HANDSHAKE, 3, 3, 0, (uint8_t)n};
    memcpy(m, rec, sizeof(rec));
    return shim_sched_add(&p->sched, body, n) && shim_psk_put(p, m, SHIM_REC_HEAD + n);
}

/* Nothing to say in EncryptedExtensions, and Finished. */
static bool
flight(struct shim_psk *p)
{
    static const uint8_t extensions[] = {SHIM_MSG_EXTENSIONS, 0, 0, 2, 0, 0};
    uint8_t m[sizeof(extensions) + SHIM_FINISHED_LEN], *finished = m + sizeof(extensions);
    memcpy(m, extensions, sizeof(extensions));
    return shim_sched_add(&p->sched, extensions, sizeof(extensions)) &&
           shim_psk_finished(p, p->server_secret, finished) &&
           shim_sched_add(&p->sched, finished, SHIM_FINISHED_LEN) &&
           shim_psk_seal(p, SHIM_REC_HANDSHAKE, m, sizeof(m)) && shim_psk_keys(p);
}

static void
answer(struct shim_psk *p, const uint8_t *message, size_t n, const struct shim_hello_parts *at)
{
    static const uint8_t ccs[] = {20, 3, 3, 0, 1, 1};
    uint8_t private[32], public[32];
    int binder = binder_check(&p->sched, message, at);
    if (binder != 1) {
        (void)shim_psk_fail(p, binder == 0 ? MESH_E_BAD_MAC : MESH_E_NO_MEMORY,
                            binder == 0 ? SHIM_ALERT_DECRYPT : SHIM_ALERT_INTERNAL);
        return;
    }
    enum mesh_err e = MESH_E_NO_MEMORY;
    if (RAND_priv_bytes(private, sizeof(private)) == 1 && shim_psk_share(p, private, public) &&
        shim_sched_add(&p->sched, message, n) && server_hello(p, message, at, public))
        e = shim_psk_exchange(p, message + at->share);
    shim_mem_wipe(private, sizeof(private));
    if (e == MESH_OK && !((at->session_id_len == 0 || shim_psk_put(p, ccs, sizeof(ccs))) && flight(p)))
        e = MESH_E_NO_MEMORY;
    if (e == MESH_OK)
        return;
    p->out_len = 0; /* instead of half a flight */
    memset(&p->tx, 0, sizeof(p->tx));
    (void)shim_psk_fail(p, e, e == MESH_E_HANDSHAKE ? SHIM_ALERT_ILLEGAL : SHIM_ALERT_INTERNAL);
}

struct shim_psk *
shim_psk_accept(const struct shim_ctx *c, const uint8_t *rec, size_t len, shim_ticket_find *find)
{
    struct shim_hello_parts at;
    struct shim_ticket t;
    uint8_t secret[SHIM_TICKET_SECRET];
    const uint8_t *message = rec + SHIM_REC_HEAD;
    size_t n = len - SHIM_REC_HEAD;
    if (find == NULL || len <= SHIM_REC_HEAD || rec[0] != SHIM_REC_HANDSHAKE || rec[1] != 3 ||
        ((size_t)rec[3] << 8 | rec[4]) != n || !shim_hello_parse(message, n, &at) || !is_ours(&at) ||
        !find(message + at.identity, &t) || memcmp(t.id, message + at.identity, sizeof(t.id)) != 0 ||
        !shim_ticket_open(&t, c, secret))
        return NULL;
    struct shim_psk *p = OPENSSL_zalloc(sizeof(*p));
    if (p != NULL) {
        p->server = p->answered = true;
        memcpy(p->peer, t.peer, sizeof(p->peer));
        if (shim_sched_init(&p->sched, secret))
            answer(p, message, n, &at);
        else
            (void)shim_psk_fail(p, MESH_E_NO_MEMORY, SHIM_ALERT_INTERNAL);
    }
    shim_mem_wipe(secret, sizeof(secret));
    return p;
}

enum shim_psk_state
shim_psk_server_flight(struct shim_psk *p)
{
    uint8_t want[SHIM_FINISHED_LEN];
    if (p->have < SHIM_FINISHED_LEN)
        return SHIM_PSK_MORE;
    if (p->have > SHIM_FINISHED_LEN || memcmp(p->messages, "\x14\0\0\x20", 4) != 0)
        return shim_psk_fail(p, MESH_E_HANDSHAKE, SHIM_ALERT_UNEXPECTED);
    if (!shim_psk_finished(p, p->client_secret, want))
        return shim_psk_fail(p, MESH_E_NO_MEMORY, SHIM_ALERT_INTERNAL);
    if (CRYPTO_memcmp(want, p->messages, sizeof(want)) != 0)
        return shim_psk_fail(p, MESH_E_BAD_MAC, SHIM_ALERT_DECRYPT);
    return SHIM_PSK_DONE;
}
