/* SPDX-License-Identifier: Apache-2.0
 *
 * load: see load.h. A connection is
 *
 *     closed ──due──> connecting ──ready──> up ──due──> requests outstanding, up to `pipeline`
 *        ^                                   |
 *        └── fresh: after each answer; else: after an error
 *
 * and stands in the heap exactly while it has room for a request that is not due yet.
 */
#include "bench/meshload/load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "bench/meshload/heap.h"
#include "bench/meshload/stream.h"

#define SETUP_NS   UINT64_C(30000000000) /* for all connections together */
#define SETUP_WIDE 64                    /* connecting at the same time */
#define PAUSE_NS   UINT64_C(1000000)     /* closed loop: after an error */
#define EVENTS     256
#define READ_SIZE  65536

struct conn {
    struct stream s;
    bool open, up, queued;
    uint32_t watched;
    struct sched sched;
    struct answer answer;
    size_t at, owed;            /* where in the script, and how many bytes of it are still to be sent */
    unsigned first, outstanding;
    uint64_t since[LOAD_PIPELINE_MAX]; /* of each outstanding request, a ring from `first` */
    uint64_t free_at, opened_at;
};

struct load {
    const struct load_spec *spec;
    struct load_result *r;
    struct conn *conns;
    struct heap heap;
    int epoll;
    uint64_t begin, end; /* of the window */
    unsigned waiting;    /* connections with something outstanding, or connecting */
    uint8_t buf[READ_SIZE];
};

uint64_t
load_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static bool
counts(const struct load *l, uint64_t t)
{
    return t >= l->begin && t < l->end;
}

static bool
has_room(const struct load *l, const struct conn *c)
{
    return l->spec->batch ? c->outstanding == 0 : c->outstanding < l->spec->pipeline;
}

static bool
is_due(const struct load *l, const struct conn *c, uint64_t now)
{
    return c->sched.due <= now && c->sched.due < l->end && (c->sched.kind != SCHED_MAX || now < l->end);
}

static void
queue(struct load *l, struct conn *c, uint64_t now)
{
    bool to_come = c->sched.due < l->end && (c->sched.kind != SCHED_MAX || now < l->end);
    if (!c->queued && to_come && (!c->open || (c->up && has_room(l, c)))) {
        c->queued = true;
        heap_push(&l->heap, (struct heap_item){c->sched.due, (unsigned)(c - l->conns)});
    }
}

static void
watch(struct load *l, struct conn *c, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.u32 = (uint32_t)(c - l->conns)};
    if (c->watched != events) {
        (void)epoll_ctl(l->epoll, c->watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->s.fd, &e);
        c->watched = events;
    }
}

/* Also ends what is outstanding, as this error. */
static void
conn_close(struct load *l, struct conn *c, enum load_err why)
{
    l->waiting -= c->open && (!c->up || c->outstanding > 0);
    for (unsigned i = 0; i < c->outstanding; i++) {
        l->r->errors[why] += counts(l, c->since[(c->first + i) % LOAD_PIPELINE_MAX]);
    }
    stream_close(&c->s);
    c->open = c->up = false;
    c->watched = 0;
    c->outstanding = 0;
    c->owed = 0;
    c->at -= c->at % l->spec->proto->request_len;
    memset(&c->answer, 0, sizeof(c->answer));
}

/* The request for which the connection was to be is lost with it. */
static void
connect_failed(struct load *l, struct conn *c, uint64_t now)
{
    uint64_t t = c->sched.kind == SCHED_MAX ? now : c->sched.due;
    l->r->due += counts(l, t);
    l->r->errors[LOAD_CONNECT] += counts(l, t);
    sched_next(&c->sched);
}

static void
conn_failed(struct load *l, struct conn *c, enum load_err why, uint64_t now)
{
    if (c->open && !c->up) {
        connect_failed(l, c, now);
    }
    conn_close(l, c, why);
    c->free_at = now;
    if (c->sched.kind == SCHED_MAX) {
        c->sched.due = now + PAUSE_NS;
    }
    queue(l, c, now);
}

