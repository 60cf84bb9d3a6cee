/* SPDX-License-Identifier: Apache-2.0
 *
 * Limits and faults: the token bucket against a clock of the test's own, counts, the table with hostile
 * content; faults drawn by percentage (chi-square, from a fixed beginning) and by their conditions; their way
 * through the snapshot.
 */
#include "common/limits.h"

#include <pthread.h>

#include "common/snap.h"
#include "meshd/base/log.h"
#include "meshd/registry/limits.h"
#include "meshd/registry/snapfile.h"
#include "shim/core/rand.h"
#include "shim/route/fault.h"
#include "tests/unit/unit.h"

#define MS  UINT64_C(1000000)
#define SEC (1000 * MS)

static struct mesh_limit table[MESH_LIMITS];
static uint64_t seed;

/* SplitMix64, as the shim's, from where the test begins. */
uint32_t
shim_rand_below(uint32_t n)
{
    uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)(((z ^ z >> 31) >> 32) * n >> 32);
}

static void
setup(void)
{
    memset(table, 0, sizeof(table));
    seed = 1;
    meshd_log_set(MESHD_LOG_ERROR);
}

/* How many tokens there are at `now`. */
static uint32_t
take_all(struct mesh_limit *l, const struct mesh_rate *r, uint64_t now)
{
    uint32_t n = 0;
    while (n < 10000000 && mesh_limit_take(l, r, now)) {
        n++;
    }
    return n;
}

START_TEST(bucket_fills_and_empties)
{
    const struct mesh_rate r = {5, 2, 100}; /* 2 in 100 ms */
    struct mesh_limit l = {0};
    uint64_t now = 7 * SEC;
    ck_assert_uint_eq(take_all(&l, &r, now), 5);
    ck_assert_uint_eq(take_all(&l, &r, now + 50 * MS - 1), 0);
    ck_assert_uint_eq(take_all(&l, &r, now + 50 * MS), 1);
    ck_assert_uint_eq(take_all(&l, &r, now + 200 * MS), 3);
    ck_assert_uint_eq(take_all(&l, &r, now + 3600 * SEC), 5); /* no more than it holds */
}
END_TEST

/* Clocks that go back between processors, by little, take nothing away. */
START_TEST(bucket_with_time_going_back)
{
    const struct mesh_rate r = {1, 1, 1000};
    struct mesh_limit l = {0};
    ck_assert(mesh_limit_take(&l, &r, 10 * SEC));
    ck_assert(!mesh_limit_take(&l, &r, 10 * SEC - 1));
    ck_assert(mesh_limit_take(&l, &r, 11 * SEC));
}
END_TEST

/* In the long run as many as configured, to the token, however they divide the interval. */
START_TEST(bucket_in_the_long_run)
{
    static const struct mesh_rate rates[] = {{10, 3, 1000}, {1, 7, 1000}, {100, 1000, 1000}, {3, 9999, 1}, {1, 1, 600000}};
    const struct mesh_rate *r = &rates[_i];
    struct mesh_limit l = {0};
    uint64_t now = SEC, step = r->fill_interval_ms * MS / r->tokens_per_fill / 3 + 1, n = 0;
    while (n < 20000) {
        n += mesh_limit_take(&l, r, now);
        now += step;
    }
    double want = r->max_tokens + (double)(now - SEC) * r->tokens_per_fill / ((double)r->fill_interval_ms * MS);
    ck_assert_double_ge((double)n, want * 0.999 - 2);
    ck_assert_double_le((double)n, want * 1.001 + 1);
}
END_TEST

START_TEST(no_rate_no_limit)
{
    const struct mesh_rate r = {0, 1, 1000};
    struct mesh_limit l = {.full_at = UINT64_MAX};
    ck_assert(mesh_limit_take(&l, &r, SEC));
}
END_TEST

/* Whatever a process writes there: it is as if it had taken all tokens, or none, and no worse. */
START_TEST(bucket_with_hostile_content)
{
    const struct mesh_rate r = {5, 1, 1000};
    struct mesh_limit l = {.full_at = UINT64_MAX};
    ck_assert_uint_eq(take_all(&l, &r, 100 * SEC), 0);
    atomic_store(&l.full_at, UINT64_MAX);
    ck_assert(!mesh_limit_take(&l, &r, 200 * SEC));
    atomic_store(&l.full_at, (uint64_t)1 << 63);
    ck_assert(!mesh_limit_take(&l, &r, 200 * SEC));
    atomic_store(&l.full_at, 0);
    ck_assert_uint_eq(take_all(&l, &r, 300 * SEC), 5);
    ck_assert_uint_eq(take_all(&l, &r, 305 * SEC), 5);
}
END_TEST

