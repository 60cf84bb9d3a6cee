/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_live: what changes with every connection and all processes share: how many connections each
 * endpoint and each service has now, how the last ones ended, who is ejected, and whose turn it is. Written
 * by all of them, so none of it is to be believed: it steers which endpoint is chosen among those that the
 * snapshot allows, and nothing else.
 *
 * Tables smaller than what they count: numbers that fall together share an entry. The memory is sparse: an
 * entry has a cache line of its own, touched when it is first used, and `used` says which ones were, so that
 * meshd can look after them without making the rest real.
 */
#ifndef MESH_LIVE_H
#define MESH_LIVE_H

#include <stdatomic.h>
#include <stdint.h>

#include "mesh/limits.h"

#define MESH_LIVE_MAGIC     UINT64_C(0x334556494c4d424c) /* "LBMLIVE3", goes up with the layout */
#define MESH_LIVE_ENDPOINTS 65536u /* by endpoint id */
#define MESH_LIVE_SERVICES  4096u  /* by the number that meshd gives a service, mesh_snap_live.entry */
#define MESH_LIVE_TURNS     1024u  /* by service name */

/* Counts are relaxed: nothing else is read because of them. Words that change as a whole by
 * compare-and-swap say everything that belongs together. */
struct mesh_live_endpoint {
    _Atomic uint32_t active;   /* connections, attempts included */
    _Atomic uint32_t failures; /* in a row */
    _Atomic uint64_t ejected;  /* common/outlier.h: until when, how often, who probes */
    _Atomic uint64_t latency;  /* of connect and handshake, common/ewma.h */
    _Atomic uint64_t since_ms; /* CLOCK_MONOTONIC: appeared, or came back; 0: long ago */
    _Atomic uint32_t good, bad; /* attempts, since ever; meshd takes differences */
    uint8_t pad[24];
};
_Static_assert(sizeof(struct mesh_live_endpoint) == 64, "a cache line");

struct mesh_live_service {
    _Atomic uint32_t active;  /* connections, attempts included */
    _Atomic uint32_t pending; /* connect() is under way */
    _Atomic uint32_t retries; /* of these, with an attempt that is not the first */
    _Atomic uint32_t ejected; /* endpoints now */
    _Atomic uint32_t ejections, ejections_overflow; /* since ever, as all that follows */
    _Atomic uint32_t cx_overflow, pending_overflow, retry_overflow;
    uint8_t pad[28];
};
_Static_assert(sizeof(struct mesh_live_service) == 64, "a cache line");

struct mesh_live {
    uint64_t magic;
    uint8_t pad[56];
    _Atomic uint64_t turn[MESH_LIVE_TURNS];
    _Atomic uint64_t used[MESH_LIVE_ENDPOINTS / 64]; /* a bit for each endpoint entry */
    struct mesh_live_service service[MESH_LIVE_SERVICES];
    struct mesh_live_endpoint endpoint[MESH_LIVE_ENDPOINTS];
    struct mesh_limit limit[MESH_LIMITS]; /* limits.h */
};
_Static_assert(sizeof(struct mesh_live) == 64 + 8 * (MESH_LIVE_TURNS + MESH_LIVE_ENDPOINTS / 64) +
                                               64 * (MESH_LIVE_SERVICES + MESH_LIVE_ENDPOINTS) + 24 * MESH_LIMITS,
               "live");

/* One fewer, never below zero. */
static inline void
mesh_live_drop(_Atomic uint32_t *count)
{
    uint32_t n = atomic_load_explicit(count, memory_order_relaxed);
    while (n > 0 && !atomic_compare_exchange_weak(count, &n, n - 1)) {
    }
}

/* One more, unless there are `limit`. */
static inline _Bool
mesh_live_take(_Atomic uint32_t *count, uint32_t limit)
{
    uint32_t n = atomic_load_explicit(count, memory_order_relaxed);
    while (n < limit) {
        if (atomic_compare_exchange_weak(count, &n, n + 1)) {
            return 1;
        }
    }
    return 0;
}

#endif
