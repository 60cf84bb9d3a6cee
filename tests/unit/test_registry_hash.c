/* SPDX-License-Identifier: Apache-2.0
 *
 * ring_hash and maglev from meshd.conf through the registry to the choices of clients: what the order of endpoints and
 * meshd's own end must not change, which tables are made anew, and what becomes of a pool that is full or damaged.
 */
#include "shim/route/pick.h"


#include "meshd/health/health.h"
#include "meshd/ident/ca.h"
#include "meshd/registry/pool.h"
#include "shim/link/link.h"
#include "shim/real.h"
#include "tests/unit/registry_kit.h"

#define KEYS 5000u

static const char *const names[] = {"ring_hash", "maglev"};

uint64_t
shim_link_netns(int fd)
{
    (void)fd;
    return meshd_netlink_own();
}

const char *
shim_link_id(void)
{
    return "spiffe://mesh.local/ns/default/sa/web";
}

/* The port of the endpoint that this user's first attempt goes to; 0: none. */
static uint16_t
goes(uint32_t uid)
{
    struct shim_pick p = {.netns = meshd_netlink_own(), .family = AF_INET,
                          .client = {.service = "web", .unit = "", .uid = uid}};
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_addr a = {.port = 80, .ip = {[10] = 0xff, [11] = 0xff, 10, 9, 9, 9}};
    struct mesh_snap_hit hit;
    struct shim_candidate c;
    enum mesh_err e = shim_pick(&p, &s, &a, &hit, &c);
    ck_assert(e == MESH_OK || e == MESH_E_NO_ENDPOINT);
    return e == MESH_OK ? c.to.port : 0;
}

static void
map(uint16_t *to)
{
    for (uint32_t k = 0; k < KEYS; k++) {
        to[k] = goes(k);
    }
}

#define BY(rest) "load_balancer = \"%s\"; hash_policy = ( { field = \"uid\"; } ); addresses = (\"10.9.9.9:80\"); " rest
#define CACHE    "services = ( { name = \"cache\"; " BY("")

static const struct mesh_snap_tier *
tier(uint32_t i)
{
    static struct mesh_snap_tier t;
    meshd_snapfile_get(MESH_SNAP_TIERS, i, &t);
    return &t;
}

/* Neither the order in the file, nor who else is there, nor a restart, nor what registers later changes a key's way. */
START_TEST(always_the_same)
{
    static uint16_t a[KEYS], b[KEYS];
    configure(CACHE "endpoints = ( { addr = \"192.0.2.1:1\"; }, { addr = \"192.0.2.2:2\"; weight = 3; },"
              " { addr = \"192.0.2.3:3\"; } ); } );", names[_i]);
    map(a);
    configure("services = ( { name = \"another\"; addresses = (\"10.9.9.7:80\"); endpoints = ( { addr = \"192.0.2.9:9\"; } ); },"
              " { name = \"cache\"; " BY("") "endpoints = ( { addr = \"192.0.2.3:3\"; }, { addr = \"192.0.2.2:2\"; weight = 3; },"
              " { addr = \"192.0.2.1:1\"; } ); } );", names[_i]);
    map(b);
    ck_assert_int_eq(memcmp(a, b, sizeof(a)), 0);
    stop();
    start();
    map(b);
    ck_assert_int_eq(memcmp(a, b, sizeof(a)), 0);
    /* Gone and come back. */
    configure(CACHE "endpoints = ( { addr = \"192.0.2.1:1\"; }, { addr = \"192.0.2.3:3\"; } ); } );", names[_i]);
    map(b);
    uint32_t strangers = 0;
    for (uint32_t k = 0; k < KEYS; k++) {
        strangers += a[k] != 2 && a[k] != b[k];
    }
    printf("%s: weight 3 of 5 leaves, %u of %u keys of others move\n", names[_i], strangers, KEYS);
    ck_assert_uint_le(strangers, _i == 0 ? 0 : KEYS / 50);
    configure(CACHE "endpoints = ( { addr = \"192.0.2.3:3\"; }, { addr = \"192.0.2.1:1\"; }, { addr = \"192.0.2.2:2\"; weight = 3; }"
              " ); } );", names[_i]);
    map(b);
    ck_assert_int_eq(memcmp(a, b, sizeof(a)), 0);
}
END_TEST

