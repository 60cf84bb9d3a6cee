/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_table: the tables of ring_hash and maglev in the snapshot's pool. One is made when a tier has other
 * members than any tier in the last snapshots, and else found again: a publication pays for what is new. Inside
 * registry/ only.
 *
 *   tier's members ── sum ──> known? its place in the pool
 *                              └─ no: ring_hash.c, maglev.c ──> pool.c
 */
#ifndef MESHD_REGISTRY_TABLE_H
#define MESHD_REGISTRY_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/addr.h"
#include "mesh/snapshot.h"

struct meshd_table_member {
    struct mesh_addr addr;
    uint32_t weight; /* not 0 */
};

/* What the configuration says of it. */
struct meshd_table_rule {
    uint8_t load_balancer;
    uint32_t least, most; /* minimum_ring_size, maximum_ring_size */
    uint32_t size;        /* table_size, a prime */
};

/* The place of the table of these members in the snapshot that is being written. No entries: one alone needs none;
 * or, with a line in the log, there is no room or no memory, or there are more than MESH_HASH_MEMBERS. */
struct mesh_snap_part meshd_table_get(const struct meshd_table_rule *r, const struct meshd_table_member *m, uint32_t n);

/* After those of all tiers. True: what had no room would have it in a next snapshot, when what the one in force
 * holds is given away. */
bool meshd_table_end(void);

/* What both are made of: the endpoint's address, whoever names it and wherever it stands. */
uint64_t meshd_table_hash(const struct mesh_addr *a, uint32_t salt);

/* How many points a member of this weight has; n members, none of weight 0. */
struct meshd_ring {
    uint64_t times, of; /* weight * times / of, rounded, at least 1 */
};
struct meshd_ring meshd_ring_scale(const struct meshd_table_rule *r, const struct meshd_table_member *m, uint32_t n);
uint64_t meshd_ring_sum(const struct meshd_ring *ring, const struct meshd_table_member *m, uint32_t n);
uint32_t meshd_ring_points(const struct meshd_ring *ring, uint32_t weight);

/* A table of so many entries as it stands in the pool, from malloc; NULL without memory. */
uint32_t meshd_table_count(const struct meshd_table_rule *r, const struct meshd_table_member *m, uint32_t n);
uint8_t *meshd_table_make(const struct meshd_table_rule *r, const struct meshd_table_member *m, uint32_t n);
uint8_t *meshd_ring_make(const struct meshd_table_rule *r, const struct meshd_table_member *m, uint32_t n);
uint8_t *meshd_maglev_make(const struct meshd_table_rule *r, const struct meshd_table_member *m, uint32_t n);

#endif
