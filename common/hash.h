/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_hash: what ring_hash and maglev choose by: xxHash, and the key of a connection. The same for the process
 * that connects, and for meshd, which explains it. Allocates nothing; any thread, signal-safe.
 */
#ifndef MESH_COMMON_HASH_H
#define MESH_COMMON_HASH_H

#include <stdbool.h>
#include <stddef.h>

#include "common/addr.h"
#include "mesh/snapshot.h"

/* XXH64 of n bytes; the same on every host. */
uint64_t mesh_hash_bytes(const void *p, size_t n, uint64_t seed);

/* Who connects, and where to. Strings are never NULL, "" if unknown. */
struct mesh_hash_client {
    const char *identity; /* SPIFFE ID */
    const char *unit, *exe;
    uint32_t uid; /* MESH_SNAP_NONE: unknown */
    struct mesh_addr from; /* what the socket is bound to; the any address: nothing */
    struct mesh_addr asked;
};
/* Is it known of this client? */
bool mesh_hash_knows(const struct mesh_hash_client *who, enum mesh_hash_field f);
/* The hash of the policy's terms, combined in order as Envoy does. False, and *hash untouched: none is known. */
bool mesh_hash_key(const struct mesh_snap_hash *policy, const struct mesh_hash_client *who, uint64_t *hash);

/* Which tier the key leads to, as mesh_snap_first_tier takes it: not the digits that a table is entered by. */
uint32_t mesh_hash_draw(uint64_t hash);

static inline bool
mesh_hash_is_used(unsigned load_balancer)
{
    return load_balancer == MESH_LB_RING_HASH || load_balancer == MESH_LB_MAGLEV;
}

#endif
