/* SPDX-License-Identifier: Apache-2.0
 *
 * What measures must be right first: meshload's histogram against exact values, its schedules, its readers of
 * answers at every cut, and that a server which stalls for a second is seen to (an own server, in a child).
 */
#include <arpa/inet.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/meshload/heap.h"
#include "bench/meshload/load.h"
#include "tests/unit/unit.h"

#define SEC UINT64_C(1000000000)

static struct hist h;

START_TEST(bucket_is_never_low_and_at_most_1_in_256_high)
{
    for (uint64_t v = 1; v < HIST_MAX; v += 1 + v / 1000) {
        uint64_t top = hist_top(hist_index(v));
        ck_assert_uint_ge(top, v);
        ck_assert_uint_le(top - v, v / 256);
        ck_assert_uint_eq(hist_index(top), hist_index(v));
        ck_assert_uint_eq(hist_index(top + 1), hist_index(v) + (top < HIST_MAX));
    }
    ck_assert_uint_eq(hist_top(hist_index(0)), 0);
    ck_assert_uint_eq(hist_index(UINT64_MAX), HIST_BUCKETS);
}
END_TEST

START_TEST(percentiles_of_known_values)
{
    hist_init(&h);
    ck_assert_uint_eq(hist_at(&h, 0.99), 0);
    for (uint64_t v = 1; v <= 100000; v++) {
        hist_add(&h, v * 1000);
    }
    ck_assert_uint_eq(h.count, 100000);
    for (int q = 1; q < 1000; q++) {
        double exact = 1e5 * q, got = (double)hist_at(&h, q / 1000.0);
        ck_assert(got >= exact && got <= exact * (1 + 1.0 / 256));
    }
    ck_assert_uint_eq(hist_at(&h, 1), 100000000);
    ck_assert_uint_eq(h.max, 100000000);
    ck_assert_uint_eq(h.min, 1000);
    ck_assert_double_eq(hist_mean(&h), 50000500);
}
END_TEST

START_TEST(value_beyond_the_last_bucket_is_kept_as_maximum)
{
    hist_init(&h);
    hist_add(&h, UINT64_C(1) << 50);
    ck_assert_uint_eq(h.max, UINT64_C(1) << 50);
    ck_assert_uint_eq(hist_at(&h, 0.5), HIST_MAX);
}
END_TEST

/* ---- schedules ---- */

START_TEST(schedule_keeps_its_rate)
{
    struct sched s;
    sched_init(&s, (enum sched_kind)_i, 1000, SEC, 7);
    uint64_t first = s.due, before = 0;
    unsigned n = 0;
    ck_assert_uint_ge(first, SEC);
    for (; s.due < 101 * SEC; n++) {
        ck_assert_uint_ge(s.due, before);
        before = s.due;
        sched_next(&s);
    }
    /* Poisson: 100,000 with a deviation of 316. */
    ck_assert_uint_ge(n, _i == SCHED_POISSON ? 98400 : 99998);
    ck_assert_uint_le(n, _i == SCHED_POISSON ? 101600 : 100001);
}
END_TEST

/* The distances of a Poisson process have their mean as deviation; those of jitter, period / sqrt(6). */
START_TEST(schedule_has_its_distribution)
{
    static const double want[] = {[SCHED_EVEN] = 0, [SCHED_JITTER] = 0.408, [SCHED_POISSON] = 1};
    struct sched s;
    double sum = 0;
    sched_init(&s, (enum sched_kind)_i, 1000, 0, 11);
    for (int i = 0; i < 100000; i++) {
        uint64_t was = s.due;
        sched_next(&s);
        double d = (double)(s.due - was) / 1e6 - 1;
        sum += d * d;
    }
    ck_assert_double_eq_tol(sqrt(sum / 100000), want[_i], 0.03);
}
END_TEST

START_TEST(heap_gives_the_earliest)
{
    struct heap_item item[500];
    struct heap heap = {.item = item};
    uint64_t seed = 3, last = 0;
    for (unsigned i = 0; i < 500; i++) {
        heap_push(&heap, (struct heap_item){(uint64_t)(sched_random(&seed) * 1000), i});
    }
    for (unsigned i = 0; i < 500; i++) {
        struct heap_item x = heap_pop(&heap);
        ck_assert_uint_ge(x.due, last);
        last = x.due;
    }
    ck_assert_uint_eq(heap.n, 0);
}
END_TEST

/* ---- answers ---- */

