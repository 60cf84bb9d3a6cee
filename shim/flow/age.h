/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_age: connections that end by time: idle_timeout and max_connection_age of their service. Nothing is
 * noted when bytes pass: when the time is over the kernel is asked how long ago that was. Private to the process,
 * copied by fork. A process that has such connections counts as one with work under way (work.h), so that its
 * waiting calls drive this; they sleep until the next one is due. All functions but those that say otherwise: under
 * the work lock.
 *
 * The peer gets close_notify and FIN. The program reads what had come and then the end, and its next write says
 * ECONNRESET, as when a proxy between the two had ended it.
 */
#ifndef SHIM_FLOW_AGE_H
#define SHIM_FLOW_AGE_H

#include "mesh/snapshot.h"
#include "shim/core/slot.h"

/* The connection is open, and these are its service's times. */
void shim_age_open(int fd, const struct shim_slot *s, const struct mesh_snap_limits *l);
/* When shim_age_drive has something to do, CLOCK_MONOTONIC ns; SHIM_NEVER: not. Also without the lock. */
uint64_t shim_age_next(void);
void shim_age_drive(void);
/* A descriptor of a connection is no more: if it was the last of one of these here, the process is to forget it
 * soon, and all of them if none is left. Without the lock, any thread. */
void shim_age_closed(void);

#endif
