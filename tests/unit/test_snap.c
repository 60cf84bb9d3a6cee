/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap and meshd_snapfile: the rules of a look-up, truncated and hostile content against a
 * guard page, and readers beside a writer that never stops.
 */
#include "common/snap.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>

#include "meshd/base/log.h"
#include "meshd/registry/snapfile.h"
#include "tests/unit/unit.h"

#define AREA (64u << 10)

static const char *dir;
static char path[512];

static void
setup(void)
{
    meshd_log_set(MESHD_LOG_ERROR);
    dir = unit_mkdir();
    snprintf(path, sizeof(path), "%s/snapshot", dir);
    ck_assert_int_eq(meshd_snapfile_open(path, AREA), MESH_OK);
}

static void
teardown(void)
{
    meshd_snapfile_close();
    unit_rmdir(dir);
}

static struct mesh_addr
addr(const char *ip, uint16_t port)
{
    struct mesh_addr a = {.port = port, .ip = {[10] = 0xff, [11] = 0xff}};
    if (inet_pton(AF_INET, ip, a.ip + 12) != 1) {
        ck_assert_int_eq(inet_pton(AF_INET6, ip, a.ip), 1);
    }
    return a;
}

struct ep {
    const char *ip;
    uint16_t port;
    uint8_t flags;
    uint64_t netns;
    uint64_t cookie;
};

/* Endpoint i belongs to service "s<i>". */
static void
publish(const struct ep *eps, uint32_t n)
{
    struct mesh_snap_settings set;
    mesh_snap_settings_default(&set);
    set.linger_ms = 4711;
    ck_assert_int_eq(meshd_snapfile_begin(n, n), MESH_OK);
    for (uint32_t i = 0; i < n; i++) {
        struct mesh_snap_service s = {.mode = MESH_MODE_STRICT};
        snprintf(s.name, sizeof(s.name), "s%u", i);
        snprintf(s.id, sizeof(s.id), "spiffe://td/ns/default/sa/s%u", i);
        meshd_snapfile_service(&s);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct mesh_addr a = addr(eps[i].ip, eps[i].port);
        struct mesh_snap_endpoint e = {.port = a.port, .flags = eps[i].flags, .service = i,
                                       .netns = eps[i].netns, .cookie = eps[i].cookie,
                                       .mode = MESH_MODE_PERMISSIVE, .id = i + 1};
        memcpy(e.addr, a.ip, 16);
        meshd_snapfile_endpoint(&e);
    }
    meshd_snapfile_commit(&set, "td");
}

static const struct ep table[] = {
    {"127.0.0.1", 80, MESH_EP_NETNS, 1, 10},
    {"10.0.0.1", 80, 0, 2, 11},
    {"0.0.0.0", 81, MESH_EP_ANY | MESH_EP_NETNS, 1, 12},
    {"10.0.0.2", 81, 0, 1, 12},
    {"::", 82, MESH_EP_ANY | MESH_EP_NETNS, 1, 13},
    {"::", 83, MESH_EP_ANY | MESH_EP_NETNS | MESH_EP_V6ONLY, 1, 14},
    {"127.0.0.1", 84, MESH_EP_NETNS, 1, 15},
    {"0.0.0.0", 84, MESH_EP_ANY | MESH_EP_NETNS, 1, 16},
    {"::", 85, MESH_EP_ANY | MESH_EP_NETNS, 1, 17},
    {"0.0.0.0", 85, MESH_EP_ANY | MESH_EP_NETNS, 1, 18},
    {"10.0.0.9", 86, 0, 1, 19},
    {"10.0.0.9", 86, 0, 2, 20},
    {"::1", 80, MESH_EP_NETNS, 1, 21},
    {"127.0.0.1", 80 + MESH_SNAP_BUCKETS, MESH_EP_NETNS, 1, 22},
};

