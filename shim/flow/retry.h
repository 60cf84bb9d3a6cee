/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_retry: connect() to a service: one endpoint after the other on the same socket, until one of them
 * has finished the TLS handshake or the budget is used up [DESIGN D4]. The program sees one connect.
 * It goes on only while the program has not been told "connected": nothing of it can have been seen by a
 * peer. All functions: under the work lock, if not said otherwise.
 *
 *            ┌────────── failed, and another is left ───────────┐
 *            v                                                  │
 *         PAUSED ──jitter──> connect ──> TCP up ──> handshake ──┴──> open, or the last one's errno
 */
#ifndef SHIM_FLOW_RETRY_H
#define SHIM_FLOW_RETRY_H

#include "shim/flow/work.h"
#include "shim/route/fault.h"

/* A connect() of fd, to an address that the look-up says is a service's: what it takes, and its
 * first endpoint. Without the lock. */
struct shim_retry_plan {
    struct shim_attempts tries;
    struct mesh_snap_hit hit;
    struct shim_candidate first;
    struct mesh_addr asked;
};
enum mesh_err shim_retry_plan(struct shim_retry_plan *p, int fd, const struct mesh_addr *to) MESH_MUST_CHECK;

/* The same for one endpoint's own address, which hit names: it alone is tried, as long as the kernel does. */
enum mesh_err shim_retry_plan_one(struct shim_retry_plan *p, int fd, const struct mesh_addr *to,
                                  const struct mesh_snap_hit *hit) MESH_MUST_CHECK;

/* Begins with the first endpoint, as f says: later, or never. 0: TCP is up; -EINPROGRESS, also when the first failed at once and
 * others are left; or the errno of the only one. Never sleeps. */
int shim_retry_start(struct shim_work *w, const struct shim_retry_plan *p, const struct shim_faults *f);

/* The attempt failed, for `e` or with errno `no` (0: the kernel has it). True when another one follows;
 * then the phase is CONNECTING. False: the failure is the connect's. */
bool shim_retry_after(struct shim_work *w, enum mesh_err e, int no);

/* Phase CONNECTING: true when TCP is up. *failed: the last endpoint's TCP failed, the kernel has the
 * errno. Neither: wait on, or the phase is FAILED. */
bool shim_retry_up(struct shim_work *w, bool *failed);

/* Phase HANDSHAKE, not yet told: ends what takes too long. */
void shim_retry_expire(struct shim_work *w, uint64_t now);

/* The connect() is over and failed: notes whether an attempt was left. */
void shim_retry_note(const struct shim_work *w);

/* When this one needs to be looked at, SHIM_NEVER if not because of attempts. */
uint64_t shim_retry_deadline(const struct shim_work *w);

/* The program is told "connected" while the peer is silent. */
void shim_retry_waits(struct shim_work *w);
/* The handshake is done. */
void shim_retry_won(struct shim_work *w);

/* The connection is none of the endpoint's and of the service's any more. Any thread, without the lock. */
void shim_retry_leave(struct shim_slot *s);

/* It was open and has ended: well, unless it was seen otherwise. As above, and before that. */
void shim_retry_ended(const struct shim_slot *s);

/* A blocking connect() ends well: the kernel, to which it was none, takes note. Without the lock. */
void shim_retry_settle(int fd, const struct shim_slot *s);

/* Dissolves what the socket was or tried to be; its errno with it. Any thread, without the lock. */
void shim_retry_disconnect(int fd);

#endif
