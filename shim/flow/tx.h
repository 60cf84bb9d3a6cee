/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_tx: the send side of an open connection [DESIGN D2]. Plaintext counts as written once a
 * record that holds it has begun to leave; the rest of such a record waits in the tail (tx_spill)
 * and goes before any other byte. Records of which no byte has left are taken back: their sequence
 * numbers were never seen by anyone.
 *
 * Results are a count or -errno; nothing here sleeps or raises SIGPIPE. The caller holds tx_lock.
 */
#ifndef SHIM_FLOW_TX_H
#define SHIM_FLOW_TX_H

#include "shim/core/slot.h"
#include "shim/flow/iov.h"

/* Sends what it can of data; -EAGAIN when nothing could go. more: MSG_MORE or 0. */
ssize_t shim_tx_put(int fd, struct shim_slot *s, struct shim_iov *data, int more);
/* The same for one byte, which the peer is to see as urgent (mark.h). */
__attribute__((cold)) ssize_t shim_tx_urgent(int fd, struct shim_slot *s, struct shim_iov *data);
/* 0 when the tail is gone, -EAGAIN, or -errno. */
int shim_tx_flush(int fd, struct shim_slot *s);
/* Sends close_notify once; -EAGAIN when a tail stands before it. The caller ends the stream right
 * after (close, shutdown), which is what pushes it out. */
int shim_tx_close_notify(int fd, struct shim_slot *s);

/* n bytes that the kernel sealed. */
void shim_tx_count(struct shim_slot *s, size_t n);

#endif
