/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_given: see given.h.
 */
#include "meshd/registry/given.h"

#include <stdlib.h>
#include <string.h>

#include "meshd/attest/attest.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/policy/config.h"
#include "meshd/registry/listener.h"
#include "meshd/registry/netlink.h"
#include "meshd/registry/service.h"
#include "meshd/registry/snapfile.h"

struct given {
    struct meshd_service_entry *service;
    struct mesh_addr addr;
    uint32_t id;
    uint64_t since_ns;
};

static struct given *table;
static uint32_t count;

static void
drop(struct given *at, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        meshd_service_put(at[i].service);
    }
    free(at);
}

static const struct given *
find(const struct meshd_service_entry *s, const struct mesh_addr *a)
{
    for (uint32_t i = 0; i < count; i++) {
        if (table[i].service == s && mesh_addr_eq(&table[i].addr, a)) {
            return &table[i];
        }
    }
    return NULL;
}

static bool
fill(struct given *g, const char *service, const struct mesh_addr *a)
{
    char id[MESH_ID_MAX];
    if (meshd_attest_id(service, id) != MESH_OK) {
        return false;
    }
    struct meshd_service_entry *s = meshd_service_get(service, id);
    if (!s) {
        return false;
    }
    const struct given *old = find(s, a);
    *g = (struct given){s, *a, old ? old->id : meshd_listener_next_id(),
                        old ? old->since_ns : meshd_real_ns()};
    return true;
}

enum mesh_err
meshd_given_load(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    uint32_t n = 0, at = 0;
    for (size_t i = 0; i < cfg->service_count; i++) {
        n += (uint32_t)cfg->services[i].endpoint_count;
    }
    struct given *fresh = calloc(n + 1u, sizeof(*fresh));
    for (size_t i = 0; fresh && i < cfg->service_count; i++) {
        const struct meshd_service_rule *r = &cfg->services[i];
        for (size_t k = 0; k < r->endpoint_count; k++, at++) {
            if (!fill(&fresh[at], r->name, &r->endpoints[k].addr)) {
                drop(fresh, at);
                return MESH_E_NO_MEMORY;
            }
        }
    }
    if (!fresh) {
        return MESH_E_NO_MEMORY;
    }
    drop(table, count);
    table = fresh;
    count = n;
    return MESH_OK;
}

void
meshd_given_fini(void)
{
    drop(table, count);
    table = NULL;
    count = 0;
}

uint32_t
meshd_given_count(void)
{
    return count;
}

static struct meshd_endpoint
describe(const struct given *g)
{
    return (struct meshd_endpoint){
        .id = g->id,
        .addr = g->addr,
        .flags = mesh_addr_is_loopback(&g->addr) ? MESH_EP_NETNS : 0,
        .mode = meshd_config_mode(meshd_config_current(), g->service->name, g->addr.port),
        .service = g->service->name,
        .netns = meshd_netlink_own(),
        .since_ns = g->since_ns,
    };
}

void
meshd_given_write(void)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct meshd_endpoint d = describe(&table[i]);
        struct mesh_snap_endpoint e = {.port = d.addr.port, .flags = d.flags,
                                       .mode = (uint8_t)d.mode, .netns = d.netns, .id = d.id,
                                       .service = table[i].service->index};
        memcpy(e.addr, d.addr.ip, 16);
        meshd_snapfile_endpoint(&e);
    }
}

int
meshd_given_visit(meshd_endpoint_visit *visit, void *arg)
{
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < count; i++) {
        const struct meshd_endpoint d = describe(&table[i]);
        r = visit(&d, arg);
    }
    return r;
}
