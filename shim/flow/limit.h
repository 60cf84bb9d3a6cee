/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_limit: what a service's configuration says about its connections (mesh_snap_limits): on the client's
 * side faults, on the server's how many connections a caller may have and open.
 */
#ifndef SHIM_FLOW_LIMIT_H
#define SHIM_FLOW_LIMIT_H

#include "common/snap.h"
#include "shim/flow/work.h"
#include "shim/route/fault.h"

/* A connect() to hit's service is about to begin: its faults. Any thread, without locks. */
void shim_limit_client(const struct mesh_snap_hit *hit, uint16_t port, struct shim_faults *out);

/* A connection was accepted by a listener of this service: its limits count when the handshake is done, for
 * then the caller is known. Without locks; may ask meshd, once. */
void shim_limit_server(const struct mesh_snap_service *service, struct shim_limit_of *out);

/* The same of a service to which a connection begins. Any thread. */
void shim_limit_note(const struct mesh_snap_service *service, struct shim_limit_of *out);

/* The connection is open: what its service's configuration wants of the socket. Under the work lock. */
void shim_limit_opened(struct shim_work *w);

/* The caller is `id`: MESH_OK, and it counts from now on; else why not. Under the work lock. */
enum mesh_err shim_limit_admit(struct shim_work *w, const char *id) MESH_MUST_CHECK;
/* Whether connections may be refused for who the caller is. Any thread. */
bool shim_limit_by_caller(const struct shim_limit_of *of);
/* A connection was accepted that would be refused whoever the caller is: it is, without a handshake. In mode
 * permissive only if it is not plaintext for sure. Under the work lock. */
bool shim_limit_turns_away(struct shim_work *w, enum mesh_mode mode);
/* It does not count any more; more than once is fine. Any thread. */
void shim_limit_leave(struct shim_slot *s);
/* The handshake has ended in that the limits forbid the connection: the program need not see it. */
bool shim_limit_refused(const struct shim_slot *s);

#endif
