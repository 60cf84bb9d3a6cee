/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_pick: the algorithms against the weights (chi-square for what is drawn, exact sequences for
 * round_robin), what is passed over, and tables that somebody has tampered with.
 */
#include "shim/route/pick.h"

#include <arpa/inet.h>
#include <time.h>

#include "common/snap_cache.h"
#include "meshd/base/log.h"
#include "shim/core/live.h"
#include "shim/core/rand.h"
#include "shim/link/link.h"
#include "shim/real.h"
#include "tests/unit/snap_kit.h"
#include "tests/unit/unit.h"

#define AREA (2u << 20)
#define HOME 1u

static const struct mesh_addr asked = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 100}, .port = 80};

uint64_t
shim_link_netns(int fd)
{
    (void)fd;
    return HOME;
}

static char self[MESH_ID_MAX];

const char *
shim_link_id(void)
{
    return self;
}

static struct mesh_snap_cache cache; /* as connections have one; each test is a process of its own */
static uint8_t asked_flags; /* beside MESH_EP_SERVICE */

static void
setup(void)
{
    meshd_log_set(MESHD_LOG_ERROR);
    shim_real_init();
    kit_open(AREA);
}

/* Endpoint i: 10.0.0.i of port 80 and id i + 1, if `how` does not say otherwise. */
typedef void change(uint32_t i, struct mesh_snap_endpoint *e);

static void
publish(enum mesh_lb lb, const uint32_t *weight, uint32_t n, change *how)
{
    struct mesh_snap_settings set;
    struct mesh_snap_service s = {.load_balancer = (uint8_t)lb, .max_attempts = 3, .name = "cache",
                                  .connect_timeout_ms = 5000, .id = "spiffe://td/ns/default/sa/cache"};
    mesh_snap_settings_default(&set);
    meshd_snapfile_begin();
    (void)meshd_snapfile_add(MESH_SNAP_SERVICES, &(struct mesh_snap_service){.name = "other"});
    (void)meshd_snapfile_add(MESH_SNAP_SERVICES, &s);
    for (uint32_t i = 0; i < n; i++) {
        struct mesh_snap_endpoint e = {.addr = {[10] = 0xff, [11] = 0xff, [12] = 10, [14] = (uint8_t)(i >> 8), [15] = (uint8_t)i},
                                       .port = 80, .mode = MESH_MODE_STRICT, .service = 1, .netns = HOME,
                                       .id = i + 1};
        if (how) {
            how(i, &e);
        }
        ck_assert_uint_eq(meshd_snapfile_endpoint(&e), i);
    }
    struct mesh_snap_endpoint front = {.port = asked.port, .flags = (uint8_t)(MESH_EP_SERVICE | asked_flags), .service = 1};
    memcpy(front.addr, asked.ip, 16);
    (void)meshd_snapfile_endpoint(&front);
    kit_group(1, 0, 0, &(struct kit_tier){.count = n, .healthy = n, .weight = weight}, n > 0);
    if (asked_flags & MESH_EP_PORT) { /* the first three have it */
        kit_group(1, 0, asked.port, &(struct kit_tier){.count = 3, .healthy = 3}, 1);
    }
    ck_assert_int_eq(meshd_snapfile_commit(&set), MESH_OK);
}

static enum mesh_err
pick(struct shim_pick *p, struct shim_candidate *c)
{
    static struct mesh_snap_hit hit; /* the candidate points into it */
    struct mesh_snap snap = meshd_snapfile_view();
    snap.cache = &cache;
    return shim_pick(p, &snap, &asked, &hit, c);
}

/* One choice of a new connect(): the endpoint's id, 0 for none. */
static uint32_t
one(int family)
{
    struct shim_pick p = {.netns = HOME, .family = family};
    struct shim_candidate c;
    enum mesh_err e = pick(&p, &c);
    ck_assert(e == MESH_OK || e == MESH_E_NO_ENDPOINT);
    ck_assert(e != MESH_OK || strcmp(c.service->id, "spiffe://td/ns/default/sa/cache") == 0);
    return e == MESH_OK ? c.endpoint.id : 0;
}

