/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_live: the live state that connections share (mesh/live.h). Before there is one for the host it
 * is this process's own, and small. Any thread, signal-safe, no locks.
 */
#ifndef SHIM_CORE_LIVE_H
#define SHIM_CORE_LIVE_H

#include "mesh/live.h"

void shim_live_share(struct mesh_live *live); /* a mapping, for good; earlier counts stay where they are */

/* Whatever the number, there is an entry. To look at; who is going to write takes shim_live_use. */
struct mesh_live_endpoint *shim_live_endpoint(uint32_t id);
struct mesh_live_service *shim_live_service(uint32_t entry);
struct mesh_live_endpoint *shim_live_use(uint32_t id);

/* Open connections of the endpoint with this id, attempts included. */
uint32_t shim_live_active(uint32_t id);
void shim_live_enter(uint32_t id);
void shim_live_leave(uint32_t id); /* never below zero */

/* What a connection that is up shows of its endpoint: it answered, or it reset before it sent anything. */
void shim_live_answered(uint32_t id);
void shim_live_failed(uint32_t id);

/* Numbers one after the other for each service. */
uint64_t shim_live_turn(const char *service);
/* What limits have spent (common/limits.h): MESH_LIMITS entries. */
struct mesh_limit *shim_live_limits(void);

#endif
