/* SPDX-License-Identifier: Apache-2.0
 *
 * ring_hash and maglev, the choice: who moves when a member is not usable, attempts, tiers, bounded loads, another
 * process, and tables that somebody has tampered with.
 */
#include <sys/wait.h>
#include <time.h>

#include "mesh/live.h"
#include "tests/unit/hash_kit.h"

/* The ways in which a member is not usable: its keys move, and come back. */
enum lost { SICK, DRAINING, EJECTED, FULL, LOST_WAYS };

static void
lose(struct world *w, enum lost how, uint32_t i, bool is)
{
    struct mesh_live_endpoint *e = shim_live_endpoint(i + 1);
    w->sick = how == SICK && is ? UINT64_C(1) << i : 0;
    w->draining = how == DRAINING && is ? UINT64_C(1) << i : 0;
    w->ejects = how == EJECTED;
    w->per_host = how == FULL ? 3 : 0;
    atomic_store(&e->ejected, how == EJECTED && is ? (shim_now() / 1000000 + 1000000) << 24 | 1 : 0);
    atomic_store(&e->active, how == FULL && is ? 3 : 0);
    publish(w);
}

START_TEST(only_its_keys_move)
{
    static uint8_t before[KEYS], lost[KEYS], after[KEYS];
    for (enum mesh_lb lb = FIRST; lb < BEHIND; lb++) {
        struct world w = {.lb = lb, .n = 5, .panic = 50};
        uint32_t own = 0, others = 0, to[6] = {0};
        publish(&w);
        map(before);
        lose(&w, (enum lost)_i, 2, true);
        map(lost);
        lose(&w, (enum lost)_i, 2, false);
        map(after);
        for (uint32_t k = 0; k < KEYS; k++) {
            ck_assert(lost[k] != 3 && lost[k] >= 1 && lost[k] <= 5);
            own += before[k] == 3;
            others += before[k] != 3 && lost[k] != before[k];
            to[lost[k]] += before[k] == 3;
        }
        printf("%s: %u of %u keys move, of others %u; to 1 2 4 5: %u %u %u %u\n", names[lb], own, KEYS, others, to[1], to[2],
               to[4], to[5]);
        ck_assert_uint_eq(others, 0);
        ck_assert(own > KEYS / 8 && to[1] && to[2] && to[4] && to[5]);
        ck_assert_int_eq(memcmp(before, after, KEYS), 0);
    }
}
END_TEST

/* Attempts of one connect(): each time another one, in an order that is the key's; the second is where the key leads
 * when the first is lost. */
START_TEST(attempts)
{
    for (enum mesh_lb lb = FIRST; lb < BEHIND; lb++) {
        for (uint32_t k = 0; k < 50; k++) {
            struct shim_pick p = client(k), again = client(k);
            struct world w = {.lb = lb, .n = 6, .panic = 0};
            uint32_t met = 0, id, order[7] = {0};
            publish(&w);
            for (uint32_t n = 0; (id = next(&p)) != 0; n++) {
                order[n] = id;
                met |= 1u << id;
                ck_assert_uint_eq(next(&again), id);
            }
            ck_assert_uint_eq(met, 0x7e);
            w.sick = UINT64_C(1) << (order[0] - 1);
            publish(&w);
            ck_assert_uint_eq(goes(k), order[1]);
        }
    }
}
END_TEST

/* Of the first four two are unhealthy: the tier bears 70 of 100, and the key says which 30 go to the second. */
START_TEST(tiers)
{
    static uint8_t whole[KEYS], half[KEYS], again[KEYS];
    for (enum mesh_lb lb = FIRST; lb < BEHIND; lb++) {
        struct world w = {.lb = lb, .n = 8, .first = 4, .panic = 50};
        uint32_t beyond = 0, met = 0;
        publish(&w);
        map(whole);
        w.sick = 3;
        publish(&w);
        map(half);
        map(again);
        ck_assert_int_eq(memcmp(half, again, KEYS), 0);
        for (uint32_t k = 0; k < KEYS; k++) {
            ck_assert(whole[k] <= 4 && half[k] >= 3);
            ck_assert(half[k] > 4 || half[k] == whole[k] || whole[k] <= 2);
            beyond += half[k] > 4;
            met |= 1u << half[k];
        }
        printf("%s: %u of %u keys in the second tier, 30 %% are to be\n", names[lb], beyond, KEYS);
        ck_assert(beyond > KEYS * 28 / 100 && beyond < KEYS * 32 / 100);
        ck_assert_uint_eq(met, 0x1f8);
        w.sick = 0xff; /* panic: all of the first, as if they were healthy */
        publish(&w);
        map(half);
        ck_assert_int_eq(memcmp(half, whole, KEYS), 0);
        w.panic = 0;
        publish(&w);
        ck_assert_uint_eq(goes(1), 0);
    }
}
END_TEST

