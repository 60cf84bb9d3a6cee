/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_front: see front.h.
 */
#include "meshd/registry/front.h"

#include <stdlib.h>
#include <string.h>

#include "meshd/attest/attest.h"
#include "meshd/policy/config.h"
#include "meshd/registry/netlink.h"
#include "meshd/registry/service.h"
#include "meshd/registry/snapfile.h"

struct front {
    struct meshd_service_entry *service;
    struct mesh_addr addr;
};

static struct front *table;
static uint32_t count;

/* Services that another one's rules lead to; as if they had addresses. */
static struct meshd_service_entry **targets;
static uint32_t target_count;

static struct meshd_service_entry *
hold(const char *service)
{
    char id[MESH_ID_MAX];
    struct meshd_service_entry *s =
        meshd_attest_id(service, id) == MESH_OK ? meshd_service_get(service, id) : NULL;
    if (s) {
        s->addresses++;
    }
    return s;
}

static void
let_go(struct meshd_service_entry *s)
{
    s->addresses--;
    meshd_service_put(s);
}

static void
drop(struct front *at, uint32_t n, struct meshd_service_entry **to, uint32_t m)
{
    for (uint32_t i = 0; i < n; i++) {
        let_go(at[i].service);
    }
    for (uint32_t i = 0; i < m; i++) {
        let_go(to[i]);
    }
    free(at);
    free(to);
}

void
meshd_front_each_target(const struct meshd_service_rule *r, void (*visit)(const char *, void *), void *arg)
{
    const struct meshd_config *cfg = meshd_config_current();
    const struct meshd_target_rule *lists[2] = {r->split, r->failover};
    const size_t counts[2] = {r->split_count, r->failover_count};
    if (r->redirect[0]) {
        visit(meshd_config_target(cfg, r, NULL), arg);
    }
    for (unsigned k = 0; k < 2; k++) {
        for (size_t i = 0; i < counts[k]; i++) {
            visit(meshd_config_target(cfg, r, &lists[k][i]), arg);
        }
    }
    for (size_t i = 0; i < r->route_count; i++) {
        for (size_t k = 0; k < r->routes[i].split_count; k++) {
            visit(meshd_config_target(cfg, r, &r->routes[i].split[k]), arg);
        }
    }
}

struct fresh {
    struct front *at;
    struct meshd_service_entry **to;
    uint32_t n, m, most;
    bool failed;
};

static void
count_target(const char *service, void *arg)
{
    (void)service;
    ((struct fresh *)arg)->most++;
}

static void
hold_target(const char *service, void *arg)
{
    struct fresh *f = arg;
    struct meshd_service_entry *s = f->failed ? NULL : hold(service);
    f->failed = !s;
    if (s) {
        f->to[f->m++] = s;
    }
}

static void
fill(struct fresh *f, const struct meshd_service_rule *r)
{
    for (size_t k = 0; k < r->address_count && !f->failed; k++) {
        struct meshd_service_entry *s = hold(r->name);
        f->failed = !s;
        if (s) {
            f->at[f->n++] = (struct front){s, r->addresses[k].addr};
        }
    }
    meshd_front_each_target(r, hold_target, f);
}

enum mesh_err
meshd_front_load(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    struct fresh f = {0};
    size_t n = 0;
    for (size_t i = 0; i < cfg->service_count; i++) {
        n += cfg->services[i].address_count;
        meshd_front_each_target(&cfg->services[i], count_target, &f);
    }
    f.at = calloc(n + 1u, sizeof(*f.at));
    f.to = calloc(f.most + 1u, sizeof(*f.to));
    f.failed = !f.at || !f.to;
    for (size_t i = 0; i < cfg->service_count && !f.failed; i++) {
        fill(&f, &cfg->services[i]);
    }
    if (f.failed) {
        drop(f.at, f.n, f.to, f.m);
        return MESH_E_NO_MEMORY;
    }
    drop(table, count, targets, target_count);
    table = f.at;
    count = f.n;
    targets = f.to;
    target_count = f.m;
    return MESH_OK;
}

void
meshd_front_fini(void)
{
    drop(table, count, targets, target_count);
    table = NULL;
    targets = NULL;
    count = target_count = 0;
}

uint32_t
meshd_front_count(void)
{
    return count;
}

void
meshd_front_write(void)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct mesh_addr *a = &table[i].addr;
        struct mesh_snap_endpoint e = {
            .port = a->port,
            .flags = MESH_EP_SERVICE | (mesh_addr_is_loopback(a) ? MESH_EP_NETNS : 0),
            .mode = MESH_MODE_STRICT,
            .netns = meshd_netlink_own(),
            .service = table[i].service->index,
        };
        memcpy(e.addr, a->ip, 16);
        (void)meshd_snapfile_endpoint(&e);
    }
}
