/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap_hashes: the tables of ring_hash and maglev, in the snapshot's pool. For the `choose` of
 * mesh_snap_choose only, as what is in snap.h.
 */
#ifndef MESH_COMMON_SNAP_HASH_H
#define MESH_COMMON_SNAP_HASH_H

#include "common/snap.h"

/* A tier's; it lies within the mapping. */
struct mesh_snap_hashes {
    const uint8_t *point; /* NULL: maglev */
    const uint8_t *member;
    uint32_t count;   /* 0: the tier has no table */
    uint32_t members; /* of the tier */
};
enum mesh_err mesh_snap_hashes(const struct mesh_snap_choice *c, const struct mesh_snap_service *s,
                               const struct mesh_snap_tier *t, struct mesh_snap_hashes *out) MESH_MUST_CHECK;
/* Where the walk of this hash begins; count must not be 0. */
uint32_t mesh_snap_hash_start(const struct mesh_snap_hashes *h, uint64_t hash);
/* The member at place `at`, which is below count. MESH_E_SNAPSHOT: none of the tier. */
enum mesh_err mesh_snap_hash_member(const struct mesh_snap_hashes *h, uint32_t at, uint32_t *index) MESH_MUST_CHECK;
/* The bytes of a table with so many entries. */
size_t mesh_snap_hash_size(unsigned load_balancer, uint32_t count);

#endif
