/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap and meshd_snapfile: the rules of a look-up, truncated and hostile content against a
 * guard page, and readers beside a writer that never stops.
 */
#include "common/snap.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "meshd/base/log.h"
#include "meshd/registry/snapfile.h"
#include "tests/unit/snap_kit.h"
#include "tests/unit/unit.h"

#define AREA (256u << 10)


static void
setup(void)
{
    meshd_log_set(MESHD_LOG_ERROR);
    kit_open(AREA);
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
    set.kernel_tls = MESH_KTLS_OFF;
    meshd_snapfile_begin();
    for (uint32_t i = 0; i < n; i++) {
        struct mesh_snap_service s = {.mode = MESH_MODE_STRICT};
        snprintf(s.name, sizeof(s.name), "s%u", i);
        snprintf(s.id, sizeof(s.id), "spiffe://td/ns/default/sa/s%u", i);
        (void)meshd_snapfile_add(MESH_SNAP_SERVICES, &s);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct mesh_addr a = addr(eps[i].ip, eps[i].port);
        struct mesh_snap_endpoint e = {.port = a.port, .flags = eps[i].flags, .service = i,
                                       .netns = eps[i].netns, .cookie = eps[i].cookie,
                                       .mode = MESH_MODE_PERMISSIVE, .id = i + 1};
        memcpy(e.addr, a.ip, 16);
        meshd_snapfile_endpoint(&e);
    }
    for (uint32_t i = 0; i < n; i++) {
        kit_group(i, 0, 0, &(struct kit_tier){.first = i, .count = 1, .healthy = 1}, 1);
        kit_route(i, (struct mesh_snap_route){.uid = MESH_SNAP_NONE}, i, 0);
    }
    (void)meshd_snapfile_add(MESH_SNAP_NETS, &(struct mesh_snap_net){.port = 80});
    ck_assert_int_eq(meshd_snapfile_commit(&set), MESH_OK);
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
    ck_assert_uint_eq(set.kernel_tls, MESH_KTLS_OFF);
    mesh_snap_settings(&none, &set);
    ck_assert_uint_eq(set.linger_ms, 1000);
    ck_assert_uint_eq(set.kernel_tls, MESH_KTLS_AUTO);
}
END_TEST