/* One key alone: the endpoint that it leads to takes its share times the factor, then the next. */
START_TEST(bounded_loads)
{
    for (enum mesh_lb lb = FIRST; lb < BEHIND; lb++) {
        struct mesh_live_service *s = shim_live_service(0);
        struct world w = {.lb = lb, .n = 4, .balance = 125, .weight = (uint32_t[]){1, 1, 2, 4}};
        publish(&w);
        for (uint32_t all = 1; all <= 4000; all++) {
            uint32_t id = goes(7);
            shim_live_enter(id);
            atomic_store(&s->active, all);
            uint64_t most = (all * 125 + 99) / 100;
            ck_assert_uint_le(shim_live_active(id), (most * w.weight[id - 1] + 7) / 8);
        }
        printf("%s, one key, 4000 connections, weights 1 1 2 4, factor 125:", names[lb]);
        for (uint32_t id = 1; id <= 4; id++) {
            printf(" %u", shim_live_active(id));
        }
        printf("\n");
        for (uint32_t id = 1; id <= 4; id++) { /* all say that they are full: the first of the key takes it */
            atomic_store(&shim_live_endpoint(id)->active, 1u << 30);
        }
        ck_assert_uint_ne(goes(7), 0);
        w.balance = 0;
        publish(&w);
        uint32_t first = goes(7);
        w.balance = 125;
        publish(&w);
        ck_assert_uint_eq(goes(7), first);
        for (uint32_t id = 1; id <= 4; id++) {
            atomic_store(&shim_live_endpoint(id)->active, 0);
        }
        atomic_store(&s->active, 0);
    }
}
END_TEST

START_TEST(without_a_table)
{
    for (enum mesh_lb lb = FIRST; lb < BEHIND; lb++) {
        uint32_t count[6] = {0};
        publish(&(struct world){.lb = lb, .n = 5, .no_table = true});
        for (uint32_t k = 0; k < KEYS; k++) {
            uint32_t id = goes(k);
            ck_assert_uint_eq(goes(k), id);
            count[id]++;
        }
        for (uint32_t id = 1; id <= 5; id++) {
            ck_assert(count[id] > KEYS / 6 && count[id] < KEYS / 4);
        }
    }
}
END_TEST

START_TEST(another_process)
{
    static uint8_t here[KEYS], there[KEYS];
    int fd[2];
    publish(&(struct world){.lb = (enum mesh_lb)_i, .n = 7});
    map(here);
    ck_assert_int_eq(pipe(fd), 0);
    pid_t child = fork();
    if (child == 0) {
        map(there);
        for (size_t n = 0; n < KEYS;) {
            n += (size_t)write(fd[1], there + n, KEYS - n);
        }
        _exit(0);
    }
    for (size_t n = 0; n < KEYS;) {
        ssize_t r = read(fd[0], there + n, KEYS - n);
        ck_assert_int_gt(r, 0);
        n += (size_t)r;
    }
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_int_eq(memcmp(here, there, KEYS), 0);
}
END_TEST

