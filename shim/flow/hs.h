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

#include "shim/flow/work.h"

/* True when the item has nothing more to do and must be dropped. */
bool shim_hs_drive(struct shim_work *w);
/* What to poll for; 0 when only time helps. */
short shim_hs_events(const struct shim_work *w);
uint64_t shim_hs_deadline(const struct shim_work *w);

/* A server has something to say, its end too, that a client which is silent may wait for. */
void shim_hs_spoke(struct shim_work *w);

#endif