static const struct {
    uint64_t netns;
    const char *ip;
    uint16_t port;
    const char *service; /* NULL: not found */
    bool needs_local;
} lookups[] = {
    {1, "127.0.0.1", 80, "s0", false},
    {2, "127.0.0.1", 80, NULL, false}, /* another namespace's loopback */
    {1, "127.0.0.2", 80, NULL, false},
    {1, "127.0.0.1", 79, NULL, false},
    {1, "10.0.0.1", 80, "s1", false}, /* reachable from everywhere */
    {2, "10.0.0.1", 80, "s1", false},
    {1, "127.0.0.1", 81, "s2", false},
    {1, "127.9.9.9", 81, "s2", false},
    {1, "10.1.1.1", 81, "s2", true},
    {2, "10.1.1.1", 81, NULL, false},
    {2, "127.0.0.1", 81, NULL, false},
    {1, "::1", 81, NULL, false}, /* 0.0.0.0 does not take IPv6 */
    {1, "10.0.0.2", 81, "s3", false},
    {2, "10.0.0.2", 81, "s3", false},
    {1, "127.0.0.1", 82, "s4", false}, /* [::] takes both */
    {1, "::1", 82, "s4", false},
    {1, "fd00::1", 82, "s4", true},
    {1, "127.0.0.1", 83, NULL, false}, /* but not with IPV6_V6ONLY */
    {1, "::1", 83, "s5", false},
    {1, "127.0.0.1", 84, "s6", false}, /* exact beats wildcard */
    {1, "127.0.0.2", 84, "s7", false},
    {1, "127.0.0.1", 85, "s9", false}, /* own family beats dual */
    {1, "::1", 85, "s8", false},
    {1, "10.0.0.9", 86, "s10", false}, /* own namespace first */
    {2, "10.0.0.9", 86, "s11", false},
    {1, "::1", 80, "s12", false},
    {1, "127.0.0.1", 80 + MESH_SNAP_BUCKETS, "s13", false},
};

START_TEST(lookup_rules)
{
    publish(table, sizeof(table) / sizeof(table[0]));
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_addr a = addr(lookups[_i].ip, lookups[_i].port);
    struct mesh_snap_hit hit = {0};
    bool found = !lookups[_i].service;
    ck_assert_int_eq(mesh_snap_find(&s, lookups[_i].netns, &a, &hit, &found), MESH_OK);
    ck_assert_int_eq(found, lookups[_i].service != NULL);
    if (found) {
        ck_assert_str_eq(hit.service.name, lookups[_i].service);
        ck_assert_int_eq(hit.needs_local, lookups[_i].needs_local);
    }
}
END_TEST

START_TEST(listeners_and_settings)
{
    publish(table, sizeof(table) / sizeof(table[0]));
    struct mesh_snap s = meshd_snapfile_view(), none = {0};
    struct mesh_snap_hit hit;
    struct mesh_snap_settings set;
    ck_assert(mesh_snap_listener(&s, 1, 12, 81, &hit));
    ck_assert_int_eq(hit.endpoint.mode, MESH_MODE_PERMISSIVE);
    ck_assert(!mesh_snap_listener(&s, 2, 12, 81, &hit));
    ck_assert(!mesh_snap_listener(&s, 1, 12, 82, &hit));
    ck_assert(!mesh_snap_listener(&s, 1, 0, 81, &hit));
    mesh_snap_settings(&s, &set);
    ck_assert_uint_eq(set.linger_ms, 4711);
    mesh_snap_settings(&none, &set);
    ck_assert_uint_eq(set.linger_ms, 1000);
}
END_TEST

START_TEST(no_room_is_an_error)
{
    uint32_t most = (AREA - (uint32_t)sizeof(struct mesh_snap_area)) / 64;
    publish(table, 1);
    ck_assert_int_eq(meshd_snapfile_begin(0, most + 1), MESH_E_NO_MEMORY);
    ck_assert_int_eq(meshd_snapfile_begin(UINT32_MAX, UINT32_MAX), MESH_E_NO_MEMORY);
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_addr a = addr("127.0.0.1", 80);
    struct mesh_snap_hit hit;
    bool found = false;
    ck_assert_int_eq(mesh_snap_find(&s, 1, &a, &hit, &found), MESH_OK);
    ck_assert(found);
}
END_TEST

/* Runs every reader function; only the absence of a crash, and sane results, are asked for. */
static void
read_all(const struct mesh_snap *s)
{
    struct mesh_snap_hit hit;
    struct mesh_snap_settings set;
    bool found = false;
    for (unsigned port = 80; port < 87; port++) {
        struct mesh_addr a = addr("127.0.0.1", (uint16_t)port);
        if (mesh_snap_find(s, 1, &a, &hit, &found) == MESH_OK && found) {
            ck_assert_uint_lt(strnlen(hit.service.name, MESH_SERVICE_MAX), MESH_SERVICE_MAX);
            ck_assert_uint_lt(strnlen(hit.service.id, MESH_ID_MAX), MESH_ID_MAX);
            ck_assert_uint_le(hit.endpoint.mode, MESH_MODE_STRICT);
        }
        mesh_snap_listener(s, 1, 12, (uint16_t)port, &hit);
    }
    mesh_snap_settings(s, &set);
    ck_assert_uint_le(set.mode, MESH_MODE_STRICT);
}