static const struct {
    struct proto_spec spec;
    const char *in;
    unsigned done, refused;
    enum load_err err;
} answers[] = {
    {{.name = "resp", .command = "get", .size = 3, .keys = 1, .prefix = "key"}, "$3\r\nabc\r\n$3\r\n\r\n\r\r\n", 2, 0, LOAD_OK},
    {{.name = "resp", .command = "get", .size = 3, .keys = 1, .prefix = "key"}, "$-1\r\n", 1, 1, LOAD_OK},
    {{.name = "resp", .command = "get", .size = 3, .keys = 1, .prefix = "key"}, "$4\r\nabcd\r\n", 0, 0, LOAD_CONTENT},
    {{.name = "resp", .command = "set", .size = 3, .keys = 1, .prefix = "key"}, "+OK\r\n-ERR no\r\n+OK\r\n", 3, 1, LOAD_OK},
    {{.name = "resp", .command = "ping"}, "HTTP/1.1 400\r\n", 0, 0, LOAD_CONTENT},
    {{.name = "http", .path = "/"}, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
                                    "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", 2, 1, LOAD_OK},
    {{.name = "http", .path = "/"}, "HTTP/1.1 200 OK\r\nX: 1\r\n\r\n", 0, 0, LOAD_CONTENT},
    {{.name = "http", .path = "/"}, "+OK\r\n", 0, 0, LOAD_CONTENT},
    {{.name = "sink", .size = 1000}, "xxx", 3, 0, LOAD_OK},
};

START_TEST(answers_are_read_the_same_at_every_cut)
{
    const uint8_t *in = (const uint8_t *)answers[_i].in;
    size_t len = strlen(answers[_i].in);
    struct proto p;
    ck_assert(proto_init(&p, &answers[_i].spec));
    for (size_t cut = 0; cut <= len; cut++) {
        struct answer a = {0};
        unsigned done = 0, refused = 0;
        enum load_err e = proto_feed(&p, &a, in, cut, &done, &refused);
        e = e == LOAD_OK ? proto_feed(&p, &a, in + cut, len - cut, &done, &refused) : e;
        ck_assert_int_eq(e, answers[_i].err);
        ck_assert_uint_eq(done, answers[_i].done);
        ck_assert_uint_eq(refused, answers[_i].refused);
    }
    proto_fini(&p);
}
END_TEST

START_TEST(echo_that_differs_is_an_error)
{
    const struct proto_spec spec = {.name = "echo", .size = 1000};
    struct proto p;
    struct answer a = {0};
    unsigned done = 0, refused = 0;
    ck_assert(proto_init(&p, &spec));
    ck_assert_int_eq(proto_feed(&p, &a, p.script, 1500, &done, &refused), LOAD_OK);
    ck_assert_uint_eq(done, 1);
    p.script[0] ^= 1; /* what the next request's answer will be compared with */
    ck_assert_int_eq(proto_feed(&p, &a, p.script + 500, 501, &done, &refused), LOAD_CONTENT);
    proto_fini(&p);
}
END_TEST

START_TEST(scripts_have_requests_of_one_length)
{
    const struct proto_spec spec = {.name = "resp", .command = "set", .size = 5, .keys = 1000, .prefix = "key"};
    struct proto p;
    ck_assert(proto_init(&p, &spec));
    ck_assert_uint_gt(p.requests, 1);
    for (unsigned i = 0; i < p.requests; i++) {
        ck_assert_mem_eq(p.script + i * p.request_len, "*3\r\n$3\r\nSET\r\n$16\r\nkey:", 22);
        ck_assert_mem_eq(p.script + (i + 1) * p.request_len - 11, "$5\r\nxxxxx\r\n", 11);
    }
    proto_fini(&p);
}
END_TEST

/* ---- a server that stalls ---- */

static int
listen_any(struct sockaddr_storage *at, socklen_t *len)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int l = socket(AF_INET, SOCK_STREAM, 0);
    *len = sizeof(sa);
    ck_assert(l >= 0 && bind(l, (struct sockaddr *)&sa, *len) == 0 && listen(l, 10) == 0 &&
              getsockname(l, (struct sockaddr *)&sa, len) == 0);
    memcpy(at, &sa, sizeof(sa));
    return l;
}

/* Echoes on one connection; after `pause_after` bytes it stops for a second, once; after `end_after` it ends. */
static void
echo(int l, uint64_t pause_after, uint64_t end_after)
{
    char buf[4096];
    int c = accept(l, NULL, NULL);
    uint64_t all = 0;
    for (ssize_t n; c >= 0 && (n = read(c, buf, sizeof(buf))) > 0 && all < end_after;) {
        if (all < pause_after && all + (uint64_t)n >= pause_after) {
            (void)sleep(1);
        }
        all += (uint64_t)n;
        if (write(c, buf, (size_t)n) != n) {
            break;
        }
    }
    _exit(0);
}

static void
run(struct load_result *r, uint64_t window, uint64_t pause_after, uint64_t end_after)
{
    const struct proto_spec echo64 = {.name = "echo", .size = 64};
    struct proto p;
    struct load_spec s = {.proto = &p, .kind = SCHED_JITTER, .rate = 1000, .connections = 1, .pipeline = 1,
                          .window_ns = window, .drain_ns = SEC, .seed = 1};
    int l = listen_any(&s.to, &s.to_len);
    pid_t server = fork();
    ck_assert_int_ge(server, 0);
    if (server == 0) {
        echo(l, pause_after, end_after);
    }
    close(l);
    memset(r, 0, sizeof(*r));
    ck_assert(proto_init(&p, &echo64));
    ck_assert(load_run(&s, r));
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    proto_fini(&p);
}

