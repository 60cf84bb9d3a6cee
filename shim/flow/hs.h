/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_hs: driving one unfinished connection, a step at a time and without ever sleeping:
 *
 *   CONNECTING ──POLLOUT──> HANDSHAKE ──> OPEN ──early bytes, tail, FIN sent──> item done
 *        └─TCP failed: forgotten─┘└──> FAILED (socket shut down), or plaintext (forgotten)
 *
 * All functions: under the work lock.
 */
#ifndef SHIM_FLOW_HS_H
#define SHIM_FLOW_HS_H

#include "shim/flow/iov.h"
#include "shim/flow/work.h"

/* True when the item has nothing more to do and must be dropped. */
bool shim_hs_drive(struct shim_work *w);
/* What to poll for; 0 when only time helps. */
short shim_hs_events(const struct shim_work *w);
uint64_t shim_hs_deadline(const struct shim_work *w);

/* Accepts plaintext before TLS is up: bytes taken, 0 when the buffer is full. The cursor stays. */
size_t shim_hs_early(struct shim_work *w, const struct shim_iov *data);
/* A server has something to say, its end too, that a client which is silent may wait for. */
void shim_hs_spoke(struct shim_work *w);
/* The program writes to a client that ended without a byte. True: it is none of the mesh, and fd a plain socket now. */
bool shim_hs_late_plain(int fd, struct shim_slot *s);

#endif
