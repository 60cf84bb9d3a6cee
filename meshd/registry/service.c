/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_service: see service.h.
 */
#include "meshd/registry/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/live.h"
#include "meshd/policy/config.h"
#include "meshd/registry/limits.h"
#include "meshd/registry/snapfile.h"
#include "meshd/stats/stats.h"

static struct meshd_service_entry *services;
static uint64_t changes;
static uint32_t next_live;
static bool any_outlier;

struct meshd_service_entry *
meshd_service_find(const char *name)
{
    struct meshd_service_entry *s = NULL;
    HASH_FIND_STR(services, name, s);
    return s;
}

struct meshd_service_entry *
meshd_service_get(const char *name, const char *id)
{
    struct meshd_service_entry *s = meshd_service_find(name);
    if (!s) {
        s = calloc(1, sizeof(*s));
        if (!s) {
            return NULL;
        }
        snprintf(s->name, sizeof(s->name), "%s", name);
        snprintf(s->id, sizeof(s->id), "%s", id);
        s->live = next_live++ % MESH_LIVE_SERVICES;
        HASH_ADD_STR(services, name, s);
        meshd_stats_learn(s->name);
        changes++;
    }
    s->uses++;
    return s;
}

const struct meshd_service_rule *
meshd_service_rule(struct meshd_service_entry *s)
{
    const struct meshd_config *cfg = meshd_config_current();
    if (s->serial != cfg->serial) {
        s->serial = cfg->serial;
        s->configured = meshd_config_service(cfg, s->name);
    }
    return s->configured;
}

void
meshd_service_put(struct meshd_service_entry *s)
{
    if (--s->uses == 0) {
        HASH_DEL(services, s);
        changes++;
        free(s);
    }
}

bool
meshd_service_any_outlier(void)
{
    return any_outlier;
}

uint32_t
meshd_service_count(void)
{
    return HASH_COUNT(services);
}

struct meshd_service_entry *
meshd_service_first(void)
{
    return services;
}

uint64_t
meshd_service_changes(void)
{
    return changes;
}

static int
by_name(struct meshd_service_entry *a, struct meshd_service_entry *b)
{
    return strcmp(a->name, b->name);
}

void
meshd_service_visit_all(meshd_service_visit *visit, void *arg)
{
    const struct meshd_config *cfg = meshd_config_current();
    HASH_SORT(services, by_name);
    for (struct meshd_service_entry *e = services; e; e = e->hh.next) {
        struct meshd_service s = {
            .mode = meshd_config_mode(cfg, e->name, 0),
            .strict_close = meshd_config_strict_close(cfg, e->name),
            .endpoints = e->uses - e->addresses - e->named,
            .vaddr = e->has_vaddr ? &e->vaddr : NULL,
            .rule = meshd_config_service(cfg, e->name),
        };
        memcpy(s.name, e->name, sizeof(s.name));
        memcpy(s.id, e->id, sizeof(s.id));
        if (visit(&s, arg) != 0) {
            return;
        }
    }
}

static struct mesh_snap_live
live_settings(const struct meshd_service_entry *s)
{
    const struct meshd_live_rule *r = &s->rule;
    return (struct mesh_snap_live){
        .entry = s->live,
        .flags = (uint8_t)((r->outlier_enabled == 1 ? MESH_LIVE_OUTLIER : 0) |
                           (r->budget_enabled == 1 ? MESH_LIVE_BUDGET : 0)),
        .max_ejection_percent = r->max_ejection_percent,
        .consecutive_5xx = r->consecutive_5xx,
        .base_ejection_ms = r->base_ejection_ms,
        .max_ejection_ms = r->max_ejection_ms,
        .jitter_ms = r->jitter_ms,
        .max_connections = r->max_connections,
        .max_pending = r->max_pending,
        .max_retries = r->max_retries,
        .host_max_connections = r->host_max_connections,
        .budget_percent = r->budget_percent,
        .budget_min_retries = r->budget_min_retries,
        .slow_start_ms = r->slow_start_enabled == 1 ? r->slow_start_ms : 0,
        .slow_start_aggression = r->slow_start_aggression,
        .slow_start_percent = r->slow_start_percent,
    };
}

static struct mesh_snap_hash
hash_policy(const struct meshd_service_rule *r)
{
    struct mesh_snap_hash out = {.balance_factor = r ? r->hash.balance_factor : 0};
    for (size_t i = 0; r && i < r->hash.term_count && i < MESH_HASH_TERMS; i++) {
        out.term[i] = (uint8_t)(r->hash.terms[i].field + 1);
        out.terminal = (uint8_t)(out.terminal | r->hash.terms[i].terminal << i);
    }
    return out;
}

void
meshd_service_write(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    any_outlier = false;
    for (struct meshd_service_entry *s = services; s; s = s->hh.next) {
        const struct meshd_service_rule *rule = meshd_service_rule(s);
        s->rule = rule ? rule->live : (struct meshd_live_rule){0};
        s->set = live_settings(s);
        any_outlier |= (s->set.flags & MESH_LIVE_OUTLIER) != 0;
        struct mesh_snap_service out = {
            .live = s->set,
            .load_balancer = rule ? rule->load_balancer : MESH_LB_LEAST_REQUEST,
            .max_attempts = rule ? rule->max_connect_attempts : 1,
            .connect_timeout_ms = rule ? rule->connect_timeout_ms : 0,
            .panic_threshold = rule ? rule->panic_threshold : 0,
            .mode = (uint8_t)meshd_config_rule_mode(cfg, rule, 0),
            .strict_close = meshd_config_strict_close(cfg, s->name),
            .limits = meshd_limits_write(rule),
            .hash = hash_policy(rule),
        };
        memcpy(out.name, s->name, sizeof(out.name));
        memcpy(out.id, s->id, sizeof(out.id));
        s->index = meshd_snapfile_add(MESH_SNAP_SERVICES, &out);
    }
}

uint32_t
meshd_service_index(const char *name)
{
    struct meshd_service_entry *s = NULL;
    HASH_FIND_STR(services, name, s);
    return s ? s->index : MESH_SNAP_NONE;
}
