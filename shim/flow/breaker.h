/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_breaker: circuit breakers: how many connections, connects under way and retries a service may have on
 * this host. Counted for every service, limited where its configuration says so. A slot remembers what it
 * counts as, so that each is taken back once, by whoever ends it; what killed processes leave meshd takes away.
 * Any thread, without the work lock.
 */
#ifndef SHIM_FLOW_BREAKER_H
#define SHIM_FLOW_BREAKER_H

#include <stdbool.h>

#include "mesh/snapshot.h"
#include "shim/core/slot.h"

/* A connect() begins. MESH_E_OVERFLOW, counted: it may not. */
enum mesh_err shim_breaker_enter(const struct mesh_snap_live *set) MESH_MUST_CHECK;
/* And has got no slot. */
void shim_breaker_cancel(const struct mesh_snap_live *set);
/* And has got one, which counts from now on. */
void shim_breaker_hold(struct shim_slot *s, const struct mesh_snap_live *set);

/* May it try another endpoint? If not, that is counted. */
bool shim_breaker_retry(struct shim_slot *s, const struct mesh_snap_live *set);
/* The endpoint that is tried next may be another service's (failover): then it counts there.
 * MESH_E_OVERFLOW, counted: it may not, and counts where it did. */
enum mesh_err shim_breaker_move(struct shim_slot *s, const struct mesh_snap_live *set) MESH_MUST_CHECK;
/* The program was told that it is connected, or will be told that it is not. */
void shim_breaker_connected(struct shim_slot *s);
/* The connection is over. */
void shim_breaker_leave(struct shim_slot *s);

#endif
