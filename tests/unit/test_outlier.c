/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_outlier, mesh_ewma, mesh_fixed, shim_breaker: an endpoint's ejection as many threads see it at once,
 * what anybody may have written into its word, the arithmetic of expected latency, and limits that hold under
 * concurrency and are given back.
 */
#include "common/outlier.h"

#include <pthread.h>
#include <sched.h>

#include "common/ewma.h"
#include "common/fixed.h"
#include "shim/core/live.h"
#include "shim/core/rand.h"
#include "shim/flow/breaker.h"
#include "shim/real.h"
#include "tests/unit/unit.h"

#define THREADS 8

static const struct mesh_snap_live usual = {
    .flags = MESH_LIVE_OUTLIER, .endpoints = 3, .max_ejection_percent = 50, .consecutive_5xx = 5,
    .base_ejection_ms = 30000, .max_ejection_ms = 300000};

static void
setup(void)
{
    shim_real_init();
}

static void
in_threads(void *(*fn)(void *), void *arg)
{
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_create(&t[i], NULL, fn, arg), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
    }
}

static struct mesh_outlier_view
view(const struct mesh_live_endpoint *e, const struct mesh_snap_live *set, uint64_t now)
{
    return mesh_outlier_view(atomic_load(&e->ejected), set, now);
}

START_TEST(a_life)
{
    struct mesh_live_endpoint e = {0};
    struct mesh_live_service s = {0};
    uint64_t now = 1000000;
    ck_assert_int_eq(view(&e, &usual, now).state, MESH_OUTLIER_IN);
    ck_assert_uint_eq(mesh_outlier_probe(&e, &usual, now, 1000), 0);
    ck_assert(mesh_outlier_eject(&e, &s, &usual, now, 7));
    ck_assert(!mesh_outlier_eject(&e, &s, &usual, now, 7)); /* it is */
    ck_assert_uint_eq(s.ejected, 1);
    ck_assert_int_eq(view(&e, &usual, now + 29999).state, MESH_OUTLIER_EJECTED);
    ck_assert_uint_eq(mesh_outlier_probe(&e, &usual, now + 29999, 1000), 0);
    ck_assert_int_eq(view(&e, &usual, now + 30000).state, MESH_OUTLIER_DUE);
    for (uint32_t times = 2; times < 14; times++) { /* longer each time, up to a limit */
        now = view(&e, &usual, now).until_ms;
        uint64_t probe = mesh_outlier_probe(&e, &usual, now, 1000);
        ck_assert_uint_ne(probe, 0);
        ck_assert_int_eq(view(&e, &usual, now + 999).state, MESH_OUTLIER_PROBED);
        ck_assert_uint_eq(mesh_outlier_probe(&e, &usual, now + 999, 1000), 0);
        ck_assert(mesh_outlier_again(&e, &s, &usual, probe, now, 0));
        ck_assert(!mesh_outlier_again(&e, &s, &usual, probe, now, 0)); /* told already */
        ck_assert_uint_eq(view(&e, &usual, now).until_ms - now, times < 10 ? times * 30000 : 300000);
        ck_assert_uint_eq(view(&e, &usual, now).times, times);
    }
    ck_assert_uint_eq(s.ejected, 1);
    ck_assert_uint_eq(s.ejections, 13);
    now = view(&e, &usual, now).until_ms;
    uint64_t unmade = mesh_outlier_probe(&e, &usual, now, 1000); /* a breaker was in its way */
    mesh_outlier_release(&e, unmade, now);
    mesh_outlier_release(&e, unmade, now + 999);
    ck_assert_int_eq(view(&e, &usual, now).state, MESH_OUTLIER_DUE);
    uint64_t lost = mesh_outlier_probe(&e, &usual, now, 1000); /* whose process is killed */
    uint64_t probe = mesh_outlier_probe(&e, &usual, now + 1000, 1000);
    ck_assert_uint_ne(probe, 0);
    ck_assert(!mesh_outlier_return(&e, &s, lost, now + 1001));
    e.failures = 3;
    ck_assert(mesh_outlier_return(&e, &s, probe, now + 1001));
    ck_assert_int_eq(view(&e, &usual, now + 1001).state, MESH_OUTLIER_IN);
    ck_assert_uint_eq(s.ejected, 0);
    ck_assert_uint_eq(e.failures, 0);
    ck_assert_uint_eq(e.since_ms, now + 1001);
    ck_assert_uint_eq(view(&e, &usual, now).times, 13);
    for (int i = 0; i < 20; i++) {
        mesh_outlier_calm(&e);
    }
    ck_assert_uint_eq(e.ejected, 0);
}
END_TEST