/* Against the weights; one of weight 0 must not have been met at all. */
static double
chi_square(const uint32_t *count, const uint32_t *weight, uint32_t n, uint32_t draws)
{
    double sum = 0, x = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += weight[i];
    }
    for (uint32_t i = 0; i < n; i++) {
        double want = draws * weight[i] / sum;
        ck_assert(weight[i] > 0 || count[i] == 0);
        x += weight[i] ? (count[i] - want) * (count[i] - want) / want : 0;
    }
    return x;
}

static const uint32_t weights[][5] = {{1, 1, 1, 1, 1}, {1, 2, 3, 4, 5}, {90, 10, 0, 0, 0}, {1000, 1, 1, 500, 3}};

/* 4 degrees of freedom: above 38 once in ten million runs. */
static void
spreads(enum mesh_lb lb, const char *name, const uint32_t *w)
{
    const uint32_t draws = 100000;
    uint32_t count[5] = {0};
    publish(lb, w, 5, NULL);
    for (uint32_t i = 0; i < draws; i++) {
        count[one(AF_INET) - 1]++;
    }
    double x = chi_square(count, w, 5, draws);
    printf("%s, weights %u %u %u %u %u: chi-square %.2f (4 degrees of freedom, limit 38)\n", name, w[0], w[1],
           w[2], w[3], w[4], x);
    ck_assert(x < 38);
}

START_TEST(random_by_weight)
{
    spreads(MESH_LB_RANDOM, "random", weights[_i]);
}
END_TEST

START_TEST(least_request_idle)
{
    spreads(MESH_LB_LEAST_REQUEST, "least_request", weights[_i]);
}
END_TEST

/* Connections that stay: those of each endpoint are in proportion to its weight at any time, closer than
 * chance would have them; and one that is freed is filled again first. */
START_TEST(least_request_loaded)
{
    const uint32_t w[] = {1, 2, 3, 6}, total = 12000;
    uint32_t count[4] = {0}, after[4] = {0};
    publish(MESH_LB_LEAST_REQUEST, w, 4, NULL);
    for (uint32_t i = 0; i < total; i++) {
        uint32_t id = one(AF_INET);
        shim_live_enter(id);
        count[id - 1]++;
    }
    double x = chi_square(count, w, 4, total);
    printf("least_request, 12000 held, weights 1 2 3 6: %u %u %u %u, chi-square %.3f (limit 1)\n", count[0],
           count[1], count[2], count[3], x);
    ck_assert(x < 1);
    for (uint32_t i = 0; i < 500; i++) {
        shim_live_leave(2);
    }
    for (uint32_t i = 0; i < 500; i++) {
        uint32_t id = one(AF_INET);
        shim_live_enter(id);
        after[id - 1]++;
    }
    printf("500 of the second ended: of the next 500 it gets %u, by weight alone 83\n", after[1]);
    ck_assert_uint_gt(after[1], 120);
    for (uint32_t id = 1; id <= 4; id++) {
        while (shim_live_active(id)) {
            shim_live_leave(id);
        }
        shim_live_leave(id);
        ck_assert_uint_eq(shim_live_active(id), 0);
    }
}
END_TEST

static void
sequence(const uint32_t *w, uint32_t n, const char *want)
{
    char got[64] = "";
    publish(MESH_LB_ROUND_ROBIN, w, n, NULL);
    uint64_t turn = shim_live_turn("cache"); /* bring it to the beginning of a round */
    uint32_t total = 0;
    for (uint32_t i = 0; i < n; i++) {
        total += w[i];
    }
    while ((turn + 1) % total) {
        turn = shim_live_turn("cache");
    }
    for (size_t i = 0; want[i]; i++) {
        got[i] = (char)('A' + one(AF_INET) - 1);
    }
    ck_assert_str_eq(got, want);
}