START_TEST(no_room_is_an_error)
{
    uint32_t most = (AREA - (uint32_t)sizeof(struct mesh_snap_area)) /
                    (uint32_t)sizeof(struct mesh_snap_endpoint);
    struct mesh_snap_settings set;
    mesh_snap_settings_default(&set);
    publish(table, 1);
    ck_assert(!meshd_snapfile_has_room(0, most + 1));
    ck_assert(!meshd_snapfile_has_room(UINT32_MAX, UINT32_MAX));
    ck_assert(meshd_snapfile_has_room(1, 1));
    for (uint32_t n = most; n <= most + 1; n++) {
        meshd_snapfile_begin();
        for (uint32_t i = 0; i < n; i++) {
            meshd_snapfile_endpoint(&(struct mesh_snap_endpoint){.port = 1});
        }
        ck_assert_int_eq(meshd_snapfile_commit(&set), n > most ? MESH_E_NO_MEMORY : MESH_OK);
    }
    publish(table, 1);
    meshd_snapfile_begin();
    for (uint32_t i = 0; i < 4 * most; i++) {
        meshd_snapfile_endpoint(&(struct mesh_snap_endpoint){.port = 1});
    }
    ck_assert_int_eq(meshd_snapfile_commit(&set), MESH_E_NO_MEMORY);
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
        struct mesh_snap s = {p, n, NULL};
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

static uint8_t *
area_at(uint8_t *file)
{
    return file + MESH_SNAP_HEAD + (meshd_snapfile_generation() & 1) * AREA;
}

/* Makes the check sums of a damaged area right again, as far as they lie inside. */
static void
forge(uint8_t *file)
{
    struct mesh_snap_area *a = (void *)area_at(file);
    const size_t front = offsetof(struct mesh_snap_area, table);
    uint64_t g = meshd_snapfile_generation();
    for (uint32_t i = 0; i < MESH_SNAP_BUCKETS; i++) {
        a->bucket[i].check = mesh_snap_sum(g, i, &a->bucket[i], offsetof(struct mesh_snap_bucket, check));
    }
    for (uint32_t i = 0; i < 100; i++) {
        uint64_t at = a->table[MESH_SNAP_ENDPOINTS].off + (uint64_t)i * sizeof(struct mesh_snap_endpoint);
        struct mesh_snap_endpoint *e = (void *)((uint8_t *)a + at);
        if (at % 8 == 0 && at >= sizeof(*a) && at + sizeof(*e) <= AREA) {
            e->check = mesh_snap_sum(g, i, e, offsetof(struct mesh_snap_endpoint, check));
        }
    }
    a->check = mesh_snap_sum(g, MESH_SNAP_NONE, (uint8_t *)a + front,
                             offsetof(struct mesh_snap_area, check) - front);
}

/* A damaged snapshot answers what the whole one does, or that it is damaged; never that an endpoint
 * is none. */
static void
expect_same_or_damaged(const struct mesh_snap *s, const struct mesh_snap *whole)
{
    for (unsigned port = 80; port < 87; port++) {
        struct mesh_addr a = addr("127.0.0.1", (uint16_t)port);
        struct mesh_snap_hit hit, want;
        bool found = false, should = false;
        enum mesh_err e = mesh_snap_find(s, 1, &a, &hit, &found);
        ck_assert_int_eq(mesh_snap_find(whole, 1, &a, &want, &should), MESH_OK);
        if (e == MESH_OK) {
            ck_assert(found == should && hit.registry_only == want.registry_only);
            ck_assert(!found || (strcmp(hit.service.id, want.service.id) == 0 &&
                                 hit.endpoint.mode == want.endpoint.mode));
        } else {
            ck_assert(e == MESH_E_SNAPSHOT || e == MESH_E_VERSION);
        }
    }
}

/* Random values in the words that steer the reader: head, offsets, buckets, endpoints; every other
 * time by somebody who knows the check sums. */
START_TEST(hostile)
{
    static const uint32_t evil[] = {0, 1, 2, 7, 63, 64, 0x7fffffff, 0x80000000, 0xffffffff,
                                    AREA, AREA - 64, AREA + 64, 4096, 4160};
    publish(table, sizeof(table) / sizeof(table[0]));
    struct mesh_snap whole = meshd_snapfile_view();
    uint8_t *p = unit_guarded(whole.size);
    const size_t area = (size_t)(area_at(p) - p), tables = sizeof(struct mesh_snap_area);
    const size_t used = ((const struct mesh_snap_area *)(const void *)((const uint8_t *)whole.map + area))
                            ->table[MESH_SNAP_NETS].off + sizeof(struct mesh_snap_net);
    uint32_t seed = 1;
    struct mesh_snap s = {p, whole.size, NULL};
    for (int round = 0; round < 20000; round++) {
        memcpy(p, whole.map, MESH_SNAP_HEAD);
        memcpy(p + area, (const uint8_t *)whole.map + area, used + 4);
        for (uint32_t k = rnd(&seed) % 4 + 1; k > 0; k--) {
            size_t zone = rnd(&seed) % 4;
            size_t at = zone == 0   ? rnd(&seed) % 40
                        : zone == 1 ? area + rnd(&seed) % offsetof(struct mesh_snap_area, bucket)
                        : zone == 2 ? area + tables + rnd(&seed) % (used - tables)
                                    : area + rnd(&seed) % used;
            uint32_t v = rnd(&seed) % 2 ? evil[rnd(&seed) % 14] : rnd(&seed);
            memcpy(p + at / 4 * 4, &v, 4);
        }
        if (round % 2) {
            forge(p);
        } else {
            expect_same_or_damaged(&s, &whole);
        }
        read_all(&s);
    }
}
END_TEST

/* A bit, two words that changed places, another entry's or another generation's: no sum is the same. */
START_TEST(sums)
{
    uint32_t word[112], seed = 1;
    for (uint32_t n = 1; n <= 112; n++) {
        for (uint32_t i = 0; i < n; i++) {
            word[i] = rnd(&seed) % 3 ? rnd(&seed) : 0;
        }
        const uint32_t sum = mesh_snap_sum(7, n, word, 4 * n);
        ck_assert_uint_ne(mesh_snap_sum(7, n + 1, word, 4 * n), sum);
        ck_assert_uint_ne(mesh_snap_sum(8, n, word, 4 * n), sum);
        for (uint32_t i = 0; i < 32 * n; i++) {
            word[i / 32] ^= 1u << i % 32;
            ck_assert_uint_ne(mesh_snap_sum(7, n, word, 4 * n), sum);
            word[i / 32] ^= 1u << i % 32;
        }
        for (uint32_t i = 0; i < n * n; i++) {
            uint32_t *a = &word[i / n], *b = &word[i % n], was = *a;
            *a = *b;
            *b = was;
            ck_assert(*a == *b || mesh_snap_sum(7, n, word, 4 * n) != sum);
            *b = *a;
            *a = was;
        }
    }
}
END_TEST

/* Every single byte of what is used, and whole pages of it. */
START_TEST(damage_is_seen)
{
    publish(table, sizeof(table) / sizeof(table[0]));
    struct mesh_snap whole = meshd_snapfile_view();
    uint8_t *p = unit_guarded(whole.size);
    struct mesh_snap s = {p, whole.size, NULL};
    memcpy(p, whole.map, whole.size);
    const struct mesh_snap_area *a = (const void *)area_at(p);
    size_t area = (size_t)((const uint8_t *)a - p);
    size_t end = area + a->table[MESH_SNAP_NETS].off + sizeof(struct mesh_snap_net);
    ck_assert_int_eq(mesh_snap_verify(&s), MESH_OK);
    for (size_t i = area; i < end; i++) {
        p[i] ^= (uint8_t)(1u << i % 8);
        ck_assert_int_eq(mesh_snap_verify(&s), MESH_E_SNAPSHOT);
        p[i] ^= (uint8_t)(1u << i % 8);
    }
    for (size_t i = area; i < end; i += 512) {
        for (int fill = 0; fill < 256; fill += 255) {
            memset(p + i, fill, 512);
            expect_same_or_damaged(&s, &whole);
        }
        memcpy(p + i, (const uint8_t *)whole.map + i, 512);
    }
}
END_TEST

/* meshd does not follow what somebody else wrote into its file, sees it, and mends it in place. */
START_TEST(mended_in_place)
{
    static const size_t at[] = {0, 8, 12, 16, 32, MESH_SNAP_HEAD + 8, MESH_SNAP_HEAD + AREA + 8};
    publish(table, 3);
    struct mesh_snap before = meshd_snapfile_view();
    uint64_t epoch = meshd_snapfile_epoch();
    ck_assert(meshd_snapfile_is_whole());
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        memset((char *)(uintptr_t)before.map + at[i], 0xff, 4);
        ck_assert(!meshd_snapfile_is_whole() || at[i] > MESH_SNAP_HEAD);
        publish(table, 3);
        ck_assert(meshd_snapfile_is_whole());
    }
    const off_t sizes[] = {0, 1, 5000, (off_t)before.size - 1};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        ck_assert_int_eq(truncate(kit_path, sizes[i]), 0);
        ck_assert(!meshd_snapfile_is_whole());
        ck_assert_ptr_null(meshd_snapfile_view().map);
        meshd_snapfile_beat();
        publish(table, 3);
        ck_assert(meshd_snapfile_is_whole());
    }
    ck_assert_ptr_eq(meshd_snapfile_view().map, before.map);
    ck_assert_uint_eq(meshd_snapfile_epoch(), epoch);
    read_all(&before);
}
END_TEST