START_TEST(how_many)
{
    static const struct {
        uint32_t endpoints, percent, most;
    } t[] = {{0, 100, 0}, {1, 100, 0}, {2, 0, 1}, {2, 50, 1}, {2, 100, 1}, {3, 50, 1}, {3, 67, 2}, {3, 100, 2},
             {10, 10, 1}, {10, 50, 5}, {9, 10, 1}, {19, 10, 1}, {100, 100, 99}, {UINT32_MAX, 100, UINT32_MAX - 1}};
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct mesh_snap_live set = {.endpoints = t[i].endpoints, .max_ejection_percent = (uint8_t)t[i].percent};
        ck_assert_uint_eq(mesh_outlier_most(&set), t[i].most);
    }
}
END_TEST

START_TEST(jitter)
{
    struct mesh_snap_live set = usual;
    uint64_t least = UINT64_MAX, most = 0;
    set.jitter_ms = 1000;
    for (int i = 0; i < 20000; i++) {
        struct mesh_live_endpoint e = {0};
        struct mesh_live_service s = {0};
        ck_assert(mesh_outlier_eject(&e, &s, &set, 5000, shim_rand()));
        uint64_t span = view(&e, &set, 5000).until_ms - 5000;
        least = span < least ? span : least;
        most = span > most ? span : most;
    }
    ck_assert_uint_eq(least, 30000);
    ck_assert_uint_eq(most, 31000);
}
END_TEST

/* ---- all at once ---- */

#define MANY 64
static struct {
    struct mesh_live_endpoint e[MANY];
    struct mesh_live_service s;
    struct mesh_snap_live set;
    _Atomic uint32_t won;
} all;

static void *
eject_all(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < 100 * MANY; i++) {
        all.won += mesh_outlier_eject(&all.e[shim_rand_below(MANY)], &all.s, &all.set, 1000, 0);
    }
    return NULL;
}

START_TEST(never_too_many)
{
    all.set = usual;
    all.set.endpoints = MANY;
    all.set.max_ejection_percent = (uint8_t)(_i ? 100 : 50);
    in_threads(eject_all, NULL);
    uint32_t out = 0;
    for (int i = 0; i < MANY; i++) {
        out += all.e[i].ejected != 0;
    }
    ck_assert_uint_eq(out, _i ? MANY - 1 : MANY / 2);
    ck_assert_uint_eq(all.won, out);
    ck_assert_uint_eq(all.s.ejected, out);
    ck_assert_uint_eq(all.s.ejections, out);
    ck_assert_uint_gt(all.s.ejections_overflow, 0);
}
END_TEST

/* Rounds in which all threads do the same at the same moment, as nearly as that can be had. */
#define ROUNDS 20000
#define RACERS 4
static struct {
    void (*begin)(void);
    void (*act)(int i);
    void (*check)(void);
    _Atomic uint32_t here, at, number;
} race;

static void
meet(void)
{
    uint32_t at = race.at, spins = 0;
    if (race.here++ == RACERS - 1) {
        race.here = 0;
        race.at = at + 1;
    }
    while (race.at == at) {
        if (++spins > 2000) {
            sched_yield();
        }
    }
}

static void *
racer(void *arg)
{
    int i = (int)race.number++;
    (void)arg;
    for (int round = 0; round < ROUNDS; round++) {
        if (i == 0) {
            race.begin();
        }
        meet();
        race.act(i);
        meet();
        if (i == 0) {
            race.check();
        }
    }
    return NULL;
}

