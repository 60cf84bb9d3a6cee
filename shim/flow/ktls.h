/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_ktls: connections that the kernel encrypts [DESIGN D5; Documentation/networking/tls.rst]. A
 * hand-over is for good: keys and sequence numbers go to the kernel, the phase becomes
 * SHIM_PHASE_KERNEL for every holder at once, and what stays in the slot are the *next* keys of both
 * directions, which nothing was ever sealed with: for KeyUpdate, on kernels that can follow one.
 *
 * From then on read and write of any program work on the descriptor. Programs under libmesh still come
 * here, for what the kernel does not do: close_notify both ways, alerts, KeyUpdate, FIONREAD.
 *
 * Results are a count or -errno; nothing sleeps unless it says so. Locks as in rx.h and tx.h.
 */
#ifndef SHIM_FLOW_KTLS_H
#define SHIM_FLOW_KTLS_H

#include <sys/types.h>

#include "shim/core/slot.h"
#include "shim/flow/iov.h"

/* The policy wants every connection in the kernel, and nothing says yet that the kernel cannot. */
bool shim_ktls_always(void);
/* Hands the connection behind fd over. 0: it is in the kernel. -EAGAIN: something stands before it
 * that time, or room in the socket, may remove. Other: it stays as it was, for a reason that is
 * counted. No lock held but the work lock; never waits for one. */
int shim_ktls_give(int fd, struct shim_slot *s);

/* For a program that cannot be under libmesh: what stands before a hand-over gets the linger time. True
 * when the connection is in the kernel; libmesh then leaves its end to that program. May sleep. */
bool shim_ktls_give_away(int fd, struct shim_slot *s);

/* As their namesakes in rx.h, tx.h. The caller holds the lock of the direction. */
ssize_t shim_ktls_take(int fd, struct shim_slot *s, struct shim_iov *room);
ssize_t shim_ktls_peek(int fd, struct shim_slot *s, struct shim_iov *room);
ssize_t shim_ktls_available(int fd, struct shim_slot *s);
/* True when plaintext waits behind the control records that were consumed. */
bool shim_ktls_drain_control(int fd, struct shim_slot *s);
/* The kernel's error r for a connection in its hands, found by another call: what the program is told
 * (-errno, or 0: the end). Of other connections r itself. */
ssize_t shim_ktls_failed(int fd, struct shim_slot *s, ssize_t r);
/* The program was told r (by SO_ERROR). */
void shim_ktls_told(struct shim_slot *s, ssize_t r);
ssize_t shim_ktls_put(int fd, struct shim_slot *s, struct shim_iov *data);
int shim_ktls_close_notify(int fd, struct shim_slot *s);

#endif
