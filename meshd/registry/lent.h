/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_lent: memory of connections that programs pass to each other (mesh/wire.h, LEND and CLAIM).
 * meshd never looks into it: it keeps the descriptor for whoever comes with the socket.
 *
 * Bounded: MESHD_LENT_MAX connections, the oldest is forgotten first; what was forgotten is refused.
 */
#ifndef MESHD_REGISTRY_LENT_H
#define MESHD_REGISTRY_LENT_H

#include <stdbool.h>
#include <stdint.h>

#include "mesh/err.h"
#include "meshd/base/peer.h"

#define MESHD_LENT_MAX 8192u

/* Takes *fd (and sets it to -1). PROTOCOL: that is no memfd. NO_MEMORY. */
enum mesh_err meshd_lent_put(const struct meshd_peer *peer, uint64_t cookie, int *fd) MESH_MUST_CHECK;
/* The region of the connection behind `sock`: a new descriptor for the caller, -1 when there is none
 * for this peer. False when that connection was not lent. */
bool meshd_lent_get(const struct meshd_peer *peer, int sock, int *fd);
/* Of a socket that a peer shows; 0 if it is none. */
uint64_t meshd_lent_cookie(int sock);
void meshd_lent_fini(void);

#endif