/* Two thirds of all requests are due while nothing is answered: a third waits half a second and more. Who asks
 * only after each answer sees one slow request of thousands. */
START_TEST(stall_is_seen_in_open_loop)
{
    static struct load_result r;
    run(&r, 3 * SEC / 2, UINT64_C(64) * 200, UINT64_MAX);
    ck_assert_uint_ge(r.due, 1490);
    ck_assert_uint_ge(hist_at(&r.latency, 0.75), SEC / 3);
    ck_assert_uint_ge(hist_at(&r.latency, 0.95), 2 * SEC / 3);
    ck_assert_uint_ge(r.busy, 500); /* fewer where the generator itself had to wait for a processor */
    ck_assert_uint_eq(r.latency.count, r.due);
    ck_assert_uint_eq(r.answered + r.errors[LOAD_UNANSWERED], r.due);
    /* It was the server's doing, and the generator's own lateness says so. */
    ck_assert_uint_lt(hist_at(&r.late, 0.9), SEC / 3);
}
END_TEST

START_TEST(nothing_is_lost_when_the_server_ends)
{
    static struct load_result r;
    run(&r, SEC / 2, 0, UINT64_C(64) * 100);
    uint64_t errors = 0;
    for (unsigned i = LOAD_OK + 1; i < LOAD_ERR_COUNT; i++) {
        errors += r.errors[i];
    }
    ck_assert_uint_le(r.answered, 101);
    ck_assert_uint_ge(r.errors[LOAD_CONNECT], 300);
    ck_assert_uint_eq(r.answered + errors, r.due);
}
END_TEST

/* ---- before time begins ---- */

static _Atomic int *answered; /* connections that had their first answer */
static int answered_at_begin;

static void
note_begin(const char *what)
{
    if (strcmp(what, "begin") == 0) {
        answered_at_begin = atomic_load(answered);
    }
}

/* Echoes on two connections; the second one's first answer takes its time. */
static void
echo_two(int l)
{
    char buf[4096];
    struct pollfd c[2] = {{.fd = accept(l, NULL, NULL), .events = POLLIN}, {.fd = accept(l, NULL, NULL), .events = POLLIN}};
    bool first[2] = {true, true};
    while (poll(c, 2, -1) > 0) {
        for (int i = 0; i < 2; i++) {
            ssize_t n = c[i].revents ? read(c[i].fd, buf, sizeof(buf)) : 0;
            if (c[i].revents && n <= 0) {
                _exit(0);
            }
            if (n > 0 && first[i]) {
                (void)usleep(i * 300000);
                first[i] = false;
                atomic_fetch_add(answered, 1);
            }
            if (n > 0 && write(c[i].fd, buf, (size_t)n) != n) {
                _exit(0);
            }
        }
    }
    _exit(0);
}

START_TEST(time_begins_when_every_connection_had_an_answer)
{
    static struct load_result r;
    const struct proto_spec echo64 = {.name = "echo", .size = 64};
    struct proto p;
    struct load_spec s = {.proto = &p, .kind = (enum sched_kind)_i, .rate = 1000, .connections = 2, .pipeline = 1,
                          .window_ns = SEC / 20, .drain_ns = SEC, .seed = 1, .mark = note_begin};
    answered = mmap(NULL, sizeof(*answered), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(answered != MAP_FAILED);
    int l = listen_any(&s.to, &s.to_len);
    pid_t server = fork();
    ck_assert_int_ge(server, 0);
    if (server == 0) {
        echo_two(l);
    }
    close(l);
    ck_assert(proto_init(&p, &echo64));
    ck_assert(load_run(&s, &r));
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    proto_fini(&p);
    ck_assert_int_eq(answered_at_begin, 2);
    ck_assert_uint_gt(r.answered, 0);
    ck_assert_uint_eq(r.answered, r.due);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("meshload");
    TCase *t = tcase_create("meshload");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, bucket_is_never_low_and_at_most_1_in_256_high);
    tcase_add_test(t, percentiles_of_known_values);
    tcase_add_test(t, value_beyond_the_last_bucket_is_kept_as_maximum);
    tcase_add_loop_test(t, schedule_keeps_its_rate, SCHED_EVEN, SCHED_MAX);
    tcase_add_loop_test(t, schedule_has_its_distribution, SCHED_EVEN, SCHED_MAX);
    tcase_add_test(t, heap_gives_the_earliest);
    tcase_add_loop_test(t, answers_are_read_the_same_at_every_cut, 0, sizeof(answers) / sizeof(answers[0]));
    tcase_add_test(t, echo_that_differs_is_an_error);
    tcase_add_test(t, scripts_have_requests_of_one_length);
    tcase_add_test(t, stall_is_seen_in_open_loop);
    tcase_add_test(t, nothing_is_lost_when_the_server_ends);
    tcase_add_loop_test(t, time_begins_when_every_connection_had_an_answer, SCHED_EVEN, SCHED_MAX + 1);
    suite_add_tcase(s, t);
    return unit_run(s);
}