START_TEST(round_robin_sequences)
{
    sequence((const uint32_t[]){1, 1, 1}, 3, "ABCABCABC");
    sequence((const uint32_t[]){3, 1}, 2, "ABAAABAA");
    sequence((const uint32_t[]){2, 0, 2}, 3, "ACCA");
    sequence((const uint32_t[]){7}, 1, "AAA");
    for (uint32_t round = 0; round < 200; round++) { /* whatever the weights, a round has each as often */
        uint32_t w[6], count[6] = {0}, n = 1 + shim_rand_below(6), total = 0;
        for (uint32_t i = 0; i < n; i++) {
            w[i] = i ? shim_rand_below(40) : 1 + shim_rand_below(40);
            total += w[i];
        }
        publish(MESH_LB_ROUND_ROBIN, w, n, NULL);
        for (uint32_t i = 0; i < total; i++) {
            count[one(AF_INET) - 1]++;
        }
        ck_assert(memcmp(count, w, n * sizeof(*w)) == 0);
    }
}
END_TEST

START_TEST(tried_ones_are_passed_over)
{
    publish((enum mesh_lb)_i, (const uint32_t[]){1, 100, 0, 5}, 4, NULL);
    for (int round = 0; round < 200; round++) {
        struct shim_pick p = {.netns = HOME, .family = AF_INET};
        struct shim_candidate c;
        uint32_t seen = 0;
        for (int i = 0; i < 3; i++) {
            ck_assert_int_eq(pick(&p, &c), MESH_OK);
            ck_assert_uint_eq(seen & 1u << c.endpoint.id, 0);
            seen |= 1u << c.endpoint.id;
        }
        ck_assert_uint_eq(seen, 1u << 1 | 1u << 2 | 1u << 4);
        ck_assert_int_eq(pick(&p, &c), MESH_E_NO_ENDPOINT);
    }
}
END_TEST

static void
kinds(uint32_t i, struct mesh_snap_endpoint *e)
{
    static const uint8_t v6[16] = {0xfd, [15] = 9}, any6[16] = {0}, link_local[16] = {0xfe, 0x80, [15] = 9};
    switch (i) {
    case 0: /* another namespace's loopback */
        e->flags = MESH_EP_NETNS;
        e->netns = HOME + 1;
        break;
    case 1:
        e->mode = MESH_MODE_OFF;
        break;
    case 2:
        memcpy(e->addr, v6, 16);
        break;
    case 3: /* a wildcard that takes both */
        memcpy(e->addr, any6, 16);
        e->flags = MESH_EP_NETNS | MESH_EP_ANY;
        break;
    case 5: /* nobody knows on which interface */
        memcpy(e->addr, link_local, 16);
        break;
    default:
        break;
    }
}

static void
reaches(int family, bool v6only, uint32_t want)
{
    uint32_t seen = 0;
    for (int i = 0; i < 300; i++) {
        struct shim_pick p = {.netns = HOME, .family = family, .v6only = v6only};
        struct shim_candidate c;
        ck_assert_int_eq(pick(&p, &c), MESH_OK);
        seen |= 1u << c.endpoint.id;
        ck_assert(mesh_addr_is_v4(&c.to) ? !v6only : family == AF_INET6);
        ck_assert(!mesh_addr_is_any(&c.to));
    }
    ck_assert_uint_eq(seen, want);
}

START_TEST(what_a_socket_cannot_reach)
{
    publish((enum mesh_lb)_i, NULL, 6, kinds);
    reaches(AF_INET, false, 1u << 4 | 1u << 5);
    reaches(AF_INET6, false, 1u << 3 | 1u << 4 | 1u << 5);
    reaches(AF_INET6, true, 1u << 3 | 1u << 4);
    publish((enum mesh_lb)_i, NULL, 2, kinds);
    ck_assert_uint_eq(one(AF_INET), 0);
    publish((enum mesh_lb)_i, NULL, 0, NULL);
    ck_assert_uint_eq(one(AF_INET), 0);
}
END_TEST