static void
late_note(struct load *l, const struct conn *c, uint64_t now)
{
    uint64_t could = c->sched.due > c->free_at ? c->sched.due : c->free_at;
    if (c->sched.kind != SCHED_MAX && counts(l, c->sched.due)) {
        hist_add(&l->r->late, now - could);
        l->r->busy += c->free_at > c->sched.due;
    }
}

static void
conn_open(struct load *l, struct conn *c, uint64_t now)
{
    const struct load_spec *s = l->spec;
    c->opened_at = now;
    if (stream_connect(&c->s, (const struct sockaddr *)&s->to, s->to_len, s->tls) != 0) {
        c->open = false;
        connect_failed(l, c, now);
        c->sched.due = c->sched.kind == SCHED_MAX ? now + PAUSE_NS : c->sched.due;
        queue(l, c, now);
        return;
    }
    c->open = true;
    l->waiting++;
    watch(l, c, EPOLLOUT);
}

static void
requests_take(struct load *l, struct conn *c, uint64_t now)
{
    bool room = has_room(l, c);
    while (room && c->outstanding < l->spec->pipeline && is_due(l, c, now)) {
        uint64_t since = c->sched.kind == SCHED_MAX ? now : c->sched.due;
        if (!l->spec->fresh) {
            late_note(l, c, now);
        }
        l->waiting += c->outstanding == 0;
        c->since[(c->first + c->outstanding++) % LOAD_PIPELINE_MAX] = since;
        c->owed += l->spec->proto->request_len;
        l->r->due += counts(l, since);
        sched_next(&c->sched);
    }
}

/* False: the connection has failed. */
static bool
requests_send(struct load *l, struct conn *c)
{
    const struct proto *p = l->spec->proto;
    size_t len = p->request_len * p->requests;
    while (c->owed > 0) {
        size_t n = c->owed < len - c->at ? c->owed : len - c->at;
        n = l->spec->chunk != 0 && n > l->spec->chunk ? l->spec->chunk : n;
        ssize_t w = stream_write(&c->s, p->script + c->at, n);
        if (w < 0 && errno == EAGAIN) {
            watch(l, c, EPOLLIN | EPOLLOUT);
            return true;
        }
        if (w <= 0) {
            return false;
        }
        c->owed -= (size_t)w;
        c->at = (c->at + (size_t)w) % len;
        l->r->bytes_out += (uint64_t)w;
    }
    watch(l, c, EPOLLIN);
    return true;
}

/* Whatever the connection can do now. */
static void
pump(struct load *l, struct conn *c, uint64_t now)
{
    if (!c->open && is_due(l, c, now)) {
        if (l->spec->fresh) {
            late_note(l, c, now);
        }
        conn_open(l, c, now);
        return;
    }
    if (c->up) {
        requests_take(l, c, now);
        if (c->owed > 0 && !requests_send(l, c)) {
            conn_failed(l, c, LOAD_RESET, now);
            return;
        }
    }
    queue(l, c, now);
}

static void
answers_count(struct load *l, struct conn *c, unsigned done, unsigned refused, uint64_t now)
{
    for (unsigned i = 0; i < done; i++) {
        uint64_t since = c->since[c->first];
        c->first = (c->first + 1) % LOAD_PIPELINE_MAX;
        if (!counts(l, since)) {
            continue;
        }
        if (i < refused) {
            l->r->errors[LOAD_REPLY]++;
        } else {
            l->r->answered++;
            hist_add(&l->r->latency, now - since);
        }
    }
    c->outstanding -= done;
    l->waiting -= done > 0 && c->outstanding == 0;
    c->free_at = done > 0 ? now : c->free_at;
}

