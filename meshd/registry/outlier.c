/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_outlier: see outlier.h.
 */
#include "meshd/registry/outlier.h"

#include <stdlib.h>
#include <sys/random.h>

#include "common/ewma.h"
#include "common/outlier.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/policy/config.h"
#include "meshd/registry/live.h"
#include "meshd/registry/registry.h"
#include "meshd/registry/service.h"

#define MS UINT64_C(1000000)

/* What we saw last, by endpoint id. */
static struct seen {
    uint32_t id; /* + 1 */
    uint32_t good, bad;
    uint64_t word;
} seen[MESH_LIVE_ENDPOINTS];

/* An endpoint of a service whose interval is over. */
struct sample {
    struct meshd_service_entry *service;
    struct mesh_live_endpoint *live;
    uint32_t good, bad;
};
static struct sample *samples;
static size_t sample_count, sample_room;

static uint64_t
random_number(void)
{
    uint64_t n = 0;
    return getrandom(&n, sizeof(n), 0) == (ssize_t)sizeof(n) ? n : 0;
}

/* ---- new endpoints ---- */

/* An id whose entry was another's: nothing of that is this one's. */
static void
forget(struct mesh_live_endpoint *l)
{
    atomic_store(&l->failures, 0);
    atomic_store(&l->ejected, 0);
    atomic_store(&l->latency, 0);
    atomic_store(&l->since_ms, 0);
}

void
meshd_outlier_meet(const struct meshd_endpoint *e, const struct meshd_service_entry *s)
{
    struct seen *m = &seen[e->id % MESH_LIVE_ENDPOINTS];
    struct mesh_live_endpoint *l = NULL;
    if (m->id > e->id) {
        return;
    }
    if (m->id > 0 && (l = meshd_live_endpoint(e->id)) != NULL) {
        forget(l);
    }
    *m = (struct seen){.id = e->id + 1};
    uint64_t now = meshd_now_ns() / MS, real = meshd_real_ns();
    uint64_t age = real > e->since_ns ? (real - e->since_ns) / MS : 0;
    if (s->set.slow_start_ms > age && (l = meshd_live_use(e->id)) != NULL) {
        atomic_store(&l->since_ms, now > age ? now - age : 1);
    }
}

/* ---- the log ---- */

static void
report(const struct meshd_endpoint *e, const struct meshd_service_entry *s, uint64_t was, uint64_t is)
{
    char addr[MESH_ADDR_TEXT];
    uint64_t now = meshd_now_ns() / MS;
    struct mesh_outlier_view v = mesh_outlier_view(is, &s->set, now), old = mesh_outlier_view(was, &s->set, now);
    mesh_addr_text(&e->addr, addr);
    if (v.until_ms == 0 && old.until_ms != 0) {
        log_info("outlier_detection: %s of %s is back in service", addr, s->name);
    } else if (v.until_ms != 0 && (v.times != old.times || old.until_ms == 0)) {
        uint64_t left = v.until_ms > now ? v.until_ms - now : 0;
        log_info("outlier_detection: %s of %s is ejected for %.1f s, ejection %u in a row", addr, s->name,
                 (double)left / 1e3, v.times);
    }
}

static void
add_sample(struct meshd_service_entry *s, struct mesh_live_endpoint *l, struct seen *m)
{
    if (sample_count == sample_room) {
        size_t room = sample_room ? 2 * sample_room : 64;
        struct sample *more = realloc(samples, room * sizeof(*more));
        if (!more) {
            return;
        }
        samples = more;
        sample_room = room;
    }
    uint32_t good = atomic_load_explicit(&l->good, memory_order_relaxed);
    uint32_t bad = atomic_load_explicit(&l->bad, memory_order_relaxed);
    samples[sample_count++] = (struct sample){s, l, good - m->good, bad - m->bad};
    m->good = good;
    m->bad = bad;
}

static int
look(const struct meshd_endpoint *e, void *arg)
{
    uint64_t now = *(const uint64_t *)arg;
    struct meshd_service_entry *s = meshd_service_find(e->service);
    struct mesh_live_endpoint *l = s && s->set.flags & MESH_LIVE_OUTLIER ? meshd_live_endpoint(e->id) : NULL;
    struct seen *m = &seen[e->id % MESH_LIVE_ENDPOINTS];
    if (!l || m->id != e->id + 1) {
        return 0;
    }
    uint64_t word = atomic_load(&l->ejected);
    if (word != m->word) {
        report(e, s, m->word, word);
        m->word = word;
    }
    if (now >= s->interval_ns) {
        add_sample(s, l, m);
    }
    return 0;
}

/* ---- the comparison of a service's endpoints ---- */

static int
by_service(const void *a, const void *b)
{
    const struct sample *x = a, *y = b;
    return (x->service->live > y->service->live) - (x->service->live < y->service->live);
}

struct group {
    const struct sample *at;
    size_t n;
    const struct meshd_live_rule *rule;
    struct mesh_snap_live set;
    uint64_t now_ms;
};

static bool
is_in_service(const struct group *g, const struct sample *s)
{
    return mesh_outlier_view(atomic_load(&s->live->ejected), &g->set, g->now_ms).state == MESH_OUTLIER_IN;
}

static double
success_rate(const struct sample *s)
{
    return 100.0 * s->good / ((double)s->good + s->bad);
}

static bool
has_volume(const struct group *g, const struct sample *s, uint32_t volume)
{
    return (uint64_t)s->good + s->bad >= volume && is_in_service(g, s);
}

static void
eject(const struct group *g, const struct sample *s, unsigned enforcing)
{
    if (random_number() % 100 < enforcing) {
        (void)mesh_outlier_eject(s->live, meshd_live_service(g->set.entry), &g->set, g->now_ms, random_number());
    }
}

