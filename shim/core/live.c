/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_live: see live.h.
 */
#include "shim/core/live.h"

#include <stddef.h>

#define OWN_ENDPOINTS 512u
#define OWN_SERVICES  64u

static struct mesh_live *_Atomic shared;
static struct {
    _Atomic uint64_t turn[OWN_SERVICES];
    struct mesh_live_service service[OWN_SERVICES];
    struct mesh_live_endpoint endpoint[OWN_ENDPOINTS];
    struct mesh_limit limit[MESH_LIMITS]; /* as many: slots have their places; untouched pages cost nothing */
} own;

static struct mesh_live *
live(void)
{
    return atomic_load_explicit(&shared, memory_order_acquire);
}

void
shim_live_share(struct mesh_live *l)
{
    atomic_store_explicit(&shared, l, memory_order_release);
}

struct mesh_live_endpoint *
shim_live_endpoint(uint32_t id)
{
    struct mesh_live *l = live();
    return l ? &l->endpoint[id % MESH_LIVE_ENDPOINTS] : &own.endpoint[id % OWN_ENDPOINTS];
}

struct mesh_live_service *
shim_live_service(uint32_t entry)
{
    struct mesh_live *l = live();
    return l ? &l->service[entry % MESH_LIVE_SERVICES] : &own.service[entry % OWN_SERVICES];
}

struct mesh_live_endpoint *
shim_live_use(uint32_t id)
{
    struct mesh_live *l = live();
    uint32_t i = id % MESH_LIVE_ENDPOINTS;
    uint64_t bit = UINT64_C(1) << i % 64;
    if (l && !(atomic_load_explicit(&l->used[i / 64], memory_order_relaxed) & bit)) {
        atomic_fetch_or_explicit(&l->used[i / 64], bit, memory_order_relaxed);
    }
    return shim_live_endpoint(id);
}

uint32_t
shim_live_active(uint32_t id)
{
    return atomic_load_explicit(&shim_live_endpoint(id)->active, memory_order_relaxed);
}

void
shim_live_enter(uint32_t id)
{
    atomic_fetch_add_explicit(&shim_live_use(id)->active, 1, memory_order_relaxed);
}

void
shim_live_leave(uint32_t id)
{
    mesh_live_drop(&shim_live_endpoint(id)->active);
}

/* The line is everybody's: not written to say what it says already. */
void
shim_live_answered(uint32_t id)
{
    struct mesh_live_endpoint *e = shim_live_endpoint(id);
    if (atomic_load_explicit(&e->failures, memory_order_relaxed)) {
        atomic_store_explicit(&e->failures, 0, memory_order_relaxed);
    }
}

void
shim_live_failed(uint32_t id)
{
    struct mesh_live_endpoint *e = shim_live_use(id);
    atomic_fetch_add_explicit(&e->failures, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&e->bad, 1, memory_order_relaxed);
}

uint64_t
shim_live_turn(const char *service)
{
    struct mesh_live *l = live();
    uint32_t h = 2166136261u; /* FNV-1a */
    for (; *service; service++) {
        h = (h ^ (uint8_t)*service) * 16777619u;
    }
    return atomic_fetch_add_explicit(l ? &l->turn[h % MESH_LIVE_TURNS] : &own.turn[h % OWN_SERVICES], 1,
                                     memory_order_relaxed);
}

struct mesh_limit *
shim_live_limits(void)
{
    struct mesh_live *l = live();
    return l ? l->limit : own.limit;
}