static void
run_race(void (*begin)(void), void (*act)(int i), void (*check)(void))
{
    pthread_t t[RACERS];
    race.begin = begin;
    race.act = act;
    race.check = check;
    for (int i = 0; i < RACERS; i++) {
        ck_assert_int_eq(pthread_create(&t[i], NULL, racer, NULL), 0);
    }
    for (int i = 0; i < RACERS; i++) {
        pthread_join(t[i], NULL);
    }
}

static void
last_begin(void)
{
    memset(all.e, 0, sizeof(all.e));
    all.s.ejected = 0;
}

static void
last_act(int i)
{
    all.won += mesh_outlier_eject(&all.e[i], &all.s, &all.set, 1000, 0);
}

static void
last_check(void)
{
    ck_assert_uint_eq(all.s.ejected, RACERS - 1);
    ck_assert_uint_eq(all.won, RACERS - 1);
    all.won = 0;
}

START_TEST(never_the_last)
{
    all.set = usual;
    all.set.endpoints = RACERS;
    all.set.max_ejection_percent = 100;
    run_race(last_begin, last_act, last_check);
}
END_TEST

static void
probe_begin(void)
{
    all.won = 0;
    all.e[0].ejected = UINT64_C(1000) << 24 | 3 << 8;
}

static void
probe_act(int i)
{
    uint64_t probe = mesh_outlier_probe(&all.e[0], &all.set, 1000, 50);
    all.won += probe != 0;
    (void)i;
}

static void
probe_check(void)
{
    ck_assert_uint_eq(all.won, 1);
    ck_assert_int_eq(view(&all.e[0], &all.set, 1049).state, MESH_OUTLIER_PROBED);
}

/* Somebody else knows better: back at once, also while it is probed, and the probe's end says nothing any more. */
START_TEST(unejected)
{
    struct mesh_live_endpoint e = {.failures = 0};
    struct mesh_live_service s = {.ejected = 0};
    ck_assert(!mesh_outlier_uneject(&e, &s, 1)); /* it is in service */
    ck_assert(mesh_outlier_eject(&e, &s, &usual, 1000, 0));
    ck_assert(mesh_outlier_uneject(&e, &s, 2000));
    ck_assert(view(&e, &usual, 2000).state == MESH_OUTLIER_IN && view(&e, &usual, 2000).times == 1);
    ck_assert(s.ejected == 0 && e.since_ms == 2000);
    ck_assert(mesh_outlier_eject(&e, &s, &usual, 3000, 0));
    uint64_t due = view(&e, &usual, 3000).until_ms, probe = mesh_outlier_probe(&e, &usual, due, 1000);
    ck_assert(probe && mesh_outlier_uneject(&e, &s, due + 1));
    ck_assert(!mesh_outlier_again(&e, &s, &usual, probe, due + 2, 0) && !mesh_outlier_return(&e, &s, probe, due + 2));
    ck_assert(s.ejected == 0 && view(&e, &usual, due + 2).state == MESH_OUTLIER_IN);
}
END_TEST

START_TEST(one_probe)
{
    all.set = usual;
    run_race(probe_begin, probe_act, probe_check);
}
END_TEST

/* Whatever the word says, it is over in time, and nothing else is harmed. */
START_TEST(hostile)
{
    for (int i = 0; i < 100000; i++) {
        struct mesh_live_endpoint e = {.ejected = shim_rand() >> shim_rand_below(64)};
        struct mesh_live_service s = {.ejected = (uint32_t)shim_rand()};
        uint64_t now = UINT64_C(1) << shim_rand_below(40);
        struct mesh_outlier_view v = view(&e, &usual, now);
        uint64_t end = now + usual.max_ejection_ms + 700000;
        ck_assert(v.state == MESH_OUTLIER_IN || v.state == MESH_OUTLIER_DUE || v.until_ms <= end);
        uint64_t probe = mesh_outlier_probe(&e, &usual, now, UINT32_MAX);
        ck_assert_int_eq(probe != 0, v.state == MESH_OUTLIER_DUE);
        ck_assert(!probe || mesh_outlier_return(&e, &s, probe, now));
        (void)mesh_outlier_eject(&e, &s, &usual, now, shim_rand());
        ck_assert_uint_le(view(&e, &usual, now).until_ms, end);
    }
}
END_TEST

