/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_shape: connections whose bytes are meddled with, because the configuration wants to see what programs
 * make of it: SHIM_SF_SHAPED. Calls on all others never come here.
 *
 * slow_read hands out what the rate allows, and then the kernel is asked not to say "readable" (SO_RCVLOWAT)
 * until there is something to hand out again; an item of work has the time. When the peer's end is here
 * the kernel says so whatever we ask: then the rest is handed out at once.
 */
#ifndef SHIM_FLOW_SHAPE_H
#define SHIM_FLOW_SHAPE_H

#include <sys/types.h>

#include "shim/core/slot.h"
#include "shim/flow/iov.h"
#include "shim/route/fault.h"

/* The connection that begins gets f's fault, if it has one. */
void shim_shape_begin(struct shim_slot *s, const struct shim_faults *f);
/* It is open: true when that was its end. */
bool shim_shape_opened(int fd, struct shim_slot *s);

/* As shim_rx_take, which calls it; under rx_lock. */
ssize_t shim_shape_read(int fd, struct shim_slot *s, struct shim_iov *room);
/* The time that an item of work had is over: readable again as the kernel means it. False: not now,
 * another one has the lock. Under the work lock. */
bool shim_shape_wake(int fd, struct shim_slot *s);

struct shim_work;
/* Other processes have the connection, too, or will have it: what the kernel is asked for is so for them, and they do
 * not know until when. So nothing is held back for now; who reads next does it anew. (Of a process that is killed
 * it stays, until somebody reads or the socket is half full.) Under the work lock; for a slot without. */
void shim_shape_share(struct shim_work *w);
void shim_shape_leave(const struct shim_slot *s);

/* How much one call may write now; then what it wrote. Without locks. */
size_t shim_shape_room(const struct shim_slot *s);
void shim_shape_wrote(int fd, struct shim_slot *s, size_t n);
/* A call that wrote something ends here, though there was room: who waits for an edge is given one. */
bool shim_shape_cuts(int fd, const struct shim_slot *s);

#endif