/* Reads what is there. LOAD_OK: go on; LOAD_EOF after a whole answer is no error. */
static enum load_err
answers_read(struct load *l, struct conn *c)
{
    ssize_t n;
    do {
        unsigned done = 0, refused = 0;
        n = stream_read(&c->s, l->buf, sizeof(l->buf));
        if (n <= 0) {
            return n == 0 ? LOAD_EOF : errno == EAGAIN ? LOAD_OK : LOAD_RESET;
        }
        l->r->bytes_in += (uint64_t)n;
        enum load_err e = proto_feed(l->spec->proto, &c->answer, l->buf, (size_t)n, &done, &refused);
        if (e != LOAD_OK || done > c->outstanding) {
            return LOAD_CONTENT;
        }
        answers_count(l, c, done, refused, load_now());
        if (done > 0 && (l->spec->fresh || c->answer.close)) {
            return LOAD_EOF;
        }
    } while (stream_more(&c->s, (size_t)n, sizeof(l->buf)));
    return LOAD_OK;
}

static void
conn_event(struct load *l, struct conn *c, uint32_t events)
{
    uint64_t now = load_now();
    if (!c->up) {
        if (stream_ready(&c->s) != 0) {
            if (errno == EAGAIN) {
                watch(l, c, c->s.want);
            } else {
                conn_failed(l, c, LOAD_CONNECT, now);
            }
            return;
        }
        c->up = true;
        l->waiting--;
        if (!l->spec->fresh || counts(l, c->opened_at)) {
            hist_add(&l->r->connect, now - c->opened_at);
        }
    } else if (events & ~(uint32_t)EPOLLOUT) {
        enum load_err e = answers_read(l, c);
        now = load_now();
        if (e == LOAD_EOF && c->outstanding == 0) {
            conn_close(l, c, e);
        } else if (e != LOAD_OK) {
            conn_failed(l, c, e, now);
            return;
        }
    }
    if (c->up && c->owed == 0) {
        watch(l, c, EPOLLIN);
    }
    /* Who stands in the heap has room and nothing due: its time will come. */
    if (!c->queued) {
        pump(l, c, now);
    } else if (c->owed > 0 && !requests_send(l, c)) {
        conn_failed(l, c, LOAD_RESET, now);
    }
}

static void
wait_events(struct load *l, uint64_t until)
{
    struct epoll_event e[EVENTS];
    uint64_t now = load_now(), left = until > now ? until - now : 0;
    struct timespec t = {.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};
    int n = l->spec->spin || left == 0 ? epoll_wait(l->epoll, e, EVENTS, 0) : epoll_pwait2(l->epoll, e, EVENTS, &t, NULL);
    for (int i = 0; i < n; i++) {
        if (l->conns[e[i].data.u32].open) {
            conn_event(l, &l->conns[e[i].data.u32], e[i].events);
        }
    }
}

/* Opens all connections before the time begins. */
static bool
setup(struct load *l)
{
    uint64_t deadline = load_now() + SETUP_NS;
    unsigned up = 0, next = 0;
    while (up < l->spec->connections && load_now() < deadline) {
        while (next < l->spec->connections && next - up < SETUP_WIDE) {
            conn_open(l, &l->conns[next++], load_now());
        }
        wait_events(l, load_now() + PAUSE_NS);
        up = 0;
        for (unsigned i = 0; i < next; i++) {
            up += l->conns[i].up;
            if (!l->conns[i].open) {
                fprintf(stderr, "meshload: a connection failed: %s\n", strerror(errno));
                return false;
            }
        }
    }
    if (up < l->spec->connections) {
        fprintf(stderr, "meshload: %u of %u connections in time\n", up, l->spec->connections);
    }
    return up == l->spec->connections;
}

/* One request and its answer on each connection, which count nowhere: behind a proxy that accepted at once
 * there may be a handshake yet to come, and servers set up what they need with the first bytes. */
static bool
greet(struct load *l)
{
    uint64_t deadline = load_now() + SETUP_NS;
    l->begin = l->end = UINT64_MAX;
    for (unsigned i = 0; i < l->spec->connections; i++) {
        struct conn *c = &l->conns[i];
        c->sched.due = UINT64_MAX;
        c->since[0] = load_now();
        c->outstanding = 1;
        c->owed = l->spec->proto->request_len;
        l->waiting++;
        if (!requests_send(l, c)) {
            conn_close(l, c, LOAD_RESET);
        }
    }
    while (l->waiting > 0 && load_now() < deadline) {
        wait_events(l, load_now() + PAUSE_NS);
    }
    if (l->waiting > 0) {
        fprintf(stderr, "meshload: %u of %u connections had no answer in time\n", l->waiting, l->spec->connections);
    }
    return l->waiting == 0;
}

