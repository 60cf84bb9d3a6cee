/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_limits: what the limits of services have spent, for the host: a token bucket and a count of
 * connections for each caller of each service. Part of the live state (mesh/live.h): written by all
 * processes, so what stands here is bounded before it is used, and a process that lies can at most be
 * unjust to callers of services on its own host until the bucket has filled again.
 *
 * Entries are found by the hash of service and caller, in the first MESH_LIMIT_PROBES places behind it. One
 * that nobody needs any more (bucket full, no connection) is given to the next who asks.
 */
#ifndef MESH_LIMITS_H
#define MESH_LIMITS_H

#include <stdatomic.h>
#include <stdint.h>

#define MESH_LIMITS       8192u
#define MESH_LIMIT_PROBES 16u
#define MESH_LIMIT_SHIFT  4 /* of times below: 1/16 ns, so that short intervals divide well */

struct mesh_limit {
    _Atomic uint64_t key;     /* 0: free */
    _Atomic uint64_t full_at; /* CLOCK_MONOTONIC: when the bucket is full again. Relaxed: one word says it all */
    _Atomic uint32_t active;  /* connections now */
    _Atomic uint32_t rate; /* of those that share bandwidth: all of it, bytes a second; 0: nothing is known */
};
_Static_assert(sizeof(struct mesh_limit) == 24, "limit layout");

#endif
