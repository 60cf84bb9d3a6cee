/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_breaker: see breaker.h.
 */
#include "shim/flow/breaker.h"

#include "shim/core/live.h"
#include "shim/core/stat.h"

static uint32_t
limit(uint32_t configured)
{
    return configured ? configured : UINT32_MAX;
}

static void
overflow(_Atomic uint32_t *count)
{
    atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
}

/* What is not limited is counted and no more: the counts are anybody's to write. */
static bool
take(_Atomic uint32_t *count, uint32_t most)
{
    if (most == UINT32_MAX) {
        atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
        return true;
    }
    return mesh_live_take(count, most);
}

enum mesh_err
shim_breaker_enter(const struct mesh_snap_live *set)
{
    struct mesh_live_service *l = shim_live_service(set->entry);
    if (!take(&l->active, limit(set->max_connections))) {
        overflow(&l->cx_overflow);
        return MESH_E_OVERFLOW;
    }
    if (!take(&l->pending, limit(set->max_pending))) {
        mesh_live_drop(&l->active);
        overflow(&l->pending_overflow);
        return MESH_E_OVERFLOW;
    }
    return MESH_OK;
}

void
shim_breaker_cancel(const struct mesh_snap_live *set)
{
    struct mesh_live_service *l = shim_live_service(set->entry);
    mesh_live_drop(&l->active);
    mesh_live_drop(&l->pending);
}

void
shim_breaker_hold(struct shim_slot *s, const struct mesh_snap_live *set)
{
    atomic_store(&s->counted, set->entry + 1);
    atomic_fetch_or(&s->flags, SHIM_SF_PENDING);
}

/* [Envoy] the budget is of the connections that there are, connects under way included. */
static uint32_t
most_retries(const struct mesh_snap_live *set, const struct mesh_live_service *l)
{
    if (!(set->flags & MESH_LIVE_BUDGET)) {
        return limit(set->max_retries);
    }
    uint64_t active = atomic_load_explicit(&l->active, memory_order_relaxed);
    uint64_t most = active * set->budget_percent / 100;
    return most > set->budget_min_retries ? (uint32_t)most : set->budget_min_retries;
}

bool
shim_breaker_retry(struct shim_slot *s, const struct mesh_snap_live *set)
{
    struct mesh_live_service *l = shim_live_service(set->entry);
    if (shim_slot_has(s, SHIM_SF_RETRYING)) {
        return true; /* is one already */
    }
    if (!take(&l->retries, most_retries(set, l))) {
        overflow(&l->retry_overflow);
        shim_stat_err(MESH_E_RETRY_OVERFLOW);
        return false;
    }
    atomic_fetch_or(&s->flags, SHIM_SF_RETRYING);
    return true;
}

enum mesh_err
shim_breaker_move(struct shim_slot *s, const struct mesh_snap_live *set)
{
    struct mesh_live_service *l = shim_live_service(set->entry);
    uint32_t counted = atomic_load(&s->counted);
    if (counted == 0 || counted == set->entry + 1) {
        return MESH_OK;
    }
    enum mesh_err e = shim_breaker_enter(set);
    if (e != MESH_OK) {
        return e;
    }
    bool retries = shim_slot_has(s, SHIM_SF_RETRYING);
    shim_breaker_leave(s);
    shim_breaker_hold(s, set);
    if (retries) { /* it was let in as one */
        atomic_fetch_add_explicit(&l->retries, 1, memory_order_relaxed);
        atomic_fetch_or(&s->flags, SHIM_SF_RETRYING);
    }
    return MESH_OK;
}

void
shim_breaker_connected(struct shim_slot *s)
{
    const uint32_t both = SHIM_SF_PENDING | SHIM_SF_RETRYING;
    uint32_t counted = atomic_load(&s->counted);
    uint32_t was = shim_slot_has(s, both) ? atomic_fetch_and(&s->flags, ~both) : 0;
    if (counted && was & SHIM_SF_PENDING) {
        mesh_live_drop(&shim_live_service(counted - 1)->pending);
    }
    if (counted && was & SHIM_SF_RETRYING) {
        mesh_live_drop(&shim_live_service(counted - 1)->retries);
    }
}

void
shim_breaker_leave(struct shim_slot *s)
{
    shim_breaker_connected(s);
    uint32_t counted = atomic_exchange(&s->counted, 0);
    if (counted) {
        mesh_live_drop(&shim_live_service(counted - 1)->active);
    }
}