START_TEST(truncated)
{
    publish(table, sizeof(table) / sizeof(table[0]));
    struct mesh_snap whole = meshd_snapfile_view();
    const size_t sizes[] = {0, 1, 8, 40, MESH_SNAP_HEAD - 1, MESH_SNAP_HEAD, MESH_SNAP_HEAD + 1,
                            MESH_SNAP_HEAD + AREA, whole.size - 1, whole.size};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        /* Aligned as a mapping is: the guard page begins up to 63 bytes behind the end. */
        size_t n = sizes[i], room = (n + 63) / 64 * 64;
        uint8_t *p = unit_guarded(room ? room : 64);
        memcpy(p, whole.map, n);
        struct mesh_snap s = {p, n};
        ck_assert_int_eq(mesh_snap_check(&s) == MESH_OK, n == whole.size);
        read_all(&s);
    }
}
END_TEST

static uint32_t
rnd(uint32_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 17;
    return *x ^= *x << 5;
}

/* Random values in the words that steer the reader: head, offsets, buckets, endpoints. */
START_TEST(hostile)
{
    static const uint32_t evil[] = {0, 1, 2, 7, 63, 64, 0x7fffffff, 0x80000000, 0xffffffff,
                                    AREA, AREA - 64, AREA + 64, 4096, 4160};
    publish(table, sizeof(table) / sizeof(table[0]));
    struct mesh_snap whole = meshd_snapfile_view();
    uint8_t *p = unit_guarded(whole.size);
    uint32_t seed = 1;
    struct mesh_snap s = {p, whole.size};
    for (int round = 0; round < 20000; round++) {
        memcpy(p, whole.map, MESH_SNAP_HEAD);
        memcpy(p + MESH_SNAP_HEAD + AREA, (const uint8_t *)whole.map + MESH_SNAP_HEAD + AREA, 12000);
        for (uint32_t k = rnd(&seed) % 4 + 1; k > 0; k--) {
            size_t zone = rnd(&seed) % 3;
            size_t at = zone == 0   ? rnd(&seed) % 40
                        : zone == 1 ? MESH_SNAP_HEAD + AREA + rnd(&seed) % 56
                                    : MESH_SNAP_HEAD + AREA + rnd(&seed) % 11000;
            uint32_t v = rnd(&seed) % 2 ? evil[rnd(&seed) % 14] : rnd(&seed);
            memcpy(p + at / 4 * 4, &v, 4);
        }
        read_all(&s);
    }
}
END_TEST

START_TEST(ring_ends)
{
    publish(table, 2);
    struct mesh_snap s = meshd_snapfile_view();
    uint64_t g = meshd_snapfile_generation();
    struct mesh_snap_area *a =
        (void *)((char *)(uintptr_t)s.map + MESH_SNAP_HEAD + (g & 1) * AREA);
    struct mesh_snap_endpoint *e = (void *)((char *)a + a->endpoints_off);
    e[0].next = 1;
    e[1].next = 0;
    struct mesh_addr to = addr("192.0.2.1", 80);
    struct mesh_snap_hit hit;
    bool found = false;
    ck_assert_int_eq(mesh_snap_find(&s, 1, &to, &hit, &found), MESH_E_SNAPSHOT);
}
END_TEST

START_TEST(versions)
{
    publish(table, 1);
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_snap_head *h = (void *)(uintptr_t)s.map;
    ck_assert_int_eq(mesh_snap_check(&s), MESH_OK);
    h->version = 2;
    ck_assert_int_eq(mesh_snap_check(&s), MESH_E_VERSION);
    h->version = MESH_SNAP_VERSION;
    h->magic ^= 1;
    ck_assert_int_eq(mesh_snap_check(&s), MESH_E_SNAPSHOT);
}
END_TEST

static _Atomic bool stop;

/* In every generation all endpoints carry the same stamp in netns and cookie, and as many
 * neighbours in one bucket as make a look-up take a while. */
