/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_dns: see dns.h.
 *
 *   waiting --time--> asking --done--> waiting
 *
 * for each service; a new configuration ends a round and begins the next.
 */
#include "meshd/discovery/dns.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/discovery/answer.h"
#include "meshd/discovery/resolver.h"
#include "meshd/policy/config.h"
#include "meshd/registry/registry.h"
#include "meshd/registry/source.h"

struct lookup {
    char service[MESH_SERVICE_MAX];
    struct meshd_dns_rule rule; /* resolvers: ours */
    struct meshd_answer answer;
    struct meshd_round *round; /* NULL while waiting */
    struct event *timer;
    uint64_t resolutions, failures;
    uint64_t good_ns; /* monotonic; 0: never */
    char failure[160];
    bool wanted; /* during a reload: the new configuration has it */
    UT_hash_handle hh;
};

static struct lookup *lookups;
static struct meshd_source source = {.rank = MESHD_RANK_DNS};

/* ---- to the registry ---- */

static enum mesh_err
stage(const struct lookup *l)
{
    const struct meshd_answer *a = &l->answer;
    struct meshd_endpoint_rule *list = calloc(a->count + 1, sizeof(*list));
    if (!list) {
        return MESH_E_NO_MEMORY;
    }
    for (size_t i = 0; i < a->count; i++) {
        list[i] = (struct meshd_endpoint_rule){.addr = a->at[i].addr, .weight = a->at[i].weight,
                                               .priority = a->at[i].priority};
        snprintf(list[i].at.file, sizeof(list[i].at.file), "dns:%.*s", MESHD_CONFIG_DNS_MAX - 6,
                 l->rule.name);
    }
    enum mesh_err e = meshd_source_stage(&source, l->service, list, a->count);
    free(list);
    return e;
}

static void
deliver(const struct lookup *l)
{
    enum mesh_err e = stage(l);
    e = e == MESH_OK ? meshd_source_commit(&source, false) : e;
    if (e != MESH_OK) {
        log_error("dns: %zu endpoints of %s are left out: %s", l->answer.count, l->service,
                  mesh_err_text(e));
        return;
    }
    meshd_registry_changed();
}

/* ---- rounds ---- */

/* Up to a tenth later: names with the same TTL do not stay in step, nor do hosts. */
static void
wait_ms(struct lookup *l, uint32_t ms)
{
    uint32_t more = (uint32_t)((uint64_t)random() * (ms / 10) / RAND_MAX);
    uint32_t all = ms + more;
    const struct timeval tv = {all / 1000, (long)(all % 1000) * 1000};
    if (event_add(l->timer, &tv) != 0) {
        log_error("dns: %s will not be asked for again: out of memory", l->rule.name);
    }
}

/* The first line of a row of failures, and its end. */
static void
say(struct lookup *l, bool failed, const char *what, const char *why)
{
    bool was = l->failure[0];
    if (failed && !was) {
        log_warn("dns: %s of %s: %s%s%s; its %zu endpoints stay", l->rule.name, l->service, what,
                 *why ? ": " : "", why, l->answer.count);
    } else if (!failed && was && l->answer.count > 0) {
        log_info("dns: %s of %s: answers again", l->rule.name, l->service);
    }
    snprintf(l->failure, sizeof(l->failure), "%s", failed ? (*why ? why : what) : "");
}

static void
on_done(const struct meshd_reply *reply, const char *why, void *arg)
{
    struct lookup *l = arg;
    enum meshd_verdict v = meshd_answer_take(&l->answer, reply);
    bool failed = v == MESHD_VERDICT_FAILED || v == MESHD_VERDICT_PARTLY;
    l->resolutions++;
    l->failures += failed;
    say(l, v != MESHD_VERDICT_TAKEN,
        v == MESHD_VERDICT_DOUBTED  ? "has no addresses any more, asked again"
        : v == MESHD_VERDICT_PARTLY ? "some targets failed"
                                    : "failed", why);
    if (v == MESHD_VERDICT_TAKEN) {
        l->good_ns = meshd_now_ns();
    }
    if (v == MESHD_VERDICT_TAKEN || v == MESHD_VERDICT_PARTLY) {
        deliver(l);
    }
    wait_ms(l, meshd_answer_wait_ms(v, reply, l->rule.refresh_ms));
    struct meshd_round *round = l->round;
    l->round = NULL;
    meshd_round_free(round); /* the reply is its own */
}

static void
ask(struct lookup *l)
{
    meshd_round_free(l->round);
    event_del(l->timer);
    l->round = meshd_round_new(&l->rule, on_done, l);
    if (!l->round) {
        l->resolutions++;
        l->failures++;
        say(l, true, "cannot be asked for", "");
        wait_ms(l, l->rule.refresh_ms);
    }
}

static void
on_time(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    ask(arg);
}

/* ---- configuration ---- */

static bool
is_same(const struct meshd_dns_rule *a, const struct meshd_dns_rule *b)
{
    bool same = strcasecmp(a->name, b->name) == 0 && a->type == b->type && a->port == b->port &&
                a->refresh_ms == b->refresh_ms && a->resolver_count == b->resolver_count;
    for (size_t i = 0; same && i < a->resolver_count; i++) {
        same = mesh_addr_eq(&a->resolvers[i].addr, &b->resolvers[i].addr);
    }
    return same;
}