/* ---- arithmetic ---- */

START_TEST(powers)
{
    ck_assert_uint_eq(mesh_fixed_exp2_neg(0), 65536);
    ck_assert_uint_eq(mesh_fixed_exp2_neg(65536), 32768);
    ck_assert_uint_eq(mesh_fixed_exp2_neg(UINT32_MAX), 0);
    ck_assert_int_lt(abs((int)mesh_fixed_exp2_neg(32768) - 46341), 2); /* 1/sqrt 2 */
    ck_assert_uint_eq(mesh_fixed_log2_neg(65536), 0);
    ck_assert_uint_eq(mesh_fixed_log2_neg(16384), 2 * 65536);
    ck_assert_uint_eq(mesh_fixed_log2_neg(0), 16 * 65536);
    ck_assert_int_lt(abs((int)mesh_fixed_decay(10000, 10000) - 24109), 3); /* 1/e */
    ck_assert_uint_eq(mesh_fixed_decay(0, 10000), 65536);
    ck_assert_uint_eq(mesh_fixed_decay(UINT64_MAX, 10000), 0);
    ck_assert_uint_eq(mesh_fixed_decay(5, 0), 0);
    ck_assert_uint_eq(mesh_fixed_root(16384, 1000), 16384);
    ck_assert_int_lt(abs((int)mesh_fixed_root(16384, 2000) - 32768), 4); /* a square root */
    ck_assert_int_lt(abs((int)mesh_fixed_root(32768, 500) - 16384), 4);  /* a square */
    ck_assert_uint_eq(mesh_fixed_root(0, 2000), 0);
    ck_assert_uint_eq(mesh_fixed_root(UINT32_MAX, 2000), 65536);
    for (uint32_t x = 1, last = UINT32_MAX; x <= 65536; x++) {
        uint32_t log = mesh_fixed_log2_neg(x);
        ck_assert_uint_le(log, last);
        ck_assert_int_le(abs((int)mesh_fixed_exp2_neg(log) - (int)x), 2);
        last = log;
    }
}
END_TEST

START_TEST(peaks)
{
    uint64_t now = UINT64_C(0xfffff000); /* its lower half will wrap */
    ck_assert_uint_eq(mesh_ewma_read(0, now), MESH_EWMA_DEFAULT_US);
    uint64_t w = mesh_ewma_next(0, 5000, now);
    ck_assert_uint_eq(mesh_ewma_read(w, now), 5000); /* the first one counts whole */
    w = mesh_ewma_next(w, 80000, now);
    ck_assert_uint_eq(mesh_ewma_read(w, now), 80000); /* up at once */
    ck_assert_int_lt(abs((int)mesh_ewma_read(w, now + 10000) - 29430), 20); /* 80000 / e: sinks alone */
    uint64_t x = mesh_ewma_next(w, 1000, now + 100);
    ck_assert_int_lt(abs((int)mesh_ewma_read(x, now + 100) - 79214), 20); /* down by and by */
    for (int i = 2; i < 2000; i++) {
        x = mesh_ewma_next(x, 1000, now + (uint64_t)i * 100);
    }
    ck_assert_int_lt(abs((int)mesh_ewma_read(x, now + 199900) - 1000), 100);
    ck_assert_uint_eq(mesh_ewma_read(w, now + 500000), 1); /* never nothing */
    w = mesh_ewma_next(w, UINT64_MAX, now);
    ck_assert_uint_eq(mesh_ewma_read(w, now), UINT32_MAX);
    for (int i = 0; i < 100000; i++) {
        w = mesh_ewma_next(shim_rand(), shim_rand() >> shim_rand_below(64), shim_rand());
        ck_assert_uint_ge(mesh_ewma_read(w, shim_rand()), 1);
    }
}
END_TEST