START_TEST(ring_ends)
{
    publish(table, 2);
    struct mesh_snap s = meshd_snapfile_view();
    uint64_t g = meshd_snapfile_generation();
    struct mesh_snap_area *a =
        (void *)((char *)(uintptr_t)s.map + MESH_SNAP_HEAD + (g & 1) * AREA);
    struct mesh_snap_endpoint *e = (void *)((char *)a + a->table[MESH_SNAP_ENDPOINTS].off);
    for (uint32_t i = 0; i < 2; i++) {
        e[i].next = 1 - i;
        e[i].check = mesh_snap_sum(g, i, &e[i], offsetof(struct mesh_snap_endpoint, check));
    }
    struct mesh_addr to = addr("127.0.0.1", 80);
    struct mesh_snap_hit hit;
    bool found = false;
    ck_assert_int_eq(mesh_snap_find(&s, 5, &to, &hit, &found), MESH_E_SNAPSHOT);
}
END_TEST

START_TEST(versions)
{
    publish(table, 1);
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_snap_head *h = (void *)(uintptr_t)s.map;
    ck_assert_int_eq(mesh_snap_check(&s), MESH_OK);
    h->version = MESH_SNAP_VERSION + 1;
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
        meshd_snapfile_begin();
        (void)meshd_snapfile_add(MESH_SNAP_SERVICES, &s);
        for (unsigned i = 0; i < 100; i++) {
            struct mesh_snap_endpoint e = {.port = 80, .netns = g, .cookie = g, .id = i};
            memset(e.addr, 9, 16);
            e.flags = i == 99 ? 0 : MESH_EP_NETNS; /* of other namespaces */
            meshd_snapfile_endpoint(&e);
        }
        if (meshd_snapfile_commit(&set) != MESH_OK) {
            return NULL;
        }
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
    ck_assert_int_eq(meshd_snapfile_open(kit_path, AREA), MESH_OK);
    ck_assert_uint_eq(meshd_snapfile_epoch(), epoch);
    ck_assert_uint_eq(meshd_snapfile_generation(), g);
    meshd_snapfile_visit(count_visit, NULL);
    ck_assert_uint_eq(visited, 3);
}
END_TEST

