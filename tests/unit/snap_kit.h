/* SPDX-License-Identifier: Apache-2.0
 *
 * Snapshots for tests, written by hand: groups, tiers and members as meshd/registry/member.c writes them.
 */
#ifndef TESTS_UNIT_SNAP_KIT_H
#define TESTS_UNIT_SNAP_KIT_H

#include <stdio.h>
#include <string.h>

#include "common/hash.h"
#include "meshd/registry/snapfile.h"
#include "meshd/registry/table.h"
#include "tests/unit/unit.h"

static const char *kit_dir;
static char kit_path[512]; /* of the snapshot, below kit_dir */

/* A snapshot file with areas of this size, in a directory of its own. */
static inline void
kit_open(uint32_t area)
{
    kit_dir = unit_mkdir();
    snprintf(kit_path, sizeof(kit_path), "%s/snapshot", kit_dir);
    ck_assert_int_eq(meshd_snapfile_open(kit_path, area), MESH_OK);
}

static inline void
kit_close(void)
{
    meshd_snapfile_close();
    unit_rmdir(kit_dir);
}

struct kit_tier {
    uint32_t first, count; /* endpoints in a row */
    uint32_t healthy;      /* the first ones */
    const uint32_t *weight; /* NULL: all 1 */
    uint8_t priority, distance;
    uint32_t size; /* of the table of maglev, or of the ring at least; 0: the default */
};

#define KIT_MEMBERS 10000u

/* The endpoints are in the order of their addresses, or else the registry would make another table. */
static inline struct mesh_snap_part
kit_table(unsigned load_balancer, const struct kit_tier *t)
{
    static struct meshd_table_member m[KIT_MEMBERS];
    const struct meshd_table_rule how = {(uint8_t)load_balancer, t->size ? t->size : 1024, 1u << 20,
                                         t->size ? t->size : 65537};
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->count && i < KIT_MEMBERS; i++) {
        struct mesh_snap_endpoint e;
        meshd_snapfile_get(MESH_SNAP_ENDPOINTS, t->first + i, &e);
        m[n] = (struct meshd_table_member){{.port = e.port}, t->weight && t->weight[i] ? t->weight[i] : 1};
        memcpy(m[n++].addr.ip, e.addr, 16);
    }
    return meshd_table_get(&how, m, n);
}

static inline void
kit_tier(unsigned load_balancer, const struct kit_tier *t)
{
    struct mesh_snap_tier out = {.members = {meshd_snapfile_count(MESH_SNAP_MEMBERS), t->count},
                                 .healthy = t->healthy, .priority = t->priority, .distance = t->distance};
    uint32_t upto = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        struct mesh_snap_endpoint e;
        upto += t->weight ? t->weight[i] : 1;
        meshd_snapfile_get(MESH_SNAP_ENDPOINTS, t->first + i, &e);
        (void)meshd_snapfile_add(MESH_SNAP_MEMBERS, &(struct mesh_snap_member){t->first + i, e.id, upto, 0});
    }
    if (mesh_hash_is_used(load_balancer)) {
        out.table = kit_table(load_balancer, t);
    }
    (void)meshd_snapfile_add(MESH_SNAP_TIERS, &out);
}

/* Another group of the service. */
static inline void
kit_group(uint32_t service, uint32_t subset, uint16_t port, const struct kit_tier *tiers, uint32_t count)
{
    struct mesh_snap_service s;
    struct mesh_snap_group g = {.subset = subset, .port = port,
                                .tiers = {meshd_snapfile_count(MESH_SNAP_TIERS), count}};
    meshd_snapfile_get(MESH_SNAP_SERVICES, service, &s);
    for (uint32_t i = 0; i < count; i++) {
        kit_tier(s.load_balancer, &tiers[i]);
    }
    if (s.groups.count++ == 0) {
        s.groups.first = meshd_snapfile_count(MESH_SNAP_GROUPS);
    }
    (void)meshd_snapfile_add(MESH_SNAP_GROUPS, &g);
    meshd_snapfile_put(MESH_SNAP_SERVICES, service, &s);
}

/* Another rule of the service's router, with one target; r's own targets are not looked at. */
static inline void
kit_route(uint32_t service, struct mesh_snap_route r, uint32_t target, uint32_t subset)
{
    struct mesh_snap_service s;
    meshd_snapfile_get(MESH_SNAP_SERVICES, service, &s);
    if (s.routes.count++ == 0) {
        s.routes.first = meshd_snapfile_count(MESH_SNAP_ROUTES);
    }
    r.targets = (struct mesh_snap_part){meshd_snapfile_count(MESH_SNAP_TARGETS), 1};
    (void)meshd_snapfile_add(MESH_SNAP_TARGETS, &(struct mesh_snap_target){target, subset, 1, 0});
    (void)meshd_snapfile_add(MESH_SNAP_ROUTES, &r);
    meshd_snapfile_put(MESH_SNAP_SERVICES, service, &s);
}

#endif
