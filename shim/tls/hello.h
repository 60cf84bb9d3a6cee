/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_hello: the ClientHello that OpenSSL makes under an identity when it is given a pre-shared key, and where
 * in it lies what differs from one to the next. psk_client.c fills that in, at a tenth of the cost.
 */
#ifndef SHIM_TLS_HELLO_H
#define SHIM_TLS_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "shim/tls/tape.h"
#include "shim/tls/tls.h"

#define SHIM_HELLO_MAX 1024u

/* A parsed ClientHello: offsets from the handshake message's first byte; 0: not there. */
struct shim_hello_parts {
    uint16_t random, session_id, session_id_len; /* 32 bytes; the bytes of the ID */
    uint16_t share;    /* X25519, 32 bytes */
    uint16_t identity; /* the first one, if it is SHIM_PSK_ID bytes long */
    uint16_t binders;  /* where the hash for the binders ends */
    uint16_t binder;   /* the first one, if it is a SHA-256 long */
    bool tls13, aes128, dhe_mode, early_data;
};

struct shim_hello {
    uint16_t len; /* of the handshake message */
    uint8_t head[SHIM_REC_HEAD];
    struct shim_hello_parts at;
    uint8_t message[SHIM_HELLO_MAX];
};

/* False for what is no well-formed hello of at most SHIM_HELLO_MAX bytes: then OpenSSL has the last word. */
bool shim_hello_parse(const uint8_t *message, size_t n, struct shim_hello_parts *at);

/* Has OpenSSL make one from that tape; false: not of the expected shape. */
bool shim_hello_make(SSL_CTX *ssl, struct shim_tape *t, struct shim_hello *h);

/* For SSL_CTX_set_psk_use_session_callback: the key of the tape in force. */
int shim_hello_on_psk(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *len, SSL_SESSION **out);

#endif