START_TEST(killed_while_writing)
{
    publish(table, 3);
    struct mesh_snap s = meshd_snapfile_view();
    uint64_t next = meshd_snapfile_generation() + 1;
    char *area = (char *)(uintptr_t)s.map + MESH_SNAP_HEAD + (next & 1) * AREA;
    memset(area, 0x5a, AREA); /* in the midst of commit */
    memset(area, 0, sizeof(uint64_t));
    meshd_snapfile_close();
    ck_assert_int_eq(meshd_snapfile_open(kit_path, AREA), MESH_OK);
    meshd_snapfile_visit(count_visit, NULL);
    ck_assert_uint_eq(visited, 3);
}
END_TEST

/* As a reader that has it mapped sees it: the same file, and whole. */
START_TEST(damaged_is_mended_from_the_copy)
{
    const off_t cuts[] = {0, 5000, MESH_SNAP_SIZE(AREA)};
    for (size_t i = 0; i < 3; i++) {
        visited = 0;
        publish(table, 3);
        uint64_t epoch = meshd_snapfile_epoch();
        struct stat before, after;
        ck_assert_int_eq(stat(kit_path, &before), 0);
        memset(area_at((uint8_t *)(uintptr_t)meshd_snapfile_view().map), 1, AREA);
        meshd_snapfile_close();
        ck_assert_int_eq(truncate(kit_path, cuts[i]), 0);
        ck_assert_int_eq(meshd_snapfile_open(kit_path, AREA), MESH_OK);
        ck_assert_int_eq(stat(kit_path, &after), 0);
        ck_assert_uint_eq(before.st_ino, after.st_ino);
        ck_assert_uint_eq(meshd_snapfile_epoch(), epoch);
        meshd_snapfile_visit(count_visit, NULL);
        ck_assert_uint_eq(visited, 3);
        /* No number that the copy may have missed is used again: readers keep what they found under it. */
        uint64_t from = meshd_snapfile_generation();
        publish(table, 2);
        ck_assert_uint_gt(meshd_snapfile_generation(), from + 1000);
        ck_assert_uint_ne(meshd_snapfile_generation() & 1, from & 1);
        struct mesh_snap s = meshd_snapfile_view();
        ck_assert_int_eq(mesh_snap_verify(&s), MESH_OK);
    }
}
END_TEST

