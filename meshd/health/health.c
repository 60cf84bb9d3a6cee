/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_health: see health.h. When each target is due, the queue of those that are due and have to wait for
 * a place, and what follows from the outcomes.
 *
 *   waiting --(timer)--> [queued -->] running --(outcome)--> waiting
 *
 * New ones are not all due at once: each comes PACE_MS after the other, or closer, so that all fit into an
 * interval. Several changes of health are one new snapshot.
 */
#include "meshd/health/health.h"

#include <event2/event.h>
#include <event2/util.h>
#include <string.h>
#include <utlist.h>

#include "common/addr.h"
#include "mesh/snapshot.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/health/check.h"
#include "meshd/health/target.h"
#include "meshd/health/watch.h"
#include "meshd/ident/probe.h"
#include "meshd/registry/registry.h"

#define SYNC_MS    20   /* from a change of the endpoints to the look at them */
#define PUBLISH_MS 100  /* between snapshots for changes of health */
#define TRAFFIC_MS 1000 /* between looks for traffic */
#define PACE_MS    10

static struct meshd_target *queue;
static struct event *sync_timer, *publish_timer;
static struct meshd_timer *traffic_timer;
static uint32_t round_now;
static uint64_t published_ns;

static void
arm(struct event *ev, uint64_t ms)
{
    const struct timeval tv = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000) * 1000};
    if (event_add(ev, &tv) != 0) {
        log_error("health: out of memory");
    }
}

/* The first change at once, the next ones together. */
static void
publish_soon(void)
{
    uint64_t ago = (meshd_now_ns() - published_ns) / 1000000;
    if (!evtimer_pending(publish_timer, NULL)) {
        arm(publish_timer, ago < PUBLISH_MS ? PUBLISH_MS - ago : 0);
    }
}

static uint32_t
random_below(uint32_t n)
{
    uint64_t r = 0;
    evutil_secure_rng_get_bytes(&r, sizeof(r));
    return n ? (uint32_t)(r % n) : 0;
}

/* ---- running ---- */

static void
stop(struct meshd_target *t)
{
    if (t->network) {
        meshd_network_cancel(t->network);
    }
    if (t->command) {
        meshd_program_cancel(t->command);
    }
    if (t->queued) {
        DL_DELETE(queue, t);
    }
    t->network = NULL;
    t->command = NULL;
    t->queued = false;
    event_del(t->timer);
}

static void
drop(struct meshd_target *t)
{
    stop(t);
    meshd_target_free(t);
}

static uint64_t
interval_of(const struct meshd_target *t)
{
    const struct meshd_health_rule *r = &t->watch->rule;
    uint32_t ms = t->watch->traffic ? r->interval_ms : r->no_traffic_interval_ms;
    return ms + (uint64_t)random_below((uint32_t)((uint64_t)ms * r->interval_jitter_percent / 100) + 1);
}

static void
say(const struct meshd_target *t, enum meshd_health was, uint64_t since_ns)
{
    char text[MESH_ADDR_TEXT];
    mesh_addr_text(&t->to, text);
    if (meshd_target_is_unhealthy(t)) {
        log_warn("health: %s of %s is unhealthy: %s", text, t->watch->name, t->state.info.reason);
    } else if (was == MESHD_HEALTH_UNHEALTHY) {
        log_info("health: %s of %s is healthy again, after %.1f s", text, t->watch->name,
                 (double)(meshd_real_ns() - since_ns) / 1e9);
    } else {
        log_debug("health: %s of %s is healthy", text, t->watch->name);
    }
}

static void
count(struct meshd_health_service *c, enum meshd_verdict v)
{
    c->attempts++;
    c->successes += v == MESHD_CHECK_GOOD;
    c->failures += v != MESHD_CHECK_GOOD;
    c->network_failures += v == MESHD_CHECK_NETWORK;
}

/* Is the endpoint checked by this target? */
static int
is_checked_by(const struct meshd_endpoint *e, void *arg)
{
    return meshd_target_find(e) == arg;
}

static void run_queue(void);

static void
on_done(const struct meshd_outcome *o, void *arg)
{
    struct meshd_target *t = arg;
    enum meshd_health was = t->state.info.is;
    uint64_t since = t->state.info.since_ns;
    t->network = NULL;
    t->command = NULL;
    count(&t->watch->count, o->verdict);
    if (meshd_health_state_note(&t->state, &t->watch->rule, o, meshd_real_ns())) {
        say(t, was, since);
        if (meshd_target_is_unhealthy(t) || was == MESHD_HEALTH_UNHEALTHY) {
            publish_soon();
        }
    }
    if (o->verdict == MESHD_CHECK_GOOD && !meshd_target_is_unhealthy(t)) {
        meshd_registry_check_passed(t->watch->name, is_checked_by, t);
    }
    arm(t->timer, interval_of(t));
    run_queue();
}