/* ---- limits ---- */

static const struct mesh_snap_live limited = {.entry = 7, .max_connections = 25, .max_pending = 15,
                                              .max_retries = 5};
static _Atomic uint32_t highest, refused;

static void *
connections(void *arg)
{
    const struct mesh_live_service *l = shim_live_service(limited.entry);
    (void)arg;
    for (int round = 0; round < 200; round++) {
        struct shim_slot s[20];
        memset(s, 0, sizeof(s));
        for (int i = 0; i < 20; i++) {
            if (shim_breaker_enter(&limited) != MESH_OK) {
                refused++;
                continue;
            }
            shim_breaker_hold(&s[i], &limited);
            if (i % 3 == 0) {
                (void)shim_breaker_retry(&s[i], &limited);
            }
            ck_assert_uint_le(l->active, 25);
            ck_assert_uint_le(l->pending, 15);
            ck_assert_uint_le(l->retries, 5);
            if (i % 2) {
                shim_breaker_connected(&s[i]);
            }
            uint32_t n = l->active;
            for (uint32_t h = highest; n > h && !atomic_compare_exchange_weak(&highest, &h, n);) {
            }
        }
        for (int i = 0; i < 20; i++) {
            shim_breaker_leave(&s[i]);
            shim_breaker_leave(&s[i]); /* counts once */
        }
    }
    return NULL;
}

START_TEST(limits_hold)
{
    const struct mesh_live_service *l = shim_live_service(limited.entry);
    in_threads(connections, NULL);
    printf("at most %u of 25 connections; %u refused, %u and %u for each limit; %u retries\n", highest, refused,
           l->cx_overflow, l->pending_overflow, l->retry_overflow);
    ck_assert_uint_eq(l->active, 0);
    ck_assert_uint_eq(l->pending, 0);
    ck_assert_uint_eq(l->retries, 0);
    ck_assert_uint_gt(refused, 0);
    ck_assert_uint_eq(refused, l->cx_overflow + l->pending_overflow);
}
END_TEST

static const struct mesh_snap_live single = {.entry = 13, .max_connections = 1};

static void
enter_begin(void)
{
    shim_live_service(13)->active = shim_live_service(13)->pending = 0;
    all.won = 0;
}

static void
enter_act(int i)
{
    all.won += shim_breaker_enter(&single) == MESH_OK;
    (void)i;
}

static void
enter_check(void)
{
    ck_assert_uint_eq(all.won, 1);
}

START_TEST(limits_at_once)
{
    run_race(enter_begin, enter_act, enter_check);
}
END_TEST

START_TEST(each_limit)
{
    const struct mesh_snap_live cx = {.entry = 8, .max_connections = 2}, pend = {.entry = 9, .max_pending = 2},
                                cancelled = {.entry = 10, .max_connections = 1};
    struct shim_slot s = {0};
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(shim_breaker_enter(&cx), i < 2 ? MESH_OK : MESH_E_OVERFLOW);
        ck_assert_int_eq(shim_breaker_enter(&pend), i < 2 ? MESH_OK : MESH_E_OVERFLOW);
        ck_assert_int_eq(shim_breaker_enter(&cancelled), MESH_OK);
        shim_breaker_cancel(&cancelled);
    }
    ck_assert_uint_eq(shim_live_service(8)->cx_overflow, 3);
    ck_assert_uint_eq(shim_live_service(8)->pending, 2);
    ck_assert_uint_eq(shim_live_service(9)->pending_overflow, 3);
    ck_assert_uint_eq(shim_live_service(9)->active, 2);
    shim_breaker_hold(&s, &pend);
    shim_breaker_connected(&s); /* it is a connection still, and under way no more */
    ck_assert_uint_eq(shim_live_service(9)->active, 2);
    ck_assert_int_eq(shim_breaker_enter(&pend), MESH_OK);
}
END_TEST