START_TEST(damaged_is_replaced)
{
    char copy[600];
    snprintf(copy, sizeof(copy), "%s.copy", kit_path);
    publish(table, 3);
    uint64_t epoch = meshd_snapfile_epoch();
    meshd_snapfile_close();
    ck_assert_int_eq(truncate(kit_path, 5000), 0);
    ck_assert_int_eq(truncate(copy, 5000), 0);
    ck_assert_int_eq(meshd_snapfile_open(kit_path, AREA), MESH_OK);
    ck_assert_uint_ne(meshd_snapfile_epoch(), epoch);
    meshd_snapfile_visit(count_visit, NULL);
    ck_assert_uint_eq(visited, 0);

    publish(table, 3); /* generation 1: area 1 */
    epoch = meshd_snapfile_epoch();
    memset((char *)(uintptr_t)meshd_snapfile_view().map + MESH_SNAP_HEAD + AREA + 400, 1, 1);
    meshd_snapfile_close();
    ck_assert_int_eq(unlink(copy), 0);
    ck_assert_int_eq(meshd_snapfile_open(kit_path, AREA), MESH_OK);
    ck_assert_uint_ne(meshd_snapfile_epoch(), epoch);
}
END_TEST

/* Does the copy hold the generation that was committed last, whole? */
static bool
copy_is_new(void)
{
    char copy[600];
    snprintf(copy, sizeof(copy), "%s.copy", kit_path);
    size_t n = MESH_SNAP_SIZE(AREA);
    int fd = open(copy, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    void *p = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(p, MAP_FAILED);
    const struct mesh_snap s = {p, n, NULL};
    bool good = mesh_snap_verify(&s) == MESH_OK &&
                ((const struct mesh_snap_head *)p)->generation == meshd_snapfile_generation();
    munmap(p, n);
    close(fd);
    return good;
}

/* The disk was full for a moment: the copy is behind, and whole again with the next change. */
START_TEST(copy_is_tried_again)
{
    struct rlimit was, none;
    publish(table, 3);
    ck_assert(copy_is_new());
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &was), 0);
    none = was;
    none.rlim_cur = 0;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
    publish(table, 3);
    publish(table, 2);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &was), 0);
    ck_assert(!copy_is_new());
    publish(table, 3);
    ck_assert(copy_is_new());
}
END_TEST

/* No SIGBUS, and what was published before stays. Needs a mount of our own. */
START_TEST(full_disk)
{
    const struct mesh_snap_settings set = {.live = 1};
    char small[480], fill[500], page[4096] = {0};
    snprintf(small, sizeof(small), "%s/small", kit_dir);
    ck_assert_int_eq(mkdir(small, 0700), 0);
    if ((unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", small, "tmpfs", 0, "size=1m") != 0) {
        return;
    }
    meshd_snapfile_close();
    snprintf(kit_path, sizeof(kit_path), "%s/snapshot", small);
    snprintf(fill, sizeof(fill), "%s/fill", small);
    ck_assert_int_eq(meshd_snapfile_open(kit_path, AREA), MESH_OK);
    publish(table, 3);
    int fd = open(fill, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, page, sizeof(page)) > 0) {
    }
    close(fd);
    uint64_t g = meshd_snapfile_generation();
    meshd_snapfile_begin();
    ck_assert_int_eq(meshd_snapfile_commit(&set), MESH_E_SYSTEM);
    ck_assert_uint_eq(meshd_snapfile_generation(), g);
    ck_assert(meshd_snapfile_is_whole());
    ck_assert_int_eq(unlink(fill), 0);
    publish(table, 3);
    ck_assert_uint_eq(meshd_snapfile_generation(), g + 1);
    meshd_snapfile_close();
    ck_assert_int_eq(umount2(small, MNT_DETACH), 0);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("snap");
    TCase *t = tcase_create("snap");
    tcase_add_checked_fixture(t, setup, kit_close);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, lookup_rules, 0, (int)(sizeof(lookups) / sizeof(lookups[0])));
    tcase_add_test(t, listeners_and_settings);
    tcase_add_test(t, no_room_is_an_error);
    tcase_add_test(t, truncated);
    tcase_add_test(t, hostile);
    tcase_add_test(t, sums);
    tcase_add_test(t, damage_is_seen);
    tcase_add_test(t, mended_in_place);
    tcase_add_test(t, copy_is_tried_again);
    tcase_add_test(t, ring_ends);
    tcase_add_test(t, versions);
    tcase_add_test(t, readers_beside_a_writer);
    tcase_add_test(t, comes_back);
    tcase_add_test(t, killed_while_writing);
    tcase_add_test(t, damaged_is_mended_from_the_copy);
    tcase_add_test(t, damaged_is_replaced);
    tcase_add_test(t, full_disk);
    suite_add_tcase(s, t);
    return unit_run(s);
}
