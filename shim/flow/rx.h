/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_rx: the receive side of an open connection [DESIGN D2]. The invariant that everything else
 * rests on: when a call returns, the socket is readable in the kernel exactly when a complete
 * record, the end or an error waits for the program.
 *
 * Bytes, not errno: results are a count or -errno; -EAGAIN means that nothing is there now. None
 * of these sleeps; the caller waits without a lock.
 */
#ifndef SHIM_FLOW_RX_H
#define SHIM_FLOW_RX_H

#include <sys/types.h>

#include "shim/core/slot.h"
#include "shim/flow/iov.h"

/* Takes what is there, up to room->left bytes; 0 is the end. */
ssize_t shim_rx_take(int fd, struct shim_slot *s, struct shim_iov *room);
/* As shim_rx_take but leaves everything in place. */
ssize_t shim_rx_peek(int fd, struct shim_slot *s, struct shim_iov *room);
/* Plaintext bytes of complete records that wait, for FIONREAD. */
ssize_t shim_rx_available(int fd, struct shim_slot *s);
/* n bytes of plaintext went to the program. */
void shim_rx_count(struct shim_slot *s, size_t n);
/* The kernel says, anywhere, that the peer has reset the connection: of an endpoint that was chosen and has sent
 * nothing yet, that is a failure. Any thread, without the lock. */
void shim_rx_reset(struct shim_slot *s);
/* Before close: consumes control records that would turn the FIN into a reset. */
void shim_rx_drain_control(int fd, struct shim_slot *s);

#endif
