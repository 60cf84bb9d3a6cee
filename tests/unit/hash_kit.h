/* SPDX-License-Identifier: Apache-2.0
 *
 * hash_kit: a service with ring_hash or maglev in a snapshot of the test's own, and where its clients go.
 */
#ifndef TESTS_UNIT_HASH_KIT_H
#define TESTS_UNIT_HASH_KIT_H

#include "common/hash.h"

#include <arpa/inet.h>

#include "meshd/base/log.h"
#include "mesh/live.h"
#include "shim/core/live.h"
#include "shim/core/rand.h"
#include "shim/link/link.h"
#include "shim/real.h"
#include "shim/route/pick.h"
#include "tests/unit/snap_kit.h"
#include "tests/unit/unit.h"

#define AREA   (2u << 20)
#define HOME   1u
#define KEYS   20000u
#define FIRST  MESH_LB_RING_HASH
#define BEHIND (MESH_LB_MAGLEV + 1)

static const char *const names[] = {[MESH_LB_RING_HASH] = "ring_hash", [MESH_LB_MAGLEV] = "maglev"};
static const char *dir;
static char path[512];
static const struct mesh_addr asked = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 100}, .port = 80};

uint64_t
shim_link_netns(int fd)
{
    (void)fd;
    return HOME;
}

const char *
shim_link_id(void)
{
    return "spiffe://td/ns/default/sa/web";
}

static inline void
setup(void)
{
    meshd_log_set(MESHD_LOG_ERROR);
    shim_real_init();
    dir = unit_mkdir();
    snprintf(path, sizeof(path), "%s/snapshot", dir);
    ck_assert_int_eq(meshd_snapfile_open(path, AREA), MESH_OK);
}

static inline void
teardown(void)
{
    meshd_snapfile_close();
    unit_rmdir(dir);
}

/* Endpoint i: 10.0.0.i of port 80 and id i + 1. */
struct world {
    enum mesh_lb lb;
    uint32_t n;
    const uint32_t *weight;
    uint32_t size;  /* of the table */
    uint32_t first; /* so many have priority 0, the others 1; 0: all */
    uint64_t sick, draining; /* bits */
    uint8_t panic;
    bool no_table;
    uint32_t balance, per_host, ejects;
};

static inline uint32_t
healthy_of(const struct world *w, uint32_t from, uint32_t to)
{
    uint32_t n = 0;
    for (uint32_t i = from; i < to; i++) {
        n += i >= 64 || !(w->sick >> i & 1);
    }
    return n;
}

static inline void
publish(const struct world *w)
{
    struct mesh_snap_settings set;
    struct mesh_snap_service s = {
        .load_balancer = (uint8_t)w->lb, .max_attempts = 3, .name = "cache", .connect_timeout_ms = 5000,
        .panic_threshold = w->panic, .id = "spiffe://td/ns/default/sa/cache",
        .hash = {.term = {MESH_HASH_UID + 1}, .balance_factor = w->balance},
        .live = {.endpoints = w->n, .host_max_connections = w->per_host, .consecutive_5xx = 5, .base_ejection_ms = 30000,
                 .max_ejection_ms = 300000, .max_ejection_percent = 50, .flags = w->ejects ? MESH_LIVE_OUTLIER : 0}};
    uint32_t first = w->first ? w->first : w->n;
    mesh_snap_settings_default(&set);
    meshd_snapfile_begin();
    (void)meshd_snapfile_add(MESH_SNAP_SERVICES, &s);
    for (uint32_t i = 0; i < w->n; i++) {
        struct mesh_snap_endpoint e = {.addr = {[10] = 0xff, [11] = 0xff, [12] = 10, [14] = (uint8_t)(i >> 8), [15] = (uint8_t)i},
                                       .port = 80, .mode = MESH_MODE_STRICT, .netns = HOME, .id = i + 1};
        e.flags = (uint8_t)((i < 64 && w->sick >> i & 1 ? MESH_EP_UNHEALTHY : 0) |
                            (i < 64 && w->draining >> i & 1 ? MESH_EP_DRAINING : 0));
        ck_assert_uint_eq(meshd_snapfile_endpoint(&e), i);
    }
    struct mesh_snap_endpoint front = {.port = asked.port, .flags = MESH_EP_SERVICE};
    memcpy(front.addr, asked.ip, 16);
    (void)meshd_snapfile_endpoint(&front);
    kit_group(0, 0, 0, (struct kit_tier[]){
        {.count = first, .healthy = healthy_of(w, 0, first), .weight = w->weight, .size = w->size},
        {.first = first, .count = w->n - first, .healthy = healthy_of(w, first, w->n), .priority = 1, .size = w->size,
         .weight = w->weight ? w->weight + first : NULL}}, first < w->n ? 2 : 1);
    for (uint32_t i = 0; w->no_table && i < meshd_snapfile_count(MESH_SNAP_TIERS); i++) {
        struct mesh_snap_tier t;
        meshd_snapfile_get(MESH_SNAP_TIERS, i, &t);
        t.table = (struct mesh_snap_part){0, 0};
        meshd_snapfile_put(MESH_SNAP_TIERS, i, &t);
    }
    ck_assert_int_eq(meshd_snapfile_commit(&set), MESH_OK);
}

static inline struct shim_pick
client(uint32_t uid)
{
    return (struct shim_pick){.netns = HOME, .family = AF_INET, .client = {.service = "web", .unit = "", .uid = uid}};
}

static inline uint32_t
next(struct shim_pick *p)
{
    struct mesh_snap snap = meshd_snapfile_view();
    struct mesh_snap_hit hit;
    struct shim_candidate c;
    enum mesh_err e = shim_pick(p, &snap, &asked, &hit, &c);
    ck_assert(e == MESH_OK || e == MESH_E_NO_ENDPOINT || e == MESH_E_OVERFLOW);
    return e == MESH_OK ? c.endpoint.id : 0;
}

/* Where the first attempt of this user goes: an endpoint's id. */
static inline uint32_t
goes(uint32_t uid)
{
    struct shim_pick p = client(uid);
    return next(&p);
}

static inline void
map(uint8_t *to)
{
    for (uint32_t k = 0; k < KEYS; k++) {
        to[k] = (uint8_t)goes(k);
    }
}

#endif
