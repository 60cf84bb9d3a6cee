/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_ctx: the process's identity and what is made of it once: the SSL_CTX with decoded chain,
 * key and bundle. Counted by reference; a new identity leaves running handshakes theirs.
 */
#ifndef SHIM_TLS_CTX_H
#define SHIM_TLS_CTX_H

#include <stdatomic.h>

#include <openssl/ssl.h>

#include "mesh/err.h"
#include "shim/tls/seen.h"
#include "shim/tls/spiffe.h"
#include "shim/tls/tls.h"

struct shim_hello;

struct shim_ctx {
    atomic_uint refs;
    SSL_CTX *ssl; /* both roles */
    size_t td_len;
    char td[SHIM_SPIFFE_TD_MAX + 1];
    struct shim_ctx *retired; /* next in the list of those whose base reference is still held */
    uint8_t ticket_key[32], who[16]; /* see ticket.c */
    struct shim_hello *_Atomic hello; /* see psk_client.c; NULL until one was needed */
    atomic_int repeats; /* OpenSSL's hello: 1, it does; -1, it does not; 0: not known */
    struct shim_seen seen;    /* peers verified under this identity */
};

/* See shim_tls_ops.identity_set. Any thread. */
enum mesh_err shim_ctx_set(const struct shim_identity *id) MESH_MUST_CHECK;

/* A reference to the current identity, NULL when there is none. Any thread, after fork. */
struct shim_ctx *shim_ctx_get(void);
void shim_ctx_put(struct shim_ctx *c); /* NULL is fine */

/* Forgets the current identity (for tests). */
void shim_ctx_fini(void);

#endif