static bool
has_room(const struct meshd_target *t)
{
    return t->watch->rule.type == MESHD_HEALTH_COMMAND ? meshd_program_has_room()
                                                       : meshd_network_has_room();
}

static void
start(struct meshd_target *t)
{
    const struct meshd_check_job job = {.rule = &t->watch->rule, .service = t->watch->name,
                                        .id = t->id[0] ? t->id : NULL, .to = t->to};
    if (job.rule->type == MESHD_HEALTH_COMMAND) {
        t->command = meshd_program_start(&job, on_done, t);
    } else {
        t->network = meshd_network_start(&job, on_done, t);
    }
    if (!t->network && !t->command) { /* our own lack is no failure of the endpoint's */
        log_warn("health: no means to check an endpoint of %s now", t->watch->name);
        arm(t->timer, interval_of(t));
    }
}

/* Commands and the others wait for places of their own, in one queue. */
static void
run_queue(void)
{
    struct meshd_target *t, *tmp;
    DL_FOREACH_SAFE(queue, t, tmp)
    {
        if (!meshd_network_has_room() && !meshd_program_has_room()) {
            return;
        }
        if (has_room(t)) {
            DL_DELETE(queue, t);
            t->queued = false;
            start(t);
        }
    }
}

static void
on_due(evutil_socket_t fd, short what, void *arg)
{
    struct meshd_target *t = arg;
    (void)fd;
    (void)what;
    if (has_room(t)) {
        start(t);
    } else {
        DL_APPEND(queue, t);
        t->queued = true;
    }
}

/* ---- following the endpoints ---- */

static const char *
reason_to_skip(const struct meshd_endpoint *e, const struct meshd_health_rule *r)
{
    if (e->flags & MESH_EP_NETNS && e->netns != meshd_registry_netns()) {
        return "not checked: it is inside another network namespace";
    }
    if (r->type == MESHD_HEALTH_TLS && e->mode == MESH_MODE_OFF && r->port == 0) {
        return "not checked: its mode is off";
    }
    return NULL;
}

/* Whom a program of this host would have to find there. */
static void
set_peer(struct meshd_target *t, const struct meshd_endpoint *e)
{
    const struct meshd_health_rule *r = &t->watch->rule;
    char id[MESH_ID_MAX] = "";
    if (r->type == MESHD_HEALTH_HTTP && r->port != 0 && r->port != e->addr.port) {
        (void)meshd_registry_peer_at(&t->to, id);
    } else if (r->type == MESHD_HEALTH_TLS || (r->type == MESHD_HEALTH_HTTP && e->mode != MESH_MODE_OFF)) {
        memcpy(id, t->watch->id, sizeof(id));
    }
    if (strcmp(id, t->id) != 0) {
        if (t->network) { /* which has borrowed it */
            stop(t);
            t->fresh = true;
        }
        memcpy(t->id, id, sizeof(id));
    }
}

/* As if it had just been listed. */
static void
start_over(struct meshd_target *t, const char *skipped)
{
    stop(t);
    if (meshd_target_is_unhealthy(t)) {
        publish_soon();
    }
    meshd_health_state_init(&t->state, skipped ? skipped : "", meshd_real_ns());
    t->version = t->watch->version;
    t->skipped = skipped;
    t->fresh = true;
}

/* A server that has just begun to listen need not wait for the next interval. */
static void
note_listener(struct meshd_target *t, const struct meshd_endpoint *e)
{
    if (e->cookie == 0 || e->id <= t->newest) {
        return;
    }
    t->newest = e->id;
    if (!t->fresh && !t->skipped && evtimer_pending(t->timer, NULL)) {
        arm(t->timer, 0);
    }
}

static int
on_endpoint(const struct meshd_endpoint *e, void *arg)
{
    struct meshd_watch *w = meshd_watch_find(e->service);
    uint32_t *fresh = arg;
    if (!w) {
        return 0;
    }
    struct meshd_target *t = meshd_target_find(e);
    if (!t) {
        t = meshd_target_new(e, w, on_due);
    }
    if (t) {
        note_listener(t, e);
    }
    if (!t || t->round == round_now) {
        return 0;
    }
    t->round = round_now;
    const char *skipped = reason_to_skip(e, &w->rule);
    if (t->version != w->version || t->skipped != skipped) {
        start_over(t, skipped);
    }
    t->to = meshd_target_reach(e);
    t->to.port = w->rule.port ? w->rule.port : t->to.port;
    set_peer(t, e);
    *fresh += t->fresh && !t->skipped;
    return 0;
}