/* One that fails over to another service counts there, as what it is, if there is room. */
START_TEST(failover)
{
    const struct mesh_snap_live a = {.entry = 20, .max_connections = 5}, b = {.entry = 21, .max_connections = 1};
    const struct mesh_live_service *la = shim_live_service(20), *lb = shim_live_service(21);
    struct shim_slot s[2] = {0};
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(shim_breaker_enter(&a), MESH_OK);
        shim_breaker_hold(&s[i], &a);
        ck_assert(shim_breaker_retry(&s[i], &a));
        ck_assert_int_eq(shim_breaker_move(&s[i], &a), MESH_OK);
    }
    ck_assert_int_eq(shim_breaker_move(&s[0], &b), MESH_OK);
    ck_assert_int_eq(shim_breaker_move(&s[1], &b), MESH_E_OVERFLOW);
    ck_assert(la->active == 1 && la->pending == 1 && la->retries == 1);
    ck_assert(lb->active == 1 && lb->pending == 1 && lb->retries == 1);
    shim_breaker_connected(&s[0]);
    ck_assert(lb->active == 1 && lb->pending == 0 && lb->retries == 0);
    shim_breaker_leave(&s[0]);
    shim_breaker_leave(&s[1]);
    ck_assert(lb->active == 0 && la->active == 0 && la->pending == 0 && la->retries == 0);
}
END_TEST

START_TEST(budget)
{
    struct mesh_snap_live set = {.entry = 11, .flags = MESH_LIVE_BUDGET, .budget_percent = 20,
                                 .budget_min_retries = 3, .max_retries = 1};
    struct mesh_live_service *l = shim_live_service(11);
    static struct shim_slot s[64];
    for (int i = 0; i < 5; i++) {
        shim_breaker_hold(&s[i], &set);
        ck_assert_int_eq(shim_breaker_retry(&s[i], &set), i < 3);
        ck_assert_int_eq(shim_breaker_retry(&s[i], &set), i < 3); /* again: one is one */
    }
    ck_assert_uint_eq(l->retry_overflow, 4);
    atomic_store(&l->active, 50); /* a fifth of them: ten */
    for (int i = 5; i < 20; i++) {
        shim_breaker_hold(&s[i], &set);
        ck_assert_int_eq(shim_breaker_retry(&s[i], &set), i < 12);
    }
    set.flags = 0; /* then max_retries counts, and 0 is no limit */
    ck_assert(!shim_breaker_retry(&s[20], &set));
    set.max_retries = 0;
    ck_assert(shim_breaker_retry(&s[20], &set));
}
END_TEST

/* Where nothing is limited nobody is refused, whatever others write there. */
START_TEST(no_limit_holds_nobody)
{
    const struct mesh_snap_live set = {.entry = 13};
    struct mesh_live_service *l = shim_live_service(13);
    struct shim_slot s = {0};
    atomic_store(&l->active, UINT32_MAX);
    atomic_store(&l->pending, UINT32_MAX);
    atomic_store(&l->retries, UINT32_MAX);
    ck_assert_int_eq(shim_breaker_enter(&set), MESH_OK);
    shim_breaker_hold(&s, &set);
    ck_assert(shim_breaker_retry(&s, &set));
    shim_breaker_leave(&s);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("outlier");
    TCase *t = tcase_create("outlier");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_life);
    tcase_add_test(t, how_many);
    tcase_add_test(t, jitter);
    tcase_add_loop_test(t, never_too_many, 0, 2);
    tcase_add_test(t, never_the_last);
    tcase_add_test(t, one_probe);
    tcase_add_test(t, unejected);
    tcase_add_test(t, hostile);
    tcase_add_test(t, powers);
    tcase_add_test(t, peaks);
    tcase_add_test(t, limits_hold);
    tcase_add_test(t, limits_at_once);
    tcase_add_test(t, each_limit);
    tcase_add_test(t, no_limit_holds_nobody);
    tcase_add_test(t, failover);
    tcase_add_test(t, budget);
    suite_add_tcase(s, t);
    return unit_run(s);
}
