/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_psk: a handshake that resumes: a pre-shared key with a Diffie-Hellman exchange, TLS_AES_128_GCM_SHA256
 * and X25519 [RFC8446 2.2]. No certificates, no signatures; OpenSSL has the primitives, the five
 * messages are ours, for OpenSSL's own way to them costs more than both key exchanges.
 *
 *   client                                 server
 *   shim_psk_offer    -- ClientHello -->   shim_psk_accept: NULL, and OpenSSL answers it
 *   shim_psk_step   <-- ServerHello, {EncryptedExtensions, Finished} --
 *                     -- {Finished} -->    shim_psk_step
 *
 * A client whose key was not taken goes on with OpenSSL: shim_psk_replay has it make the same hello.
 */
#ifndef SHIM_TLS_PSK_H
#define SHIM_TLS_PSK_H

#include <stdbool.h>

#include "shim/tls/ctx.h"
#include "shim/tls/hello.h"
#include "shim/tls/sched.h"
#include "shim/tls/tls.h"

#define SHIM_PSK_OUT (SHIM_HELLO_MAX + SHIM_REC_HEAD)

enum shim_psk_state {
    SHIM_PSK_MORE,
    SHIM_PSK_DONE,     /* keys in tx, rx */
    SHIM_PSK_FAILED,   /* err, alert */
    SHIM_PSK_DECLINED, /* client: the record is for OpenSSL */
};

struct shim_psk {
    bool server;
    bool answered; /* the server has taken the key, and said so */
    struct shim_sched sched;
    EVP_PKEY *share; /* our part of the exchange */
    struct shim_tape tape; /* client */
    uint8_t client_secret[SHIM_SCHED_HASH], server_secret[SHIM_SCHED_HASH]; /* handshake traffic's */
    struct shim_key tx, rx; /* the handshake's, then the application's */
    struct shim_key next_tx, next_rx;
    uint8_t session_id_len;
    uint8_t messages[256]; /* that came encrypted */
    size_t have;
    uint8_t out[SHIM_PSK_OUT]; /* to be sent; the caller takes it and sets out_len to 0 */
    size_t out_len;
    uint8_t hello[SHIM_PSK_OUT]; /* client: as it was sent, record header included */
    size_t hello_len;
    enum mesh_err err;
    uint8_t alert;
    char peer[MESH_ID_MAX];
};

/* A client's; NULL when the ticket is not for this identity any more, or out of memory. */
struct shim_psk *shim_psk_offer(struct shim_ctx *c, const struct shim_ticket *t);
/* A server's, for the first record of a client; NULL: OpenSSL's. */
struct shim_psk *shim_psk_accept(const struct shim_ctx *c, const uint8_t *rec, size_t len,
                                 shim_ticket_find *find);
void shim_psk_free(struct shim_psk *p); /* wipes; NULL is fine */

/* One whole record. */
enum shim_psk_state shim_psk_step(struct shim_psk *p, const uint8_t *rec, size_t len);

/* ---- between psk.c and the two roles ---- */

enum { /* [RFC8446 6] */
    SHIM_ALERT_UNEXPECTED = 10, SHIM_ALERT_BAD_MAC = 20, SHIM_ALERT_OVERFLOW = 22, SHIM_ALERT_BAD_CERT = 42,
    SHIM_ALERT_ILLEGAL = 47,
    SHIM_ALERT_DECODE = 50, SHIM_ALERT_DECRYPT = 51, SHIM_ALERT_INTERNAL = 80
};
enum { SHIM_MSG_SERVER_HELLO = 2, SHIM_MSG_EXTENSIONS = 8, SHIM_MSG_FINISHED = 20 };
#define SHIM_FINISHED_LEN (4u + SHIM_SCHED_HASH)

/* To be sent: as it is, or as a record under tx. False: no room. */
bool shim_psk_put(struct shim_psk *p, const uint8_t *bytes, size_t n);
bool shim_psk_seal(struct shim_psk *p, uint8_t type, const uint8_t *bytes, size_t n);
/* Puts the alert, too, unless it is the peer's. */
enum shim_psk_state shim_psk_fail(struct shim_psk *p, enum mesh_err e, uint8_t alert);

/* Our share of the exchange, X25519 [RFC7748]: its public part goes to `public`. */
bool shim_psk_share(struct shim_psk *p, const uint8_t private[32], uint8_t public[32]);
/* Hellos are in the transcript: the handshake's traffic keys. MESH_E_HANDSHAKE: the peer's share is no
 * point to compute with. */
enum mesh_err shim_psk_exchange(struct shim_psk *p, const uint8_t *peer);
/* The Finished message of `secret`'s owner over what was said so far; `out` has SHIM_FINISHED_LEN bytes. */
bool shim_psk_finished(const struct shim_psk *p, const uint8_t *secret, uint8_t *out);
/* The server's Finished is in the transcript: the application's keys. */
bool shim_psk_keys(struct shim_psk *p);

/* A ServerHello, or something else; what came encrypted. */
enum shim_psk_state shim_psk_client_hello(struct shim_psk *p, const uint8_t *rec, size_t len);
enum shim_psk_state shim_psk_client_flight(struct shim_psk *p);
enum shim_psk_state shim_psk_server_flight(struct shim_psk *p);

#endif