/* [Envoy] below the mean of all by so many standard deviations. */
static void
compare_success_rates(const struct group *g)
{
    const struct meshd_live_rule *r = g->rule;
    double sum = 0, squares = 0;
    uint32_t hosts = 0;
    for (size_t i = 0; i < g->n; i++) {
        if (has_volume(g, &g->at[i], r->success_rate_request_volume)) {
            sum += success_rate(&g->at[i]);
            squares += success_rate(&g->at[i]) * success_rate(&g->at[i]);
            hosts++;
        }
    }
    if (hosts == 0 || hosts < r->success_rate_minimum_hosts) {
        return;
    }
    double mean = sum / hosts, variance = squares / hosts - mean * mean;
    double factor = r->success_rate_stdev_factor / 1000.0, most = variance > 0 ? variance * factor * factor : 0;
    for (size_t i = 0; i < g->n; i++) {
        double below = mean - success_rate(&g->at[i]);
        if (has_volume(g, &g->at[i], r->success_rate_request_volume) && below > 0 && below * below > most) {
            eject(g, &g->at[i], r->enforcing_success_rate);
        }
    }
}

static void
compare_failure_percentages(const struct group *g)
{
    const struct meshd_live_rule *r = g->rule;
    uint32_t hosts = 0;
    for (size_t i = 0; i < g->n; i++) {
        hosts += has_volume(g, &g->at[i], r->failure_percentage_request_volume);
    }
    for (size_t i = 0; i < g->n && hosts >= r->failure_percentage_minimum_hosts; i++) {
        if (has_volume(g, &g->at[i], r->failure_percentage_request_volume) &&
            100 - success_rate(&g->at[i]) >= r->failure_percentage_threshold) {
            eject(g, &g->at[i], r->enforcing_failure_percentage);
        }
    }
}

static void
judge(const struct sample *at, size_t n, uint64_t now)
{
    struct meshd_service_entry *s = at->service;
    struct group g = {at, n, &s->rule, s->set, now / MS};
    g.set.endpoints = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        mesh_outlier_calm(at[i].live);
    }
    compare_success_rates(&g);
    compare_failure_percentages(&g);
    s->interval_ns = now + s->rule.interval_ms * MS;
}

void
meshd_outlier_watch(void)
{
    uint64_t now = meshd_now_ns();
    sample_count = 0;
    if (meshd_live_id() == 0 || !meshd_service_any_outlier()) {
        return;
    }
    meshd_registry_visit_endpoints(look, &now);
    if (sample_count) {
        qsort(samples, sample_count, sizeof(*samples), by_service);
    }
    for (size_t i = 0, end; i < sample_count; i = end) {
        for (end = i; end < sample_count && samples[end].service == samples[i].service; end++) {
        }
        judge(&samples[i], end - i, now);
    }
}

/* ---- health checks ---- */

struct passed {
    struct meshd_service_entry *service;
    struct mesh_live_service *live;
    meshd_endpoint_visit *is_meant;
    void *arg;
};

static int
bring_back(const struct meshd_endpoint *e, void *arg)
{
    const struct passed *p = arg;
    struct mesh_live_endpoint *l = meshd_live_endpoint(e->id);
    if (l && meshd_service_find(e->service) == p->service && p->is_meant(e, p->arg)) {
        (void)mesh_outlier_uneject(l, p->live, meshd_now_ns() / MS);
    }
    return 0;
}

/* Nearly always nothing is ejected, and no endpoint need be looked at. */
void
meshd_registry_check_passed(const char *service, meshd_endpoint_visit *is_meant, void *arg)
{
    struct passed p = {meshd_service_find(service), NULL, is_meant, arg};
    p.live = p.service ? meshd_live_service(p.service->live) : NULL;
    if (p.live && p.service->set.flags & MESH_LIVE_OUTLIER && p.service->rule.check_unejects &&
        atomic_load_explicit(&p.live->ejected, memory_order_relaxed) > 0) {
        meshd_registry_visit_endpoints(bring_back, &p);
    }
}

/* ---- what status shows ---- */

void
meshd_registry_endpoint_live(const struct meshd_endpoint *e, struct meshd_endpoint_live *out)
{
    const struct meshd_service_entry *s = meshd_service_find(e->service);
    struct mesh_live_endpoint *l = meshd_live_endpoint(e->id);
    uint64_t now = meshd_now_ns() / MS;
    *out = (struct meshd_endpoint_live){0};
    if (!s || !l) {
        return;
    }
    uint64_t latency = atomic_load(&l->latency), word = atomic_load(&l->ejected);
    out->active = atomic_load(&l->active);
    out->failures = atomic_load(&l->failures);
    out->latency_us = latency ? mesh_ewma_read(latency, now) : 0;
    if (s->set.flags & MESH_LIVE_OUTLIER) {
        struct mesh_outlier_view v = mesh_outlier_view(word, &s->set, now);
        out->state = v.state;
        out->until_ms = v.until_ms;
        out->times = v.times;
    }
}

void
meshd_registry_service_live(const char *name, struct meshd_service_live *out)
{
    const struct meshd_service_entry *s = meshd_service_find(name);
    struct mesh_live_service *l = s ? meshd_live_service(s->live) : NULL;
    *out = (struct meshd_service_live){0};
    if (l) {
        *out = (struct meshd_service_live){
            .set = s->set, .active = l->active, .pending = l->pending, .retries = l->retries,
            .ejected = l->ejected, .ejections = l->ejections, .ejections_overflow = l->ejections_overflow,
            .cx_overflow = l->cx_overflow, .pending_overflow = l->pending_overflow,
            .retry_overflow = l->retry_overflow};
    }
}