/* Live counts are anybody's to write. They decide among what may be chosen, and no more. */
static void
drain_some(uint32_t i, struct mesh_snap_endpoint *e)
{
    e->flags |= i != 2 ? MESH_EP_DRAINING : 0;
}

static void
drain_all(uint32_t i, struct mesh_snap_endpoint *e)
{
    (void)i;
    e->flags |= MESH_EP_DRAINING;
}

START_TEST(draining_ones_get_nothing)
{
    publish((enum mesh_lb)_i, NULL, 5, drain_some);
    for (unsigned k = 0; k < 200; k++) {
        ck_assert_uint_eq(one(AF_INET), 3);
    }
    publish((enum mesh_lb)_i, NULL, 5, drain_all);
    ck_assert_uint_eq(one(AF_INET), 0);
}
END_TEST

START_TEST(counts_are_not_believed)
{
    publish(MESH_LB_LEAST_REQUEST, (const uint32_t[]){10000, 10000, 0}, 3, NULL);
    struct mesh_live *l = calloc(1, sizeof(*l));
    shim_live_share(l);
    for (int round = 0; round < 2000; round++) {
        for (uint32_t id = 0; id < 5; id++) {
            atomic_store(&l->endpoint[id].active, round % 3 ? (uint32_t)shim_rand() : UINT32_MAX);
        }
        uint32_t id = one(AF_INET);
        ck_assert(id == 1 || id == 2);
    }
}
END_TEST

/* Random words in members and services, every other time with right sums: an answer, or that it is
 * damaged; never something that is no endpoint of the table. */
START_TEST(hostile)
{
    static const uint32_t evil[] = {0, 1, 3, 4, 5, 6, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
    publish((enum mesh_lb)_i, (const uint32_t[]){3, 2, 0, 7, 1}, 5, NULL);
    struct mesh_snap whole = meshd_snapfile_view();
    uint8_t *file = unit_guarded(whole.size);
    struct mesh_snap s = {file, whole.size, NULL};
    uint64_t g = meshd_snapfile_generation();
    memcpy(file, whole.map, whole.size);
    struct mesh_snap_area *a = (void *)(file + MESH_SNAP_HEAD + (g & 1) * AREA);
    struct mesh_snap_member good[5], *m = (void *)((uint8_t *)a + a->table[MESH_SNAP_MEMBERS].off);
    struct mesh_snap_service svc, *v = (void *)((uint8_t *)a + a->table[MESH_SNAP_SERVICES].off + sizeof(svc));
    memcpy(good, m, sizeof(good));
    svc = *v;
    uint32_t answers = 0, damaged = 0;
    for (int round = 0; round < 20000; round++) {
        memcpy(m, good, sizeof(good));
        *v = svc;
        uint32_t k = shim_rand_below(5), word = evil[shim_rand_below(10)];
        memcpy((uint8_t *)&m[k] + 4 * shim_rand_below(3), &word, 4);
        if (shim_rand_below(3) == 0) {
            memcpy(shim_rand_below(2) ? &v->groups.first : &v->groups.count, &evil[shim_rand_below(10)], 4);
        }
        if (round % 2) {
            m[k].check = mesh_snap_sum(g, k, &m[k], offsetof(struct mesh_snap_member, check));
            v->check = mesh_snap_sum(g, 1, v, offsetof(struct mesh_snap_service, check));
        }
        struct shim_pick p = {.netns = HOME, .family = AF_INET};
        struct shim_candidate c;
        struct mesh_snap_hit hit;
        enum mesh_err e = MESH_OK;
        for (int i = 0; i < 4 && e == MESH_OK; i++) {
            e = shim_pick(&p, &s, &asked, &hit, &c);
            ck_assert(e == MESH_OK || e == MESH_E_SNAPSHOT || e == MESH_E_NO_ENDPOINT);
            ck_assert(e != MESH_OK || (c.endpoint.id >= 1 && c.endpoint.id <= 5));
            answers += e == MESH_OK;
            damaged += e == MESH_E_SNAPSHOT;
        }
    }
    printf("%u answers, %u times damaged\n", answers, damaged);
    ck_assert(answers > 0 && damaged > 0);
}
END_TEST

START_TEST(a_plain_endpoint_is_no_service)
{
    struct mesh_snap_hit hit;
    struct shim_pick p = {.netns = HOME, .family = AF_INET};
    struct shim_candidate c;
    struct mesh_addr own = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 10}, .port = 80};
    publish(MESH_LB_RANDOM, NULL, 3, NULL);
    struct mesh_snap s = meshd_snapfile_view();
    ck_assert_int_eq(shim_pick(&p, &s, &own, &hit, &c), MESH_E_NO_ENDPOINT);
    ck_assert_uint_eq(p.tried_count, 0);
}
END_TEST