static struct mesh_snap_part
place(void)
{
    ck_assert_uint_gt(tier(0)->table.count, 0);
    return tier(0)->table;
}

/* A publication finds the table that is there; another set of members has another one, beside it. */
START_TEST(made_when_needed)
{
    struct meshd_pool_info info;
    configure(CACHE "endpoints = ( { addr = \"192.0.2.1:1\"; }, { addr = \"192.0.2.2:2\"; } ); } );", names[_i]);
    struct mesh_snap_part first = place();
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(meshd_registry_republish(), MESH_OK);
        ck_assert_uint_eq(place().first, first.first);
    }
    struct meshd_drain d = {.service = "cache"};
    ck_assert_int_eq(meshd_registry_drain(&d), MESH_OK); /* who is not chosen is still a member */
    ck_assert_uint_eq(place().first, first.first);
    ck_assert_uint_eq(goes(1), 0);
    bool was;
    ck_assert_int_eq(meshd_registry_undrain(&d, &was), MESH_OK);
    configure(CACHE "endpoints = ( { addr = \"192.0.2.1:1\"; }, { addr = \"192.0.2.3:3\"; } ); } );", names[_i]);
    ck_assert_uint_ne(place().first, first.first); /* readers of the last one are not disturbed */
    ck_assert_int_eq(meshd_registry_republish(), MESH_OK);
    ck_assert_int_eq(meshd_registry_republish(), MESH_OK);
    meshd_pool_info(&info);
    ck_assert_uint_eq(info.tables, 1);
    configure(CACHE "endpoints = ( { addr = \"192.0.2.4:4\"; }, { addr = \"192.0.2.3:3\"; } ); } );", names[_i]);
    ck_assert_uint_eq(place().first, first.first); /* its place is free again */
}
END_TEST

/* Health moves nobody in the row that the table knows by their places, so the table stays. */
START_TEST(health_changes_no_table)
{
    char state[300];
    uint16_t good = 0, bad = 0;
    int spare = listener("127.0.0.1", &bad), listening = listener("127.0.0.2", &good);
    snprintf(state, sizeof(state), "%s/state", dir);
    ck_assert_int_eq(meshd_ca_init(state, "mesh.local"), MESH_OK);
    ck_assert_int_eq(meshd_health_init(), MESH_OK);
    close(spare); /* nobody is there any more */
    configure(CACHE "health_check = { type = \"tcp\"; interval = \"100ms\"; no_traffic_interval = \"100ms\"; };"
              " endpoints = ( { addr = \"127.0.0.1:%u\"; }, { addr = \"127.0.0.2:%u\"; } ); } );", names[_i], bad, good);
    struct mesh_snap_part before = place();
    ck_assert_uint_eq(tier(0)->healthy, 2);
    while (tier(0)->healthy == 2) { /* or the test's time is over */
        event_base_loop(meshd_loop(), EVLOOP_ONCE);
    }
    struct mesh_snap_member first;
    struct mesh_snap_endpoint e;
    meshd_snapfile_get(MESH_SNAP_MEMBERS, tier(0)->members.first, &first);
    meshd_snapfile_get(MESH_SNAP_ENDPOINTS, first.endpoint, &e);
    ck_assert_uint_eq(e.port, bad);
    ck_assert(e.flags & MESH_EP_UNHEALTHY);
    ck_assert_uint_eq(place().first, before.first);
    for (uint32_t k = 0; k < KEYS; k++) {
        ck_assert_uint_eq(goes(k), good);
    }
    meshd_health_fini();
    meshd_ca_fini();
    close(listening);
}
END_TEST

/* Subsets, priorities and ports: a table for each set of members, and one for those that are the same. */
START_TEST(groups)
{
    uint32_t met = 0;
    configure(CACHE "panic_threshold = 0; split = ( { subset = \"b\"; } ); subsets = ( { name = \"a\"; labels = (\"v=a\"); },"
              " { name = \"b\"; labels = (\"v=b\"); } ); endpoints = ( { addr = \"192.0.2.1:1\"; labels = (\"v=a\"); },"
              " { addr = \"192.0.2.2:2\"; labels = (\"v=b\"); }, { addr = \"192.0.2.3:3\"; labels = (\"v=b\"); },"
              " { addr = \"192.0.2.4:4\"; labels = (\"v=b\"); priority = 1; } ); } );", names[_i]);
    for (uint32_t k = 0; k < KEYS; k++) {
        met |= 1u << goes(k);
    }
    ck_assert_uint_eq(met, 1u << 2 | 1u << 3);
    struct meshd_pool_info info;
    meshd_pool_info(&info);
    ck_assert_uint_eq(info.tables, 2); /* {1 2 3} and {2 3}; one alone needs none */
}
END_TEST