static struct mesh_limit shared;
static const struct mesh_rate shared_rate = {20000, 1, 600000};

static void *
taker(void *arg)
{
    uint32_t *n = arg;
    for (int i = 0; i < 20000; i++) {
        *n += mesh_limit_take(&shared, &shared_rate, SEC);
    }
    return NULL;
}

START_TEST(bucket_of_many)
{
    pthread_t t[4];
    uint32_t n[4] = {0}, sum = 0;
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_create(&t[i], NULL, taker, &n[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
        sum += n[i];
    }
    ck_assert_uint_eq(sum, 20000);
}
END_TEST

START_TEST(counts)
{
    struct mesh_limit l = {0};
    ck_assert(mesh_limit_enter(&l, 2));
    ck_assert(mesh_limit_enter(&l, 2));
    ck_assert(!mesh_limit_enter(&l, 2));
    ck_assert(!mesh_limit_enter(&l, 2)); /* refused ones do not count */
    mesh_limit_leave(&l);
    ck_assert(mesh_limit_enter(&l, 2));
    ck_assert(mesh_limit_enter(&l, 0)); /* no limit, and it counts */
    ck_assert(!mesh_limit_enter(&l, 3));
    for (int i = 0; i < 9; i++) {
        mesh_limit_leave(&l);
    }
    ck_assert_uint_eq(l.active, 0);
}
END_TEST

START_TEST(places)
{
    uint64_t a = mesh_limit_key("cache", "spiffe://td/ns/default/sa/web");
    uint64_t b = mesh_limit_key("cache", "spiffe://td/ns/default/sa/worker");
    ck_assert(a != b && a != mesh_limit_key("cache2", "spiffe://td/ns/default/sa/web") && a != 0);
    ck_assert_uint_eq(mesh_limit_find(table, a), MESH_LIMITS);
    uint32_t i = mesh_limit_at(table, a, SEC);
    ck_assert_uint_lt(i, MESH_LIMITS);
    ck_assert_uint_eq(mesh_limit_at(table, a, SEC), i);
    ck_assert_uint_eq(mesh_limit_find(table, a), i);
    ck_assert_uint_ne(mesh_limit_at(table, b, SEC), i);
}
END_TEST

/* Full of others that are in use: shared, and never outside. Idle ones give way. */
START_TEST(places_in_a_full_table)
{
    uint64_t key = mesh_limit_key("cache", "a");
    for (uint32_t i = 0; i < MESH_LIMITS; i++) {
        table[i].key = i + 1;
        table[i].active = 1;
    }
    uint32_t at = mesh_limit_at(table, key, SEC);
    ck_assert_uint_lt(at, MESH_LIMITS);
    ck_assert_uint_ne(table[at].key, key);
    table[(at + 3) % MESH_LIMITS].active = 0;
    table[(at + 3) % MESH_LIMITS].full_at = (SEC << MESH_LIMIT_SHIFT) + 1; /* has tokens to get back */
    ck_assert_uint_eq(mesh_limit_at(table, key, SEC), at);
    ck_assert_uint_eq(mesh_limit_at(table, key, SEC + 1), (at + 3) % MESH_LIMITS);
    ck_assert_uint_eq(mesh_limit_find(table, key), (at + 3) % MESH_LIMITS);
}
END_TEST

/* ---- faults ---- */

static const char *id = "spiffe://td/ns/default/sa/web";

static void
draws(const struct mesh_snap_limits *l, uint32_t n, uint32_t *connect, uint32_t *stream)
{
    for (uint32_t i = 0; i < n; i++) {
        struct shim_faults f;
        shim_fault_draw(l, id, 80, &f);
        connect[f.connect == MESH_FAULT_NONE ? 6 : f.connect]++;
        stream[f.stream == MESH_FAULT_NONE ? 6 : f.stream]++;
    }
}

static const uint16_t percentages[] = {1, 50, 1225, 5000, 9999};

/* 1 degree of freedom: above 28 once in ten million, of the beginnings that there are. */
START_TEST(percentage)
{
    const uint32_t n = 1000000;
    struct mesh_snap_limits l = {.faults = 1, .fault = {{.type = MESH_FAULT_DELAY, .percentage = percentages[_i]}}};
    uint32_t connect[7] = {0}, stream[7] = {0};
    draws(&l, n, connect, stream);
    double want = n * (percentages[_i] / 10000.0), got = connect[MESH_FAULT_DELAY];
    double x = (got - want) * (got - want) / want + (got - want) * (got - want) / (n - want);
    printf("%.2f %% of %u: %.0f, chi-square %.2f (1 degree of freedom, limit 28)\n", percentages[_i] / 100.0, n,
           got, x);
    ck_assert_double_lt(x, 28);
    ck_assert_uint_eq(stream[6], n);
}
END_TEST

START_TEST(never_and_always)
{
    struct mesh_snap_limits l = {.faults = 2, .fault = {{.type = MESH_FAULT_REFUSE, .percentage = 0},
                                                        {.type = MESH_FAULT_RESET, .percentage = MESH_FAULT_ALWAYS}}};
    uint32_t connect[7] = {0}, stream[7] = {0};
    draws(&l, 100000, connect, stream);
    ck_assert_uint_eq(connect[6], 100000);
    ck_assert_uint_eq(stream[MESH_FAULT_RESET], 100000);
}
END_TEST

/* The second is drawn among those that the first left. */
START_TEST(first_drawn_holds)
{
    struct mesh_snap_limits l = {.faults = 3, .fault = {{.type = MESH_FAULT_REFUSE, .percentage = 2000},
                                                        {.type = MESH_FAULT_DELAY, .percentage = 5000, .delay_ms = 7},
                                                        {.type = MESH_FAULT_SHORT_WRITE, .percentage = 5000, .bytes = 9}}};
    uint32_t connect[7] = {0}, stream[7] = {0};
    draws(&l, 100000, connect, stream);
    ck_assert_uint_ge(connect[MESH_FAULT_REFUSE], 19300);
    ck_assert_uint_le(connect[MESH_FAULT_REFUSE], 20700);
    ck_assert_uint_ge(connect[MESH_FAULT_DELAY], 39000);
    ck_assert_uint_le(connect[MESH_FAULT_DELAY], 41000);
    ck_assert_uint_ge(stream[MESH_FAULT_SHORT_WRITE], 49000);
    ck_assert_uint_le(stream[MESH_FAULT_SHORT_WRITE], 51000);
}
END_TEST

START_TEST(conditions)
{
    struct mesh_snap_limits l = {.faults = 1, .fault = {{.type = MESH_FAULT_DELAY, .percentage = MESH_FAULT_ALWAYS,
                                                         .delay_ms = 5, .port = 80, .source = mesh_limit_hash("web")}}};
    struct shim_faults f;
    shim_fault_draw(&l, id, 80, &f);
    ck_assert_uint_eq(f.connect, MESH_FAULT_DELAY);
    ck_assert_uint_eq(f.delay_ms, 5);
    shim_fault_draw(&l, id, 81, &f);
    ck_assert_uint_eq(f.connect, MESH_FAULT_NONE);
    shim_fault_draw(&l, "spiffe://td/ns/default/sa/web2", 80, &f);
    ck_assert_uint_eq(f.connect, MESH_FAULT_NONE);
    shim_fault_draw(&l, "", 80, &f);
    ck_assert_uint_eq(f.connect, MESH_FAULT_NONE);
    l.faults = 255; /* of a damaged one */
    shim_fault_draw(&l, id, 81, &f);
}
END_TEST

/* ---- through the snapshot ---- */

static const char *dir;

static void
open_snapshot(void)
{
    char path[512];
    setup();
    dir = unit_mkdir();
    snprintf(path, sizeof(path), "%s/snapshot", dir);
    ck_assert_int_eq(meshd_snapfile_open(path, 1u << 20), MESH_OK);
}

static void
close_snapshot(void)
{
    meshd_snapfile_close();
    unit_rmdir(dir);
}

/* Two services with limits, of names that come in the order given. */
static void
publish(const char *one, const char *two, struct mesh_snap_service out[2])
{
    const char *name[] = {one, two};
    struct meshd_fault_rule fault = {.type = MESH_FAULT_RESET, .percentage = 77, .after_bytes = 5, .source = "web"};
    struct mesh_snap_settings set;
    mesh_snap_settings_default(&set);
    meshd_snapfile_begin();
    for (int i = 0; i < 2; i++) {
        struct meshd_service_rule rule = {.limits = {.faults = &fault, .fault_count = 1, .shadow = true}};
        struct mesh_snap_service s = {0};
        snprintf(rule.name, sizeof(rule.name), "%s", name[i]);
        snprintf(s.name, sizeof(s.name), "%s", name[i]);
        rule.limits.max_tokens = (uint32_t)name[i][0];
        s.limits = meshd_limits_write(&rule);
        ck_assert_uint_eq(s.limits, (unsigned)i + 1);
        ck_assert_uint_eq(meshd_snapfile_add(MESH_SNAP_SERVICES, &s), (unsigned)i);
        out[i] = s;
    }
    ck_assert_int_eq(meshd_snapfile_commit(&set), MESH_OK);
}

START_TEST(written_and_read)
{
    struct mesh_snap_service s[2], none = {.name = "cache"};
    struct mesh_snap_limits l;
    publish("cache", "web", s);
    struct mesh_snap snap = meshd_snapfile_view();
    ck_assert_int_eq(mesh_snap_verify(&snap), MESH_OK);
    ck_assert(mesh_snap_limits(&snap, &s[1], &l));
    ck_assert_uint_eq(l.max_tokens, 'w');
    ck_assert_uint_eq(l.shadow, 1);
    ck_assert_uint_eq(l.faults, 1);
    ck_assert_uint_eq(l.fault[0].bytes, 5);
    ck_assert_uint_eq(l.fault[0].percentage, 77);
    ck_assert_uint_eq(l.fault[0].source, mesh_limit_hash("web"));
    ck_assert(!mesh_snap_limits(&snap, &none, &l));
    ck_assert_uint_eq(meshd_limits_write(NULL), 0);
}
END_TEST

/* What was looked up a moment ago leads to its own service's, wherever they are now. */
START_TEST(moved_meanwhile)
{
    struct mesh_snap_service before[2], now[2], gone = {.name = "gone", .limits = 1}, far = {.name = "web", .limits = 9};
    struct mesh_snap_limits l;
    publish("cache", "web", before);
    publish("web", "cache", now);
    struct mesh_snap snap = meshd_snapfile_view();
    ck_assert(mesh_snap_limits(&snap, &before[1], &l));
    ck_assert_uint_eq(l.max_tokens, 'w');
    ck_assert(mesh_snap_limits(&snap, &before[0], &l));
    ck_assert_uint_eq(l.max_tokens, 'c');
    ck_assert(mesh_snap_limits(&snap, &far, &l));
    ck_assert_uint_eq(l.max_tokens, 'w');
    ck_assert(!mesh_snap_limits(&snap, &gone, &l));
}
END_TEST

START_TEST(damage_is_seen)
{
    struct mesh_snap_service s[2];
    publish("cache", "web", s);
    struct mesh_snap whole = meshd_snapfile_view();
    uint8_t *p = unit_guarded(whole.size);
    struct mesh_snap snap = {p, whole.size, NULL};
    memcpy(p, whole.map, whole.size);
    size_t area = MESH_SNAP_HEAD + (meshd_snapfile_generation() & 1) * (size_t)(1u << 20);
    const struct mesh_snap_area *a = (const void *)(p + area);
    const struct mesh_snap_table *t = &a->table[MESH_SNAP_LIMITS];
    size_t from = area + t->off, to = from + t->count * sizeof(struct mesh_snap_limits);
    ck_assert_uint_eq(t->count, 2);
    for (size_t i = from; i < to; i++) {
        p[i] ^= (uint8_t)(1u << i % 8);
        ck_assert_int_eq(mesh_snap_verify(&snap), MESH_E_SNAPSHOT);
        p[i] ^= (uint8_t)(1u << i % 8);
    }
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("limits");
    TCase *t = tcase_create("bucket");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, bucket_fills_and_empties);
    tcase_add_test(t, bucket_with_time_going_back);
    tcase_add_loop_test(t, bucket_in_the_long_run, 0, 5);
    tcase_add_test(t, no_rate_no_limit);
    tcase_add_test(t, bucket_with_hostile_content);
    tcase_add_test(t, bucket_of_many);
    tcase_add_test(t, counts);
    tcase_add_test(t, places);
    tcase_add_test(t, places_in_a_full_table);
    suite_add_tcase(s, t);
    t = tcase_create("faults");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_loop_test(t, percentage, 0, 5);
    tcase_add_test(t, never_and_always);
    tcase_add_test(t, first_drawn_holds);
    tcase_add_test(t, conditions);
    suite_add_tcase(s, t);
    t = tcase_create("snapshot");
    tcase_add_checked_fixture(t, open_snapshot, close_snapshot);
    tcase_add_test(t, written_and_read);
    tcase_add_test(t, moved_meanwhile);
    tcase_add_test(t, damage_is_seen);
    suite_add_tcase(s, t);
    return unit_run(s);
}
