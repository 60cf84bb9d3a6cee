/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_watch: see watch.h.
 */
#include "meshd/health/watch.h"

#include <stdlib.h>
#include <string.h>

#include "meshd/attest/attest.h"
#include "meshd/stats/stats.h"

static struct meshd_watch *all;

/* ---- a rule of our own ---- */

static void
rule_fini(struct meshd_health_rule *r)
{
    free(r->expected);
    free(r->retriable);
    free(r->command);
    r->expected = r->retriable = NULL;
    r->command = NULL;
}

static void *
copy_list(const void *from, size_t n, size_t each, bool *ok)
{
    void *to = n > 0 ? calloc(n, each) : NULL;
    if (to) {
        memcpy(to, from, n * each);
    }
    *ok &= n == 0 || to;
    return to;
}

static bool
rule_copy(struct meshd_health_rule *to, const struct meshd_health_rule *from)
{
    struct meshd_health_rule r = *from;
    bool ok = true;
    r.expected = copy_list(from->expected, from->expected_count, sizeof(*r.expected), &ok);
    r.retriable = copy_list(from->retriable, from->retriable_count, sizeof(*r.retriable), &ok);
    r.command = copy_list(from->command, from->command_count, sizeof(*r.command), &ok);
    if (!ok) {
        rule_fini(&r);
        return false;
    }
    *to = r;
    return true;
}

static bool
statuses_equal(const struct meshd_status_rule *a, size_t n, const struct meshd_status_rule *b, size_t m)
{
    bool same = n == m;
    for (size_t i = 0; same && i < n; i++) {
        same = a[i].range.from == b[i].range.from && a[i].range.to == b[i].range.to;
    }
    return same;
}

static bool
commands_equal(const struct meshd_health_rule *a, const struct meshd_health_rule *b)
{
    bool same = a->command_count == b->command_count;
    for (size_t i = 0; same && i < a->command_count; i++) {
        same = strcmp(a->command[i].text, b->command[i].text) == 0;
    }
    return same;
}

/* Where it stands in the file is of no matter. */
static bool
rules_equal(const struct meshd_health_rule *a, const struct meshd_health_rule *b)
{
    return a->type == b->type && a->interval_jitter_percent == b->interval_jitter_percent &&
           a->port == b->port && a->interval_ms == b->interval_ms && a->timeout_ms == b->timeout_ms &&
           a->no_traffic_interval_ms == b->no_traffic_interval_ms &&
           a->unhealthy_threshold == b->unhealthy_threshold &&
           a->healthy_threshold == b->healthy_threshold && strcmp(a->path, b->path) == 0 &&
           statuses_equal(a->expected, a->expected_count, b->expected, b->expected_count) &&
           statuses_equal(a->retriable, a->retriable_count, b->retriable, b->retriable_count) &&
           commands_equal(a, b);
}

/* ---- the services ---- */

struct meshd_watch *
meshd_watch_find(const char *service)
{
    struct meshd_watch *w = NULL;
    HASH_FIND_STR(all, service, w);
    return w && w->current ? w : NULL;
}

struct meshd_watch *
meshd_watch_first(void)
{
    return all;
}

struct meshd_watch *
meshd_watch_next(const struct meshd_watch *w)
{
    return w->hh.next;
}

static void
watch_free(struct meshd_watch *w)
{
    HASH_DEL(all, w);
    rule_fini(&w->rule);
    free(w);
}

static struct meshd_watch *
watch_new(const struct meshd_service_rule *s)
{
    struct meshd_watch *w = calloc(1, sizeof(*w));
    if (!w || !rule_copy(&w->rule, &s->health)) {
        free(w);
        return NULL;
    }
    memcpy(w->name, s->name, sizeof(w->name));
    w->count.name = w->name;
    HASH_ADD_STR(all, name, w);
    return w;
}

static enum mesh_err
watch_take(const struct meshd_service_rule *s)
{
    struct meshd_watch *w = NULL;
    struct meshd_health_rule fresh;
    HASH_FIND_STR(all, s->name, w);
    if (!w) {
        w = watch_new(s);
    } else if (!rules_equal(&w->rule, &s->health)) {
        if (!rule_copy(&fresh, &s->health)) {
            return MESH_E_NO_MEMORY;
        }
        rule_fini(&w->rule);
        w->rule = fresh;
        w->version++;
    }
    if (!w) {
        return MESH_E_NO_MEMORY;
    }
    w->current = true;
    return meshd_attest_id(s->name, w->id);
}

enum mesh_err
meshd_watch_load(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    enum mesh_err e = MESH_OK;
    for (struct meshd_watch *w = all; w; w = w->hh.next) {
        w->current = false;
    }
    for (size_t i = 0; e == MESH_OK && i < cfg->service_count; i++) {
        if (cfg->services[i].health.type != MESHD_CONFIG_UNSET) {
            e = watch_take(&cfg->services[i]);
        }
    }
    return e;
}

void
meshd_watch_sweep(void)
{
    struct meshd_watch *w, *tmp;
    HASH_ITER(hh, all, w, tmp)
    {
        if (!w->current && w->targets == 0) {
            watch_free(w);
        }
    }
}

void
meshd_watch_fini(void)
{
    while (all) {
        watch_free(all);
    }
}

/* ---- traffic ---- */

static int
on_connection(const struct meshd_conn *c, void *arg)
{
    bool *some = arg;
    struct meshd_watch *w = c->outbound ? meshd_watch_find(c->peer_service) : NULL;
    if (w && !w->traffic) {
        w->traffic = *some = true;
    }
    return 0;
}

bool
meshd_watch_look_for_traffic(void)
{
    bool waiting = false, some = false;
    for (const struct meshd_watch *w = all; w && !waiting; w = w->hh.next) {
        waiting = w->current && !w->traffic && w->rule.no_traffic_interval_ms != w->rule.interval_ms;
    }
    if (waiting) {
        meshd_stats_visit_active(on_connection, &some);
        meshd_stats_visit_closed(on_connection, &some);
    }
    return some;
}