static void *
writer(void *arg)
{
    struct mesh_snap_settings set;
    (void)arg;
    mesh_snap_settings_default(&set);
    for (uint64_t g = 1; !atomic_load(&stop); g++) {
        struct mesh_snap_service s = {0};
        snprintf(s.name, sizeof(s.name), "%llu", (unsigned long long)g);
        if (meshd_snapfile_begin(1, 100) != MESH_OK) {
            return NULL;
        }
        meshd_snapfile_service(&s);
        for (unsigned i = 0; i < 100; i++) {
            struct mesh_snap_endpoint e = {.port = 80, .netns = g, .cookie = g, .id = i};
            memset(e.addr, i == 99 ? 9 : 1, 16);
            meshd_snapfile_endpoint(&e);
        }
        meshd_snapfile_commit(&set, "td");
    }
    return NULL;
}

START_TEST(readers_beside_a_writer)
{
    pthread_t t;
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_addr a = {.port = 80};
    memset(a.ip, 9, 16);
    publish(table, 1);
    ck_assert_int_eq(pthread_create(&t, NULL, writer, NULL), 0);
    /* MESH_E_SNAPSHOT is no failure here: a writer that never rests may starve a reader. */
    for (unsigned ok = 0; ok < 100000;) {
        struct mesh_snap_hit hit;
        bool found = false;
        enum mesh_err e = mesh_snap_find(&s, 0, &a, &hit, &found);
        ck_assert(e == MESH_OK || e == MESH_E_SNAPSHOT);
        if (e == MESH_OK && found) {
            ck_assert_uint_eq(hit.endpoint.netns, hit.endpoint.cookie);
            ck_assert_uint_eq(strtoull(hit.service.name, NULL, 10), hit.endpoint.cookie);
            ok++;
        }
    }
    atomic_store(&stop, true);
    pthread_join(t, NULL);
}
END_TEST

static uint32_t visited;

static void
count_visit(const struct mesh_snap_endpoint *e, const struct mesh_snap_service *s, void *arg)
{
    (void)e;
    (void)s;
    (void)arg;
    visited++;
}

START_TEST(comes_back)
{
    publish(table, 3);
    uint64_t epoch = meshd_snapfile_epoch(), g = meshd_snapfile_generation();
    meshd_snapfile_close();
    ck_assert_int_eq(meshd_snapfile_open(path, AREA), MESH_OK);
    ck_assert_uint_eq(meshd_snapfile_epoch(), epoch);
    ck_assert_uint_eq(meshd_snapfile_generation(), g);
    meshd_snapfile_visit(count_visit, NULL);
    ck_assert_uint_eq(visited, 3);
}
END_TEST

START_TEST(killed_while_writing)
{
    publish(table, 3);
    ck_assert_int_eq(meshd_snapfile_begin(1, 1), MESH_OK); /* and no commit */
    meshd_snapfile_close();
    ck_assert_int_eq(meshd_snapfile_open(path, AREA), MESH_OK);
    meshd_snapfile_visit(count_visit, NULL);
    ck_assert_uint_eq(visited, 3);
}
END_TEST

START_TEST(damaged_is_replaced)
{
    publish(table, 3);
    uint64_t epoch = meshd_snapfile_epoch();
    meshd_snapfile_close();
    ck_assert_int_eq(truncate(path, 5000), 0);
    ck_assert_int_eq(meshd_snapfile_open(path, AREA), MESH_OK);
    ck_assert_uint_ne(meshd_snapfile_epoch(), epoch);
    meshd_snapfile_visit(count_visit, NULL);
    ck_assert_uint_eq(visited, 0);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("snap");
    TCase *t = tcase_create("snap");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, lookup_rules, 0, (int)(sizeof(lookups) / sizeof(lookups[0])));
    tcase_add_test(t, listeners_and_settings);
    tcase_add_test(t, no_room_is_an_error);
    tcase_add_test(t, truncated);
    tcase_add_test(t, hostile);
    tcase_add_test(t, ring_ends);
    tcase_add_test(t, versions);
    tcase_add_test(t, readers_beside_a_writer);
    tcase_add_test(t, comes_back);
    tcase_add_test(t, killed_while_writing);
    tcase_add_test(t, damaged_is_replaced);
    suite_add_tcase(s, t);
    return unit_run(s);
}