/* Random words in the table and in what refers to it, with right sums: a member, or that it is damaged. */
START_TEST(hostile)
{
    static const uint32_t evil[] = {0, 1, 5, 6, 1023, 1024, 65536, 65537, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
    publish(&(struct world){.lb = (enum mesh_lb)_i, .n = 5, .balance = 120});
    struct mesh_snap whole = meshd_snapfile_view();
    uint8_t *file = unit_guarded(whole.size), *pool = file + MESH_SNAP_POOL(AREA);
    struct mesh_snap s = {file, whole.size, NULL};
    uint64_t g = meshd_snapfile_generation();
    memcpy(file, whole.map, whole.size);
    struct mesh_snap_area *a = (void *)(file + MESH_SNAP_HEAD + (g & 1) * AREA);
    struct mesh_snap_tier *t = (void *)((uint8_t *)a + a->table[MESH_SNAP_TIERS].off), good = *t;
    uint32_t answers = 0, damaged = 0;
    for (int round = 0; round < 20000; round++) {
        *t = good;
        uint32_t what = shim_rand_below(3), word = evil[shim_rand_below(sizeof(evil) / sizeof(evil[0]))];
        if (what == 0) {
            t->table.first = shim_rand_below(2) ? word : (uint32_t)((MESH_SNAP_SIZE(AREA) - MESH_SNAP_POOL(AREA)) / MESH_SNAP_UNIT) - shim_rand_below(3000);
        } else if (what == 1) {
            t->table.count = word;
        }
        t->check = mesh_snap_sum(g, 0, t, offsetof(struct mesh_snap_tier, check));
        for (int i = 0; i < 8; i++) {
            memcpy(pool + 4 * shim_rand_below(4096), &evil[shim_rand_below(12)], 4);
        }
        struct shim_pick p = client((uint32_t)round);
        enum mesh_err e = MESH_OK;
        for (int i = 0; i < 6 && e == MESH_OK; i++) {
            struct mesh_snap_hit hit;
            struct shim_candidate c;
            e = shim_pick(&p, &s, &asked, &hit, &c);
            ck_assert(e == MESH_OK || e == MESH_E_SNAPSHOT || e == MESH_E_NO_ENDPOINT);
            ck_assert(e != MESH_OK || (c.endpoint.id >= 1 && c.endpoint.id <= 5));
            answers += e == MESH_OK;
            damaged += e == MESH_E_SNAPSHOT;
        }
    }
    printf("%s: %u answers, %u times damaged\n", names[_i], answers, damaged);
    ck_assert(answers > 0 && damaged > 0);
}
END_TEST

static double
nanoseconds(const struct timespec *from, const struct timespec *to)
{
    return (double)(to->tv_sec - from->tv_sec) * 1e9 + (double)(to->tv_nsec - from->tv_nsec);
}

/* Printed, not judged: the machine may be busy. */
START_TEST(cost)
{
    const uint32_t counts[] = {3, 10, 1000, 10000};
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct timespec at[4];
        struct world w = {.lb = (enum mesh_lb)_i, .n = counts[i], .size = _i == MESH_LB_MAGLEV && i == 3 ? 1000003 : 0};
        clock_gettime(CLOCK_MONOTONIC, &at[0]);
        publish(&w);
        clock_gettime(CLOCK_MONOTONIC, &at[1]);
        publish(&w);
        clock_gettime(CLOCK_MONOTONIC, &at[2]);
        for (uint32_t k = 0; k < KEYS; k++) {
            (void)goes(k);
        }
        clock_gettime(CLOCK_MONOTONIC, &at[3]);
        printf("%s, %u endpoints: published in %.2f ms with a new table, in %.2f ms again; %.0f ns a choice\n", names[_i],
               counts[i], nanoseconds(&at[0], &at[1]) / 1e6, nanoseconds(&at[1], &at[2]) / 1e6,
               nanoseconds(&at[2], &at[3]) / KEYS);
    }
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("hash_pick");
    TCase *t = tcase_create("hash_pick");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, only_its_keys_move, 0, LOST_WAYS);
    tcase_add_test(t, attempts);
    tcase_add_test(t, tiers);
    tcase_add_test(t, bounded_loads);
    tcase_add_test(t, without_a_table);
    tcase_add_loop_test(t, another_process, FIRST, BEHIND);
    tcase_add_loop_test(t, hostile, FIRST, BEHIND);
    tcase_add_loop_test(t, cost, FIRST, BEHIND);
    suite_add_tcase(s, t);
    return unit_run(s);
}
