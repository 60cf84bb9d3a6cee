/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_hs: one TLS 1.3 handshake, bytes in and bytes out. The functions of shim_tls_ops under
 * hs_* (all but result to be called inside the gate), and the callbacks through which OpenSSL and
 * the verifier report to a handshake.
 */
#ifndef SHIM_TLS_HS_H
#define SHIM_TLS_HS_H

#include <openssl/ssl.h>

#include "shim/tls/tls.h"

/* Once, before all others. */
enum mesh_err shim_hs_init(void) MESH_MUST_CHECK;

struct shim_hs *shim_hs_new(int server, const char *expect_id);
void shim_hs_expect(struct shim_hs *hs, const char *id);
void shim_hs_free(struct shim_hs *hs);
enum shim_hs_state shim_hs_step(struct shim_hs *hs, const uint8_t *in, size_t len, uint8_t *out,
                                size_t cap, size_t *out_len);
void shim_hs_result(struct shim_hs *hs, struct shim_hs_result *res);

/* shim_tls_ops.tickets, hs_offer. */
void shim_hs_tickets(shim_ticket_find *find);
void shim_hs_offer(struct shim_hs *hs, const struct shim_ticket *t);

/* For the verifier: our role; takes the peer's ID, which is good until then, or refuses it (MESH_E_IDENTITY);
 * the verdict. */
int shim_hs_is_server(const struct shim_hs *hs);
enum mesh_err shim_hs_peer_id(struct shim_hs *hs, const char *id, size_t n, int64_t until) MESH_MUST_CHECK;
void shim_hs_verdict(struct shim_hs *hs, enum mesh_err e);

/* For SSL_CTX; the handshake is the SSL's app data. */
void shim_hs_on_keylog(const SSL *ssl, const char *line);
void shim_hs_on_info(const SSL *ssl, int where, int ret);

#endif
