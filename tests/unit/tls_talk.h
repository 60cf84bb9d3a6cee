/* SPDX-License-Identifier: Apache-2.0
 *
 * tls_talk: two ends in one process, joined by two byte queues; an end is the engine's handshake
 * or an OpenSSL SSL over memory BIOs.
 */
#ifndef TESTS_TLS_TALK_H
#define TESTS_TLS_TALK_H

#include <openssl/ssl.h>

#include "shim/tls/tls.h"

struct talk_queue {
    uint8_t bytes[256 << 10];
    size_t at, len;
};

/* One whole record (at most one) off the queue; its length, 0 when there is none yet. */
size_t talk_record(struct talk_queue *q, const uint8_t **rec);
void talk_put(struct talk_queue *q, const void *p, size_t n);

struct talk_end {
    struct shim_hs *hs; /* one of the two */
    SSL *ssl;
    enum shim_hs_state state; /* of either kind */
    struct shim_hs_result res; /* of hs, once the state is final */
    struct talk_queue in;     /* what the other end sent */
    size_t cap;               /* bytes of output to take at a time; 0: plenty */
};

/* Runs both ends until neither moves. Record by record, as the contract of hs_step asks. */
void talk_run(struct talk_end *a, struct talk_end *b);

/* A fresh pair on the heap; free with talk_free, which frees what the ends hold. */
struct talk_pair {
    struct talk_end client, server;
};
struct talk_pair *talk_new(void);
void talk_free(struct talk_pair *p);

/* Encrypted bytes between the SSL and the queues after the handshake. */
void talk_ssl_feed(SSL *ssl, struct talk_queue *in);
void talk_ssl_drain(SSL *ssl, struct talk_queue *out);
/* Gives the SSL memory BIOs. */
void talk_ssl_bios(SSL *ssl);

#endif
