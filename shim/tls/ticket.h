/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_ticket: what two ends keep of a full handshake, to resume it [RFC8446 2.2]. Both derive the same
 * pre-shared key and its name from the connection's exporter secret [RFC8446 7.5], so nothing goes over the wire: to TLS
 * it is a key that was provided otherwise [RFC8446 4.2.11]. Each role has tickets of its own: a key that
 * was made as a client's is never looked up by a server [RFC9257 4.1].
 *
 * A ticket says who the peer was, and until when (an hour, and no longer than the peer's certificates). The
 * key in it is sealed with a secret of the identity that made it: tickets lie in memory that processes
 * of other identities may share.
 */
#ifndef SHIM_TLS_TICKET_H
#define SHIM_TLS_TICKET_H

#include <stdbool.h>

#include <openssl/ssl.h>

#include "shim/tls/ctx.h"
#include "shim/tls/tls.h"

#define SHIM_TICKET_SECRET 32u

/* Of a full handshake that `ssl` has finished; `until` as the certificates have it. t->until is 0 when
 * there is to be none. */
void shim_ticket_make(struct shim_ticket *t, const struct shim_ctx *c, SSL *ssl, const char *peer,
                      int64_t until);
/* Its key, if this identity made it and it is still good. */
bool shim_ticket_open(const struct shim_ticket *t, const struct shim_ctx *c,
                      uint8_t secret[SHIM_TICKET_SECRET]);

#endif
