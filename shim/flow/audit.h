/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_audit: the two locks of a connection, and what to do when their holder died in between.
 *
 * Processes that share a connection may be killed at any instruction. What the dead one had begun is
 * in the slot (rx_busy, tx_busy), and how far it came the kernel knows to the byte:
 *
 *   consumed = tcpi_bytes_received - SIOCINQ      written = tcpi_bytes_acked + SIOCOUTQ
 *
 * (a client's SYN counts as one byte). rx_raw and tx_raw are where the stream was at the last commit.
 * Nothing moved, or all of it did: the connection goes on, and no sequence number is used twice for
 * bytes that left. A part of it moved: what is missing died with the process, so the connection is
 * reset, for both ends (HOLDER_DIED).
 *
 * Locking: 0, or -EAGAIN (not taken: a signal handler above the holder, or with try somebody works),
 * or -ECONNRESET (not taken: the holder is stopped, and the connection was given up).
 */
#ifndef SHIM_FLOW_AUDIT_H
#define SHIM_FLOW_AUDIT_H

#include "shim/core/slot.h"

int shim_audit_rx(int fd, struct shim_slot *s, bool try);
int shim_audit_tx(int fd, struct shim_slot *s, bool try);

/* Around everything that takes bytes out of the kernel or changes what was taken. */
static inline void
shim_audit_rx_begin(struct shim_slot *s)
{
    s->rx_begin = s->rx_raw;
    atomic_store_explicit(&s->rx_busy, 1, memory_order_release);
}

static inline void
shim_audit_rx_end(struct shim_slot *s)
{
    atomic_store_explicit(&s->rx_busy, 0, memory_order_release);
}

/* Before records are sealed; then how long they are, before they are sent (until then nothing leaves, and what stands there
 * of the last ones says no more than that there were any); then the end. `once`: a
 * KeyUpdate, after which the keys change: sent in part or in whole it cannot be made up for. */
static inline void
shim_audit_tx_begin(struct shim_slot *s, uint64_t seq, bool once)
{
    s->tx_begin = s->tx_raw;
    s->tx_seq = seq;
    atomic_store_explicit(&s->tx_busy, once ? 2 : 1, memory_order_release);
}

static inline void
shim_audit_tx_plan(struct shim_slot *s, size_t len)
{
    atomic_store_explicit(&s->tx_plan, (uint32_t)len, memory_order_release);
}

/* Data has been sent on the open connection, or is being sent just now; to be asked without the lock. */
static inline bool
shim_audit_has_sent(const struct shim_slot *s)
{
    return atomic_load_explicit(&s->tx_plan, memory_order_relaxed) > 0;
}

static inline void
shim_audit_tx_end(struct shim_slot *s)
{
    atomic_store_explicit(&s->tx_busy, 0, memory_order_release);
}

#endif