static void
schedules_begin(struct load *l)
{
    const struct load_spec *s = l->spec;
    uint64_t start = load_now() + PAUSE_NS, seed = s->seed;
    l->begin = start + s->warmup_ns;
    l->end = l->begin + s->window_ns;
    for (unsigned i = 0; i < s->connections; i++) {
        struct conn *c = &l->conns[i];
        seed += (uint64_t)(sched_random(&seed) * 0x1p53);
        sched_init(&c->sched, s->kind, s->rate / s->connections, start, seed);
        c->at = (size_t)(sched_random(&seed) * s->proto->requests) * s->proto->request_len;
        c->queued = false;
        queue(l, c, start);
    }
}

/* What was due and has no answer had at least this long. */
static void
leftovers_count(struct load *l, uint64_t now)
{
    for (unsigned i = 0; i < l->spec->connections; i++) {
        struct conn *c = &l->conns[i];
        for (unsigned k = 0; k < c->outstanding; k++) {
            uint64_t since = c->since[(c->first + k) % LOAD_PIPELINE_MAX];
            if (counts(l, since)) {
                hist_add(&l->r->latency, now - since);
            }
        }
        for (; c->sched.kind != SCHED_MAX && c->sched.due < l->end; sched_next(&c->sched)) {
            if (counts(l, c->sched.due)) {
                l->r->due++;
                l->r->errors[LOAD_UNANSWERED]++;
                hist_add(&l->r->latency, now - c->sched.due);
            }
        }
        if (c->open) {
            conn_close(l, c, LOAD_UNANSWERED);
        }
    }
}

static void
loop(struct load *l)
{
    const struct load_spec *s = l->spec;
    uint64_t now = load_now(), deadline = l->end + s->drain_ns;
    int said = 0;
    while (now < deadline && (now < l->end || l->waiting > 0 || l->heap.n > 0)) {
        uint64_t next = now < l->begin ? l->begin : now < l->end ? l->end : deadline;
        if (said < 2 && now >= (said == 0 ? l->begin : l->end)) {
            if (s->mark != NULL) {
                s->mark(said == 0 ? "begin" : "end");
            }
            said++;
        }
        while (l->heap.n > 0 && l->heap.item[0].due <= now) {
            struct conn *c = &l->conns[heap_pop(&l->heap).who];
            c->queued = false;
            pump(l, c, load_now());
            now = load_now();
        }
        if (l->heap.n > 0 && l->heap.item[0].due < next) {
            next = l->heap.item[0].due;
        }
        wait_events(l, next);
        now = load_now();
    }
    if (said < 2 && s->mark != NULL) {
        s->mark("end");
    }
    leftovers_count(l, now);
}

bool
load_run(const struct load_spec *spec, struct load_result *r)
{
    struct load *l = calloc(1, sizeof(*l));
    bool ok = false;
    hist_init(&r->latency);
    hist_init(&r->late);
    hist_init(&r->connect);
    if (l == NULL) {
        return false;
    }
    l->spec = spec;
    l->r = r;
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->conns = calloc(spec->connections, sizeof(*l->conns));
    l->heap.item = calloc(spec->connections, sizeof(*l->heap.item));
    (void)prctl(PR_SET_TIMERSLACK, 1UL);
    if (l->epoll >= 0 && l->conns != NULL && l->heap.item != NULL && (spec->fresh || (setup(l) && greet(l)))) {
        schedules_begin(l);
        r->bytes_in = r->bytes_out = 0;
        loop(l);
        r->window_ns = spec->window_ns;
        ok = true;
    }
    if (l->epoll >= 0) {
        (void)close(l->epoll);
    }
    free(l->heap.item);
    free(l->conns);
    free(l);
    return ok;
}