/* Without room the choice goes on without a table, and has one again when there is room. */
START_TEST(full_pool)
{
    static uint16_t a[KEYS], b[KEYS];
    struct meshd_pool_info info;
#define BIG "services = ( { name = \"cache\"; load_balancer = \"maglev\"; hash_policy = ( { field = \"uid\"; } );" \
            " addresses = (\"10.9.9.9:80\"); maglev = { table_size = 4999999; }; endpoints = (" \
            " { addr = \"192.0.2.1:1\"; }, { addr = \"192.0.2.%u:2\"; } ); } );"
    configure(BIG, 2);
    map(a);
    meshd_pool_info(&info);
    ck_assert_uint_eq(info.tables, 1);
    /* The old one and the new one of 10 MB are more than there is; when the old one is not in force any more there is
     * room, and the registry comes back to it by itself. */
    configure(BIG, 3);
    ck_assert_uint_eq(tier(0)->table.count, 0);
    ck_assert(goes(1) == 1 || goes(1) == 2);
    while (tier(0)->table.count == 0) { /* or the test's time is over */
        event_base_loop(meshd_loop(), EVLOOP_ONCE);
    }
    map(b);
    uint32_t same = 0;
    for (uint32_t k = 0; k < KEYS; k++) {
        same += a[k] == b[k];
    }
    ck_assert_uint_gt(same, KEYS * 6 / 10);
}
END_TEST

/* Somebody writes into the pool: it is seen, and the next publication has the table again. */
START_TEST(damage)
{
    static uint16_t a[KEYS], b[KEYS];
    configure(CACHE "endpoints = ( { addr = \"192.0.2.1:1\"; }, { addr = \"192.0.2.2:2\"; } ); } );", names[_i]);
    map(a);
    struct mesh_snap s = meshd_snapfile_view();
    uint8_t *pool = (uint8_t *)(uintptr_t)s.map + MESH_SNAP_POOL(MESH_SNAP_AREA);
    struct mesh_snap_part p = place();
    ck_assert(meshd_registry_is_whole());
    memset(pool + (size_t)p.first * MESH_SNAP_UNIT, 0, 4096);
    ck_assert(!meshd_registry_is_whole());
    ck_assert_int_eq(meshd_registry_republish(), MESH_OK);
    ck_assert(meshd_registry_is_whole());
    map(b);
    ck_assert_int_eq(memcmp(a, b, sizeof(a)), 0);
    memset(pool + (size_t)place().first * MESH_SNAP_UNIT, 0, 4096); /* meshd is not there to see it */
    stop();
    start();
    map(b);
    ck_assert_int_eq(memcmp(a, b, sizeof(a)), 0);
}
END_TEST

/* A meshd that comes back does not write over what the snapshot in force refers to. */
START_TEST(restart_leaves_tables_alone)
{
    configure(CACHE "endpoints = ( { addr = \"192.0.2.1:1\"; }, { addr = \"192.0.2.2:2\"; } ); } );", names[_i]);
    struct mesh_snap_part before = place();
    stop();
    start();
    size_t end = before.first + (before.count * (_i == 0 ? 6u : 2u) + MESH_SNAP_UNIT - 1) / MESH_SNAP_UNIT;
    ck_assert(place().first >= end || place().first + end - before.first <= before.first);
}
END_TEST

int
main(void)
{
    TCase *t = tcase_create("registry_hash");
    shim_real_init();
    tcase_add_loop_test(t, always_the_same, 0, 2);
    tcase_add_loop_test(t, made_when_needed, 0, 2);
    tcase_add_loop_test(t, health_changes_no_table, 0, 2);
    tcase_add_loop_test(t, groups, 0, 2);
    tcase_add_test(t, full_pool);
    tcase_add_loop_test(t, damage, 0, 2);
    tcase_add_loop_test(t, restart_leaves_tables_alone, 0, 2);
    return run_case("registry_hash", t);
}