static bool
set_rule(struct lookup *l, const struct meshd_dns_rule *rule)
{
    size_t size = rule->resolver_count * sizeof(*rule->resolvers);
    struct meshd_address_rule *copy = malloc(size + 1);
    if (!copy) {
        return false;
    }
    if (size) {
        memcpy(copy, rule->resolvers, size);
    }
    free(l->rule.resolvers);
    l->rule = *rule;
    l->rule.resolvers = copy;
    return true;
}

static void
lookup_free(struct lookup *l)
{
    HASH_DEL(lookups, l);
    meshd_round_free(l->round);
    if (l->timer) {
        event_free(l->timer);
    }
    meshd_answer_fini(&l->answer);
    free(l->rule.resolvers);
    free(l);
}

static int
on_recalled(const struct meshd_endpoint_rule *r, void *arg)
{
    struct meshd_answer *a = arg;
    struct meshd_found *more = realloc(a->at, (a->count + 1) * sizeof(*more));
    if (!more) {
        return 1;
    }
    a->at = more;
    a->at[a->count++] =
        (struct meshd_found){.addr = r->addr, .weight = r->weight, .priority = r->priority};
    return 0;
}

static struct lookup *
lookup_new(const char *service)
{
    struct lookup *l = calloc(1, sizeof(*l));
    if (!l) {
        return NULL;
    }
    snprintf(l->service, sizeof(l->service), "%s", service);
    HASH_ADD_STR(lookups, service, l);
    meshd_source_recall(&source, service, on_recalled, &l->answer);
    l->timer = event_new(meshd_loop(), -1, 0, on_time, l);
    if (!l->timer) {
        lookup_free(l);
        return NULL;
    }
    return l;
}

static enum mesh_err
want(const struct meshd_service_rule *s)
{
    struct lookup *l = NULL;
    HASH_FIND_STR(lookups, s->name, l);
    if (l && is_same(&l->rule, &s->dns)) {
        l->wanted = true;
        return MESH_OK;
    }
    if (!l) {
        l = lookup_new(s->name);
    }
    if (!l || !set_rule(l, &s->dns)) {
        return MESH_E_NO_MEMORY;
    }
    l->wanted = true;
    ask(l);
    return MESH_OK;
}

/* What nobody asks for any more goes with the commit of all that is there. */
static enum mesh_err
drop_unwanted(void)
{
    struct lookup *l, *next;
    HASH_ITER(hh, lookups, l, next) {
        if (!l->wanted) {
            lookup_free(l);
        }
    }
    for (l = lookups; l; l = l->hh.next) {
        enum mesh_err e = stage(l);
        if (e != MESH_OK) {
            meshd_source_abort(&source);
            return e;
        }
    }
    return meshd_source_commit(&source, true);
}

enum mesh_err
meshd_dns_reload(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    enum mesh_err e = MESH_OK;
    for (struct lookup *l = lookups; l; l = l->hh.next) {
        l->wanted = false;
    }
    for (size_t i = 0; e == MESH_OK && i < cfg->service_count; i++) {
        e = cfg->services[i].dns.name[0] ? want(&cfg->services[i]) : MESH_OK;
    }
    return e == MESH_OK ? drop_unwanted() : e;
}

enum mesh_err
meshd_dns_init(void)
{
    enum mesh_err e = meshd_resolver_init();
    e = e == MESH_OK ? meshd_dns_reload() : e;
    meshd_registry_changed();
    return e;
}

void
meshd_dns_fini(void)
{
    struct lookup *l, *next;
    HASH_ITER(hh, lookups, l, next) {
        lookup_free(l);
    }
    meshd_source_abort(&source);
    meshd_resolver_fini();
}

static bool
all_asked(void)
{
    for (const struct lookup *l = lookups; l; l = l->hh.next) {
        if (l->resolutions == 0) {
            return false;
        }
    }
    return true;
}

static void
on_patience(void *arg)
{
    *(bool *)arg = true;
}

bool
meshd_dns_await(uint32_t ms)
{
    bool late = all_asked(), stop = false;
    struct meshd_timer *patience = late ? NULL : meshd_timer_new(ms, on_patience, &late);
    while (patience && !late && !stop && !all_asked()) {
        event_base_loop(meshd_loop(), EVLOOP_ONCE);
        stop = event_base_got_exit(meshd_loop());
    }
    meshd_timer_free(patience);
    return !stop;
}

void
meshd_dns_visit(meshd_dns_visit_fn *visit, void *arg)
{
    uint64_t now = meshd_now_ns();
    int r = 0;
    for (const struct lookup *l = lookups; l && r == 0; l = l->hh.next) {
        const struct meshd_dns_info i = {
            .service = l->service,
            .name = l->rule.name,
            .failure = l->failure,
            .endpoints = (uint32_t)l->answer.count,
            .resolutions = l->resolutions,
            .failures = l->failures,
            .age_s = l->good_ns ? (double)((now - l->good_ns) / 1000000) / 1e3 : -1,
        };
        r = visit(&i, arg);
    }
}