/* Two tiers of four endpoints, of which so many are healthy: what part of the connections the first gets, in
 * percent, and how many different endpoints are met. */
static const struct {
    uint32_t healthy[2];
    uint8_t panic;
    unsigned first, met;
} tiers[] = {
    {{4, 4}, 50, 100, 4},
    {{3, 4}, 50, 100, 3}, /* 75 % bear 105 */
    {{2, 4}, 50, 70, 6},
    {{1, 4}, 50, 35, 5},
    {{0, 4}, 50, 0, 4},
    {{1, 1}, 50, 50, 8}, /* together 70 of 100: shared evenly, and each of them panics */
    {{1, 1}, 25, 50, 2},
    {{2, 0}, 50, 100, 2},
    {{0, 0}, 50, 100, 4}, /* panic: all of the first */
    {{0, 0}, 0, 0, 0},
    {{2, 0}, 0, 100, 2},
};

START_TEST(tiers_by_health)
{
    struct mesh_snap_settings set;
    struct mesh_snap_service svc = {.load_balancer = MESH_LB_RANDOM, .name = "cache", .panic_threshold = tiers[_i].panic,
                                    .id = "spiffe://td/ns/default/sa/cache"};
    const unsigned draws = 20000;
    unsigned first = 0, answers = 0, met = 0;
    mesh_snap_settings_default(&set);
    meshd_snapfile_begin();
    (void)meshd_snapfile_add(MESH_SNAP_SERVICES, &svc);
    for (uint32_t i = 0; i < 8; i++) {
        struct mesh_snap_endpoint e = {.addr = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = (uint8_t)i},
                                       .port = 80, .netns = HOME, .id = i + 1};
        (void)meshd_snapfile_endpoint(&(struct mesh_snap_endpoint){0});
        e.mode = MESH_MODE_STRICT;
        meshd_snapfile_put(MESH_SNAP_ENDPOINTS, i, &e);
    }
    struct mesh_snap_endpoint front = {.port = asked.port, .flags = MESH_EP_SERVICE};
    memcpy(front.addr, asked.ip, 16);
    (void)meshd_snapfile_endpoint(&front);
    kit_group(0, 0, 0, (struct kit_tier[]){{.first = 0, .count = 4, .healthy = tiers[_i].healthy[0]},
                                           {.first = 4, .count = 4, .healthy = tiers[_i].healthy[1], .priority = 1}}, 2);
    ck_assert_int_eq(meshd_snapfile_commit(&set), MESH_OK);
    for (unsigned i = 0; i < draws; i++) {
        uint32_t id = one(AF_INET);
        first += id >= 1 && id <= 4;
        answers += id > 0;
        met |= id ? 1u << id : 0;
    }
    ck_assert_uint_eq(answers, tiers[_i].met ? draws : 0);
    ck_assert_uint_eq((unsigned)__builtin_popcount(met), tiers[_i].met);
    ck_assert(first <= draws * (tiers[_i].first + 2) / 100 && first + draws * 2 / 100 >= draws * tiers[_i].first / 100);
}
END_TEST

