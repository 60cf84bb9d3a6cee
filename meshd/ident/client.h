/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_ident_client: TLS as meshd itself speaks it with endpoints of the mesh: mutual, 1.3, and the other
 * side must show one SPIFFE ID. Inside ident/ only, since it shows OpenSSL's types.
 */
#ifndef MESHD_IDENT_CLIENT_H
#define MESHD_IDENT_CLIENT_H

#include <openssl/ssl.h>

#include "meshd/ident/ca.h"

/* Shows svid and trusts its bundle; NULL on failure. Copies what it needs. */
SSL_CTX *meshd_ident_client_ctx(const struct meshd_svid *svid);
/* To be called on each connection before its handshake, which fails if the peer's ID is not `id`. Borrowed
 * as long as ssl is. */
void meshd_ident_client_expect(SSL *ssl, const char *id);

#endif
