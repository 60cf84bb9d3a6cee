/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_router: see router.h. What the reader sees is flat: a rule without conditions stands for the
 * service's own split and for redirect, and targets are services behind all their redirects.
 */
#include "meshd/registry/router.h"

#include <stdio.h>
#include <string.h>

#include "common/limits.h"
#include "meshd/policy/config.h"
#include "meshd/registry/registry.h"
#include "meshd/registry/service.h"
#include "meshd/registry/snapfile.h"
#include "meshd/stats/stats.h"

static uint32_t
subset_number(const struct meshd_service_rule *s, const char *name)
{
    for (size_t i = 0; s && name[0] && i < s->subset_count; i++) {
        if (strcmp(s->subsets[i].name, name) == 0) {
            return (uint32_t)i + 1;
        }
    }
    return 0;
}

static void
write_target(const struct meshd_service_rule *s, const struct meshd_target_rule *t, uint32_t upto)
{
    const struct meshd_config *cfg = meshd_config_current();
    const char *name = meshd_config_target(cfg, s, t);
    struct mesh_snap_target out = {
        .service = meshd_service_index(name),
        .subset = t ? subset_number(meshd_config_service(cfg, name), t->subset) : 0,
        .upto = upto,
    };
    (void)meshd_snapfile_add(MESH_SNAP_TARGETS, &out);
}

static struct mesh_snap_part
write_split(const struct meshd_service_rule *s, const struct meshd_target_rule *t, size_t count)
{
    struct mesh_snap_part p = {meshd_snapfile_count(MESH_SNAP_TARGETS), (uint32_t)count};
    uint32_t upto = 0;
    for (size_t i = 0; i < count; i++) {
        upto += t[i].weight;
        write_target(s, &t[i], upto);
    }
    return p;
}

static struct mesh_snap_route
conditions(const struct meshd_route_rule *r)
{
    struct mesh_snap_route out = {.uid = MESH_SNAP_NONE, .port = r->port, .prefix = r->address.prefix};
    memcpy(out.source, r->source, sizeof(out.source));
    memcpy(out.unit, r->unit, sizeof(out.unit));
    memcpy(out.net, r->address.ip, sizeof(out.net));
    if (r->uid >= 0 || r->user[0]) {
        out.uid = (uint32_t)(r->user[0] ? r->user_id : r->uid);
    }
    return out;
}

/* A user that this host does not have, or not that user id: no client can be both. */
static bool
is_met_by_nobody(const struct meshd_route_rule *r)
{
    return r->user[0] && (r->user_id < 0 || (r->uid >= 0 && r->uid != r->user_id));
}

/* What the access log calls a rule of the service; in pages and the snapshot it is its hash. */
static uint64_t
name_of(const struct meshd_service_rule *s, const char *what)
{
    char text[2 * MESH_SERVICE_MAX];
    snprintf(text, sizeof(text), "%s/%s", s->name, what);
    meshd_stats_learn(text);
    return mesh_limit_hash(text);
}

static uint64_t
name_of_route(const struct meshd_service_rule *s, size_t i)
{
    char number[24];
    snprintf(number, sizeof(number), "%zu", i + 1);
    if (s->routes[i].name[0]) {
        meshd_stats_learn(s->routes[i].name);
        return mesh_limit_hash(s->routes[i].name);
    }
    return name_of(s, number);
}

static void
write_routes(const struct meshd_service_rule *s, struct mesh_snap_service *out)
{
    out->routes.first = meshd_snapfile_count(MESH_SNAP_ROUTES);
    for (size_t i = 0; i < s->route_count; i++) {
        struct mesh_snap_route r = conditions(&s->routes[i]);
        if (is_met_by_nobody(&s->routes[i])) {
            continue;
        }
        r.targets = write_split(s, s->routes[i].split, s->routes[i].split_count);
        r.name = name_of_route(s, i);
        (void)meshd_snapfile_add(MESH_SNAP_ROUTES, &r);
    }
    struct mesh_snap_route rest = {.uid = MESH_SNAP_NONE};
    if (s->split_count) {
        rest.targets = write_split(s, s->split, s->split_count);
        rest.name = name_of(s, "split");
        (void)meshd_snapfile_add(MESH_SNAP_ROUTES, &rest);
    } else if (s->redirect[0]) {
        rest.targets = (struct mesh_snap_part){meshd_snapfile_count(MESH_SNAP_TARGETS), 1};
        write_target(s, NULL, 1);
        rest.name = name_of(s, "redirect");
        (void)meshd_snapfile_add(MESH_SNAP_ROUTES, &rest);
    }
    out->routes.count = meshd_snapfile_count(MESH_SNAP_ROUTES) - out->routes.first;
}

/* As write_routes counts them. */
void
meshd_registry_route_origin(const char *service, uint32_t rule, char *out, size_t cap)
{
    const struct meshd_service_rule *s = meshd_config_service(meshd_config_current(), service);
    const struct meshd_origin *at = NULL;
    uint32_t n = 0;
    for (size_t i = 0; s && i < s->route_count && !at; i++) {
        if (!is_met_by_nobody(&s->routes[i]) && n++ == rule) {
            at = &s->routes[i].at;
        }
    }
    if (s && !at && n == rule) {
        at = s->split_count ? &s->split[0].at : s->redirect[0] ? &s->at : NULL;
    }
    out[0] = '\0';
    if (at) {
        snprintf(out, cap, "%s:%u", at->file, at->line);
    }
}

static void
write_nets(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    for (size_t i = 0; i < cfg->egress_allow_count; i++) {
        const struct meshd_net_rule *r = &cfg->egress_allow[i];
        if (r->host[0]) {
            struct mesh_snap_host h = {.port = r->port, .prefix = r->net.prefix};
            memcpy(h.net, r->net.ip, sizeof(h.net));
            memcpy(h.pattern, r->host, sizeof(h.pattern));
            (void)meshd_snapfile_add(MESH_SNAP_HOSTS, &h);
            continue;
        }
        struct mesh_snap_net n = {.port = r->port, .prefix = r->net.prefix};
        memcpy(n.net, r->net.ip, sizeof(n.net));
        (void)meshd_snapfile_add(MESH_SNAP_NETS, &n);
    }
}

void
meshd_router_write(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    for (uint32_t i = 0; i < meshd_snapfile_count(MESH_SNAP_SERVICES); i++) {
        struct mesh_snap_service s;
        meshd_snapfile_get(MESH_SNAP_SERVICES, i, &s);
        const struct meshd_service_rule *rule = meshd_config_service(cfg, s.name);
        if (rule) {
            write_routes(rule, &s);
            s.failover = write_split(rule, rule->failover, rule->failover_count);
            meshd_snapfile_put(MESH_SNAP_SERVICES, i, &s);
        }
    }
    write_nets();
}