/* Printed, not judged: the machine may be busy. */
START_TEST(cost)
{
    struct timespec from, to;
    const unsigned rounds = 20000;
    const uint32_t counts[] = {10, 10000};
    for (unsigned k = 0; k < 2; k++) {
        publish((enum mesh_lb)_i, NULL, counts[k], NULL);
        clock_gettime(CLOCK_MONOTONIC, &from);
        for (unsigned i = 0; i < rounds; i++) {
            (void)one(AF_INET);
        }
        clock_gettime(CLOCK_MONOTONIC, &to);
        printf("algorithm %d, %u endpoints: %.0f ns a choice\n", _i, counts[k],
               ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / rounds);
    }
}
END_TEST

/* A virtual address: of the endpoints only those with the port that was asked for. */
static void
ports_differ(uint32_t i, struct mesh_snap_endpoint *e)
{
    e->port = (uint16_t)(i < 3 ? 80 : 90 + i);
}

START_TEST(by_port)
{
    uint32_t count[9] = {0};
    asked_flags = MESH_EP_PORT;
    publish((enum mesh_lb)_i, NULL, 9, ports_differ);
    for (int i = 0; i < 3000; i++) {
        count[one(AF_INET) - 1]++;
    }
    for (uint32_t i = 0; i < 9; i++) {
        ck_assert(i < 3 ? count[i] > 500 : count[i] == 0);
    }
    struct shim_pick p = {.netns = HOME, .family = AF_INET};
    struct shim_candidate c;
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(pick(&p, &c), MESH_OK);
    }
    ck_assert_int_eq(pick(&p, &c), MESH_E_NO_ENDPOINT);
    asked_flags = 0;
}
END_TEST

/* What stands in the caller's memory is nobody's endpoint. */
START_TEST(service_that_is_gone)
{
    struct mesh_live_endpoint *e = shim_live_endpoint(UINT32_MAX);
    struct shim_pick p = {.netns = HOME, .family = AF_INET};
    struct mesh_addr gone = asked;
    struct mesh_snap_hit hit;
    struct shim_candidate c;
    publish(MESH_LB_RANDOM, weights[0], 5, NULL);
    struct mesh_snap snap = meshd_snapfile_view();
    memset(&c, 0xff, sizeof(c));
    atomic_store(&e->ejected, UINT64_C(1) << 24);
    gone.port++;
    ck_assert_int_eq(shim_pick(&p, &snap, &gone, &hit, &c), MESH_E_NO_ENDPOINT);
    ck_assert_uint_eq(atomic_load(&e->ejected), UINT64_C(1) << 24);
    atomic_store(&e->ejected, 0);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("pick");
    TCase *t = tcase_create("pick");
    tcase_add_checked_fixture(t, setup, kit_close);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, random_by_weight, 0, 4);
    tcase_add_loop_test(t, least_request_idle, 0, 4);
    tcase_add_test(t, least_request_loaded);
    tcase_add_test(t, round_robin_sequences);
    tcase_add_loop_test(t, tried_ones_are_passed_over, 0, MESH_LB_COUNT);
    tcase_add_loop_test(t, what_a_socket_cannot_reach, 0, MESH_LB_COUNT);
    tcase_add_loop_test(t, draining_ones_get_nothing, 0, MESH_LB_COUNT);
    tcase_add_loop_test(t, by_port, 0, MESH_LB_COUNT);
    tcase_add_test(t, counts_are_not_believed);
    tcase_add_loop_test(t, hostile, 0, MESH_LB_COUNT);
    tcase_add_test(t, a_plain_endpoint_is_no_service);
    tcase_add_loop_test(t, tiers_by_health, 0, sizeof(tiers) / sizeof(tiers[0]));
    tcase_add_test(t, service_that_is_gone);
    tcase_add_loop_test(t, cost, 0, MESH_LB_COUNT);
    suite_add_tcase(s, t);
    return unit_run(s);
}
