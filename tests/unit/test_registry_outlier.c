/* SPDX-License-Identifier: Apache-2.0
 *
 * What ejections, limits and ages do to the choice of an endpoint, over a configuration, its snapshot and the
 * host's live state; and meshd's part: statistics, ages, counts that are set right.
 */
#include "shim/route/pick.h"

#include <stdarg.h>
#include <sys/mman.h>

#include "common/ewma.h"
#include "meshd/registry/live.h"
#include "meshd/registry/outlier.h"
#include "shim/core/live.h"
#include "shim/core/rand.h"
#include "shim/link/link.h"
#include "shim/real.h"
#include "tests/unit/registry_kit.h"

#define MS UINT64_C(1000000)

static uint32_t ids[8]; /* of the endpoints 192.0.2.1... */

uint64_t
shim_link_netns(int fd)
{
    (void)fd;
    return meshd_netlink_own();
}

const char *
shim_link_id(void)
{
    return "";
}

static int
note(const struct meshd_endpoint *e, void *arg)
{
    (void)arg;
    ids[e->addr.ip[15] % 8] = e->id;
    return 0;
}

/* Service cache with n endpoints 192.0.2.1:80 ... at 10.9.9.9:80, and these settings. */
static void
configure_cache(unsigned n, const char *fmt, ...)
{
    char more[512], list[2048] = "";
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(more, sizeof(more), fmt, ap);
    va_end(ap);
    for (unsigned i = 1; i <= n; i++) {
        size_t at = strlen(list);
        snprintf(list + at, sizeof(list) - at, "%s{ addr = \"192.0.2.%u:80\"; }", i > 1 ? ", " : "", i);
    }
    configure("services = ( { name = \"cache\"; addresses = (\"10.9.9.9:80\"); %s endpoints = (%s); } );\n", more, list);
    shim_real_init();
    int fd = meshd_live_fd();
    struct mesh_live *l = mmap(NULL, sizeof(*l), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(l, MAP_FAILED);
    close(fd);
    shim_live_share(l);
    meshd_registry_visit_endpoints(note, NULL);
}

static struct mesh_snap_hit hit;
static struct shim_candidate chosen;

static enum mesh_err
pick(struct shim_pick *p)
{
    const struct mesh_addr a = {.port = 80, .ip = {[10] = 0xff, [11] = 0xff, 10, 9, 9, 9}};
    struct mesh_snap s = meshd_snapfile_view();
    return shim_pick(p, &s, &a, &hit, &chosen);
}

/* A new connect's endpoint, by its number; 0: none. */
static unsigned
one(void)
{
    struct shim_pick p = {.netns = meshd_netlink_own(), .family = AF_INET};
    return pick(&p) == MESH_OK ? chosen.endpoint.addr[15] : 0;
}

/* A bit for each that is met. */
static unsigned
met(void)
{
    unsigned seen = 0;
    for (int i = 0; i < 300; i++) {
        seen |= 1u << one();
    }
    return seen;
}

static void
attempt(unsigned n, bool ok)
{
    struct shim_outlier_attempt a;
    shim_outlier_begin(&a, &hit.service, ids[n], chosen.probe);
    if (ok) {
        shim_outlier_succeeded(&a);
    }
    shim_outlier_failed(&a); /* too late if it was good */
    shim_outlier_failed(&a);
}

static struct mesh_live_endpoint *
entry(unsigned n)
{
    return meshd_live_use(ids[n]);
}

/* Its time is over, and how long it took to fail is forgotten. */
static void
make_due(unsigned n)
{
    atomic_store(&entry(n)->latency, 0);
    uint64_t word = atomic_load(&entry(n)->ejected);
    atomic_store(&entry(n)->ejected, (meshd_now_ns() / MS) << 24 | (word & 0xffff00));
}

static struct meshd_service_live
service(void)
{
    struct meshd_service_live l;
    meshd_registry_service_live("cache", &l);
    return l;
}

static const char *const algorithms[] = {"least_request", "round_robin", "random", "peak_ewma"};
#define DETECT "outlier_detection = { consecutive_5xx = 3; };"

START_TEST(in_a_row)
{
    configure_cache(3, "load_balancer = \"%s\"; " DETECT, algorithms[_i]);
    ck_assert_uint_eq(met(), 1u << 1 | 1u << 2 | 1u << 3);
    for (int i = 0; i < 20; i++) { /* never three in a row */
        attempt(2, false);
        attempt(2, false);
        attempt(2, true);
        shim_live_answered(ids[2]);
    }
    ck_assert_uint_eq(atomic_load(&entry(2)->ejected), 0);
    if (_i != MESH_LB_PEAK_EWMA) { /* which avoids it */
        ck_assert_uint_eq(met(), 1u << 1 | 1u << 2 | 1u << 3);
    }
    for (int i = 0; i < 3; i++) {
        attempt(2, false);
        attempt(2, true); /* that it can be connected to is not enough */
    }
    ck_assert_uint_eq(met(), 1u << 1 | 1u << 3);
    for (int i = 0; i < 10; i++) { /* one may be, of three */
        attempt(3, false);
    }
    ck_assert_uint_eq(met(), 1u << 1 | 1u << 3);
    ck_assert_uint_eq(service().ejections_overflow, 3);
    ck_assert_uint_eq(service().ejected, 1);
    struct shim_pick p = {.netns = meshd_netlink_own(), .family = AF_INET};
    for (int i = 0; i < 3; i++) { /* when the others have been tried, it is better than nothing */
        ck_assert_int_eq(pick(&p), MESH_OK);
        ck_assert_int_eq(chosen.endpoint.addr[15] == 2, i == 2);
    }
    ck_assert_int_eq(pick(&p), MESH_E_NO_ENDPOINT);
}
END_TEST

START_TEST(resets_count)
{
    configure_cache(3, DETECT);
    (void)one();
    for (int i = 0; i < 3; i++) {
        attempt(1, true);
        ck_assert_uint_eq(met() & 1u << 1, 1u << 1);
        shim_live_failed(ids[1]);
    }
    ck_assert_uint_eq(met(), 1u << 2 | 1u << 3);
}
END_TEST

START_TEST(one_connection_probes)
{
    configure_cache(3, "load_balancer = \"%s\"; " DETECT, algorithms[_i]);
    (void)one();
    for (int i = 0; i < 3; i++) {
        attempt(1, false);
    }
    for (uint32_t times = 2; times < 5; times++) {
        uint64_t probe = 0;
        unsigned probes = 0;
        make_due(1);
        for (int i = 0; i < 300; i++) {
            if (one() == 1) {
                probes++;
                probe = chosen.probe;
            }
        }
        ck_assert_uint_eq(probes, 1);
        ck_assert_uint_ne(probe, 0);
        chosen.probe = probe;
        attempt(1, times == 4);
        ck_assert_int_eq(atomic_load(&entry(1)->ejected) >> 24 == 0, times == 4);
        if (times < 4 || _i != MESH_LB_PEAK_EWMA) { /* to which failures took long: it is back, and avoided */
            ck_assert_uint_eq(met() & 1u << 1, times == 4 ? 1u << 1 : 0);
        }
    }
    ck_assert_uint_eq(service().ejected, 0);
    ck_assert_uint_eq(service().ejections, 3);
}
END_TEST

/* Whatever is written there: a choice ends, and there is one. */
START_TEST(all_ejected)
{
    configure_cache(3, "load_balancer = \"%s\"; slow_start = { }; " DETECT, algorithms[_i]);
    uint64_t now = meshd_now_ns() / MS;
    for (unsigned n = 1; n <= 3; n++) {
        atomic_store(&entry(n)->ejected, (now + 100000) << 24);
    }
    ck_assert_uint_eq(met(), 1u << 1 | 1u << 2 | 1u << 3);
    for (int i = 0; i < 20000; i++) {
        struct mesh_live_endpoint *e = entry(1 + shim_rand_below(3));
        atomic_store(&e->ejected, shim_rand() >> shim_rand_below(64));
        atomic_store(&e->failures, (uint32_t)shim_rand());
        atomic_store(&e->since_ms, shim_rand() >> shim_rand_below(64));
        atomic_store(&e->latency, shim_rand());
        atomic_store(&e->active, (uint32_t)shim_rand());
        atomic_store(&meshd_live_service(0)->ejected, shim_rand_below(5));
        ck_assert_uint_ne(one(), 0);
    }
}
END_TEST

START_TEST(full_ones)
{
    configure_cache(3, "load_balancer = \"%s\"; circuit_breaker = { per_host_max_connections = 2; };", algorithms[_i]);
    struct shim_pick p = {.netns = meshd_netlink_own(), .family = AF_INET};
    shim_live_enter(ids[1]);
    shim_live_enter(ids[1]);
    ck_assert_uint_eq(met(), 1u << 2 | 1u << 3);
    for (int i = 0; i < 2; i++) {
        shim_live_enter(ids[2]);
        shim_live_enter(ids[3]);
    }
    ck_assert_int_eq(pick(&p), MESH_E_OVERFLOW);
    shim_live_leave(ids[2]);
    ck_assert_uint_eq(met(), 1u << 2);
}
END_TEST

/* An hour, so that it does not pass while the test runs; on a machine that is not up for so long what can have passed. */
static uint32_t
window_s(void)
{
    uint64_t up = meshd_now_ns() / MS / 1000;
    return up > 3600 ? 3600 : (uint32_t)up;
}

/* Of 20000 the share of endpoint 1, which is `age` percent of its window old; the others are long there. */
static uint32_t
share(uint32_t window, uint32_t age)
{
    uint32_t n = 0;
    for (unsigned i = 1; i <= 3; i++) {
        atomic_store(&entry(i)->since_ms, 0);
    }
    atomic_store(&entry(1)->since_ms, meshd_now_ns() / MS - age * UINT64_C(10) * window);
    for (int i = 0; i < 20000; i++) {
        n += one() == 1;
    }
    return n;
}

/* Between other two a weight of w is w / (w + 2); round_robin gives what it leaves to
 * its neighbour. Five standard deviations are less than 250. */
START_TEST(slow_start)
{
    uint32_t w = window_s();
    configure_cache(3, "load_balancer = \"random\"; slow_start = { window = \"%us\"; };", w);
    uint32_t young = share(w, 0), half = share(w, 50), grown = share(w, 100);
    printf("slow_start: %u at once, %u half-way, %u afterwards, of 20000\n", young, half, grown);
    ck_assert_int_lt(abs((int)young - 952), 250);
    ck_assert_int_lt(abs((int)half - 4000), 300);
    ck_assert_int_lt(abs((int)grown - 6667), 350);
    configure_cache(3, "load_balancer = \"random\"; slow_start = { window = \"%us\"; aggression = 2.0; };", w);
    ck_assert_int_lt(abs((int)share(w, 25) - 4000), 300); /* a square root: half */
    configure_cache(3, "load_balancer = \"round_robin\"; slow_start = { window = \"%us\"; min_weight_percent = 30; };", w);
    ck_assert_int_lt(abs((int)share(w, 1) - 2000), 250);
}
END_TEST

START_TEST(ages)
{
    configure_cache(2, "slow_start = { window = \"1h\"; };");
    uint64_t now = meshd_now_ns() / MS, first = atomic_load(&entry(1)->since_ms);
    ck_assert_uint_ne(first, 0);
    ck_assert_uint_le(first, now);
    ck_assert_uint_gt(first, now - 20000);
    atomic_store(&entry(1)->since_ms, 5); /* it came back from an ejection, say */
    configure_cache(3, "slow_start = { window = \"1h\"; };");
    ck_assert_uint_eq(atomic_load(&entry(1)->since_ms), 5);
    ck_assert_uint_ge(atomic_load(&entry(3)->since_ms), first);
}
END_TEST

/* A tenth is what chance leaves to who is always the worse of two, of three: (1/3)^3 and a little. */
START_TEST(peak_ewma_avoids)
{
    configure_cache(3, "load_balancer = \"peak_ewma\";");
    (void)one();
    uint64_t now = meshd_now_ns() / MS;
    uint32_t slow = 0, failing = 0, even[4] = {0};
    for (unsigned n = 1; n <= 3; n++) {
        mesh_ewma_add(&entry(n)->latency, 2000, now);
    }
    for (int i = 0; i < 9000; i++) {
        even[one()]++;
    }
    for (unsigned n = 1; n <= 3; n++) {
        ck_assert_int_lt(abs((int)even[n] - 3000), 250);
    }
    mesh_ewma_add(&entry(3)->latency, 50000, now);
    for (int i = 0; i < 9000; i++) {
        slow += one() == 3;
    }
    ck_assert_uint_lt(slow, 900);
    attempt(1, false); /* at once: but failing fast is not being fast */
    for (int i = 0; i < 9000; i++) {
        failing += one() == 1;
    }
    ck_assert_uint_lt(failing, 900);
    for (int i = 0; i < 40; i++) { /* until the slow one is the better choice: 20 times as many connections */
        shim_live_enter(ids[2]);
    }
    slow = 0;
    for (int i = 0; i < 9000; i++) {
        slow += one() == 3;
    }
    ck_assert_uint_gt(slow, 4500);
}
END_TEST

static void
interval(unsigned n, uint32_t good, uint32_t bad)
{
    atomic_fetch_add(&entry(n)->good, good);
    atomic_fetch_add(&entry(n)->bad, bad);
}

static unsigned
out(void)
{
    unsigned seen = 0;
    for (unsigned n = 1; n <= 6; n++) {
        seen |= (unsigned)(atomic_load(&entry(n)->ejected) >> 24 != 0) << n;
    }
    return seen;
}

START_TEST(success_rate)
{
    configure_cache(6, "outlier_detection = { interval = \"%s\"; };", "1h");
    for (unsigned n = 1; n <= 6; n++) {
        uint32_t good = n == 4 ? 60 : n == 5 ? 90 : 98; /* mean 90.3, deviation 13.9: below 63.9 */
        interval(n, good, 100 - good);
    }
    meshd_outlier_watch();
    ck_assert_uint_eq(out(), 1u << 4);
    ck_assert_uint_eq(service().ejections, 1);
    interval(1, 0, 500);
    meshd_outlier_watch(); /* not before the interval is over */
    ck_assert_uint_eq(out(), 1u << 4);
}
END_TEST

START_TEST(success_rate_needs)
{
    configure_cache(4, "outlier_detection = { };");
    for (unsigned n = 1; n <= 4; n++) {
        interval(n, n == 4 ? 0 : 100, n == 4 ? 100 : 0); /* four hosts are too few */
    }
    meshd_outlier_watch();
    ck_assert_uint_eq(out(), 0);
    configure_cache(6, "outlier_detection = { enforcing_success_rate = 0; };");
    for (unsigned n = 1; n <= 6; n++) {
        interval(n, n == 4 ? 0 : 100, n == 4 ? 100 : 0);
    }
    meshd_outlier_watch();
    ck_assert_uint_eq(out(), 0);
}
END_TEST

START_TEST(failure_percentage)
{
    configure_cache(5, "outlier_detection = { enforcing_success_rate = 0; enforcing_failure_percentage = 100; "
                 "max_ejection_percent = 100; };");
    interval(1, 8, 42); /* 84 percent */
    interval(2, 7, 43);
    interval(3, 50, 0);
    interval(4, 0, 50);
    interval(5, 50, 0);
    meshd_outlier_watch();
    ck_assert_uint_eq(out(), 1u << 2 | 1u << 4);
}
END_TEST

START_TEST(calm)
{
    configure_cache(3, "outlier_detection = { interval = \"100ms\"; };");
    atomic_store(&entry(1)->ejected, 2 << 8);
    uint64_t end = meshd_now_ns() + 20000 * MS;
    while (atomic_load(&entry(1)->ejected) != 0 && meshd_now_ns() < end) {
        meshd_outlier_watch();
    }
    ck_assert_uint_eq(atomic_load(&entry(1)->ejected), 0);
}
END_TEST

/* Nobody ejected anything, and nobody has a connection. */
START_TEST(counts_are_set_right)
{
    configure_cache(3, DETECT);
    struct mesh_live_service *s = shim_live_service(service().set.entry);
    s->active = s->pending = s->retries = s->ejected = 9;
    meshd_live_correct();
    ck_assert_uint_eq(s->active, 9);
    s->active = 4;
    meshd_live_correct();
    ck_assert_uint_eq(s->active, 0);
    ck_assert_uint_eq(s->pending + s->retries + s->ejected, 0);
    (void)one();
    for (int i = 0; i < 3; i++) {
        attempt(1, false);
    }
    s->ejected = 0;
    meshd_live_correct();
    meshd_live_correct();
    ck_assert_uint_eq(s->ejected, 1);
}
END_TEST

/* An endpoint that nobody connects to costs no memory. */
START_TEST(sparse)
{
    configure_cache(7, DETECT);
    (void)met();
    meshd_live_correct();
    meshd_outlier_watch();
    for (unsigned n = 1; n <= 7; n++) {
        ck_assert_ptr_null(meshd_live_endpoint(ids[n]));
    }
    shim_live_enter(ids[3]);
    ck_assert_ptr_nonnull(meshd_live_endpoint(ids[3]));
}
END_TEST

int
main(void)
{
    TCase *t = tcase_create("outlier");
    tcase_add_loop_test(t, in_a_row, 0, 4);
    tcase_add_test(t, resets_count);
    tcase_add_loop_test(t, one_connection_probes, 0, 4);
    tcase_add_loop_test(t, all_ejected, 0, 4);
    tcase_add_loop_test(t, full_ones, 0, 4);
    tcase_add_test(t, slow_start);
    tcase_add_test(t, ages);
    tcase_add_test(t, peak_ewma_avoids);
    tcase_add_test(t, success_rate);
    tcase_add_test(t, success_rate_needs);
    tcase_add_test(t, failure_percentage);
    tcase_add_test(t, calm);
    tcase_add_test(t, counts_are_set_right);
    tcase_add_test(t, sparse);
    return run_case("registry_outlier", t);
}