static void
schedule_fresh(uint32_t n)
{
    uint32_t i = 0;
    for (struct meshd_target *t = meshd_target_first(); t; t = meshd_target_next(t)) {
        if (t->fresh && !t->skipped) {
            uint64_t even = (uint64_t)t->watch->rule.interval_ms * i / n, paced = (uint64_t)PACE_MS * i;
            arm(t->timer, even < paced ? even : paced);
            i++;
        }
        t->fresh = false;
    }
}

static void
on_sync(evutil_socket_t fd, short what, void *arg)
{
    uint32_t fresh = 0;
    struct meshd_target *t, *next;
    (void)fd;
    (void)what;
    (void)arg;
    if (meshd_watch_load() != MESH_OK) {
        log_error("health: out of memory, some services are not checked");
    }
    round_now++;
    if (meshd_watch_first()) {
        meshd_registry_visit_endpoints(on_endpoint, &fresh);
    }
    for (t = meshd_target_first(); t; t = next) {
        next = meshd_target_next(t);
        if (t->round != round_now) {
            if (meshd_target_is_unhealthy(t)) {
                publish_soon(); /* the endpoint may be there still, and its check gone */
            }
            drop(t);
        }
    }
    schedule_fresh(fresh);
    meshd_watch_sweep();
}

static void
on_publish(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    bool waits = evtimer_pending(sync_timer, NULL);
    published_ns = meshd_now_ns();
    meshd_registry_refresh();
    if (!waits) {
        event_del(sync_timer); /* it is told of every snapshot, but of this one it knows all */
    }
}

/* What waits for its long interval comes within a short one now. */
static void
on_traffic(void *arg)
{
    (void)arg;
    if (!meshd_watch_look_for_traffic()) {
        return;
    }
    for (struct meshd_target *t = meshd_target_first(); t; t = meshd_target_next(t)) {
        struct timeval due, now;
        uint32_t ms = random_below(t->watch->rule.interval_ms);
        if (t->watch->traffic && evtimer_pending(t->timer, &due)) {
            evutil_gettimeofday(&now, NULL);
            evutil_timersub(&due, &now, &due);
            if (due.tv_sec * 1000 + due.tv_usec / 1000 > (long)ms) {
                arm(t->timer, ms);
            }
        }
    }
}

/* ---- public ---- */

void
meshd_health_changed(void)
{
    if (sync_timer && !evtimer_pending(sync_timer, NULL)) {
        arm(sync_timer, SYNC_MS);
    }
}

uint8_t
meshd_health_flag(const struct meshd_endpoint *e)
{
    const struct meshd_target *t = meshd_target_find(e);
    return t && meshd_target_is_unhealthy(t) ? MESH_EP_UNHEALTHY : 0;
}

void
meshd_health_of(const struct meshd_endpoint *e, struct meshd_health_info *out)
{
    const struct meshd_target *t = meshd_target_find(e);
    *out = t ? t->state.info : (struct meshd_health_info){.is = MESHD_HEALTH_NONE};
}

const char *
meshd_health_word(enum meshd_health is)
{
    static const char *const words[] = {[MESHD_HEALTH_NONE] = "",
                                        [MESHD_HEALTH_UNKNOWN] = "unknown",
                                        [MESHD_HEALTH_HEALTHY] = "healthy",
                                        [MESHD_HEALTH_UNHEALTHY] = "unhealthy"};
    return words[is];
}

void
meshd_health_visit_services(meshd_health_visit *visit, void *arg)
{
    for (struct meshd_watch *w = meshd_watch_first(); w; w = meshd_watch_next(w)) {
        w->count.members = w->targets;
        w->count.healthy = w->targets;
    }
    for (const struct meshd_target *t = meshd_target_first(); t; t = meshd_target_next(t)) {
        t->watch->count.healthy -= meshd_target_is_unhealthy(t);
    }
    for (const struct meshd_watch *w = meshd_watch_first(); w; w = meshd_watch_next(w)) {
        if (w->current && visit(&w->count, arg) != 0) {
            return;
        }
    }
}

enum mesh_err
meshd_health_init(void)
{
    sync_timer = evtimer_new(meshd_loop(), on_sync, NULL);
    publish_timer = evtimer_new(meshd_loop(), on_publish, NULL);
    traffic_timer = meshd_timer_new(TRAFFIC_MS, on_traffic, NULL);
    if (!sync_timer || !publish_timer || !traffic_timer) {
        return MESH_E_NO_MEMORY;
    }
    enum mesh_err e = meshd_program_init(run_queue);
    meshd_health_changed();
    return e;
}

void
meshd_health_fini(void)
{
    while (meshd_target_first()) {
        drop(meshd_target_first());
    }
    meshd_program_fini();
    meshd_watch_fini();
    meshd_probe_fini();
    meshd_timer_free(traffic_timer);
    if (sync_timer) {
        event_free(sync_timer);
    }
    if (publish_timer) {
        event_free(publish_timer);
    }
    sync_timer = publish_timer = NULL;
    traffic_timer = NULL;
}
