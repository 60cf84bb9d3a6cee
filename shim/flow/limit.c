/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_limit: see limit.h.
 */
#include "shim/flow/limit.h"

#include <string.h>

#include "common/limits.h"
#include "shim/core/live.h"
#include "shim/core/stat.h"
#include "shim/flow/age.h"
#include "shim/flow/hs_int.h"
#include "shim/flow/retry.h"
#include "shim/flow/sockopt.h"
#include "shim/link/link.h"
#include "shim/real.h"

void
shim_limit_client(const struct mesh_snap_hit *hit, uint16_t port, struct shim_faults *out)
{
    struct mesh_snap_limits l;
    shim_fault_none(out);
    if (hit->service.limits == 0) {
        return; /* nearly always; without asking the kernel for the snapshot */
    }
    shim_link_live(hit->live);
    struct mesh_snap snap = shim_link_snapshot();
    if (mesh_snap_limits(&snap, &hit->service, &l)) {
        shim_fault_draw(&l, shim_link_id(), port, out);
    }
}

void
shim_limit_note(const struct mesh_snap_service *service, struct shim_limit_of *out)
{
    out->limits = service->limits;
    if (out->limits) {
        memcpy(out->service, service->name, sizeof(out->service));
    }
}

void
shim_limit_server(const struct mesh_snap_service *service, struct shim_limit_of *out)
{
    struct mesh_snap_settings set;
    shim_limit_note(service, out);
    if (out->limits) {
        struct mesh_snap snap = shim_link_snapshot();
        mesh_snap_settings(&snap, &set);
        shim_link_live(set.live);
    }
}

static bool
limits_of(const struct shim_limit_of *of, struct mesh_snap_limits *out)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_service s = {.limits = of->limits};
    memcpy(s.name, of->service, sizeof(s.name));
    return mesh_snap_limits(&snap, &s, out);
}

/* From now on it is one of those among which the service's bandwidth is divided, on this side. */
static void
enter_share(struct shim_slot *s, const char *service, uint64_t rate)
{
    const char *side = shim_slot_has(s, SHIM_SF_SERVER) ? MESH_LIMIT_ACCEPTED : MESH_LIMIT_OPENED;
    uint32_t i = mesh_limit_at(shim_live_limits(), mesh_limit_key(service, side), shim_now());
    struct mesh_limit *l = &shim_live_limits()[i];
    atomic_store_explicit(&l->rate, (uint32_t)rate, memory_order_relaxed);
    (void)mesh_limit_enter(l, 0);
    s->share = (uint16_t)(i + 1);
}

void
shim_limit_opened(struct shim_work *w)
{
    struct mesh_snap_limits l;
    if (w->limit.limits && limits_of(&w->limit, &l)) {
        if (l.service_bandwidth && shim_hs_slot(w)->share == 0) {
            enter_share(shim_hs_slot(w), w->limit.service, l.service_bandwidth);
        }
        shim_sockopt_open(w->fd, shim_hs_slot(w), &l);
        if (!w->owned) {
            shim_age_open(w->fd, shim_hs_slot(w), &l);
        }
    }
}

static void
leave(uint16_t *at)
{
    uint32_t i = __atomic_exchange_n(at, 0, __ATOMIC_RELAXED);
    if (i > 0 && i <= MESH_LIMITS) {
        mesh_limit_leave(&shim_live_limits()[i - 1]);
    }
}

void
shim_limit_leave(struct shim_slot *s)
{
    leave(&s->limit_caller);
    leave(&s->limit_all);
    leave(&s->share);
}

static bool
enter(uint16_t *at, uint32_t i, uint32_t max)
{
    if (!mesh_limit_enter(&shim_live_limits()[i], max)) {
        return false;
    }
    *at = (uint16_t)(i + 1);
    return true;
}

/* What was counted before the limit that refuses is taken back by shim_limit_leave. */
static enum mesh_err
count(struct shim_slot *s, const struct mesh_snap_limits *l, uint32_t caller, uint32_t all)
{
    const struct mesh_rate rate = {l->max_tokens, l->tokens_per_fill, l->fill_interval_ms};
    if (!enter(&s->limit_all, all, l->max_connections) ||
        !enter(&s->limit_caller, caller, l->max_connections_per_caller)) {
        return MESH_E_INBOUND_OVERFLOW;
    }
    return mesh_limit_take(&shim_live_limits()[caller], &rate, shim_now()) ? MESH_OK : MESH_E_RATE_LIMITED;
}

enum mesh_err
shim_limit_admit(struct shim_work *w, const char *id)
{
    static const struct mesh_snap_limits none;
    struct shim_slot *s = shim_hs_slot(w);
    struct mesh_limit *table = shim_live_limits();
    struct mesh_snap_limits l;
    uint64_t now = shim_now();
    if (w->limit.limits == 0 || !limits_of(&w->limit, &l)) {
        return MESH_OK;
    }
    uint32_t caller = mesh_limit_at(table, mesh_limit_key(w->limit.service, id), now);
    uint32_t all = mesh_limit_at(table, mesh_limit_key(w->limit.service, ""), now);
    enum mesh_err e = count(s, &l, caller, all);
    if (e != MESH_OK) {
        shim_limit_leave(s);
    }
    if (e != MESH_OK && l.shadow) {
        shim_stat_add(MESH_STAT_LIMITS_SHADOW, 1);
        e = count(s, &none, caller, all);
    }
    return e;
}

bool
shim_limit_by_caller(const struct shim_limit_of *of)
{
    struct mesh_snap_limits l;
    return of->limits && limits_of(of, &l) && !l.shadow && (l.max_connections_per_caller || l.max_tokens);
}

static bool
is_full(const struct shim_limit_of *of)
{
    struct mesh_snap_limits l;
    if (of->limits == 0 || !limits_of(of, &l) || l.max_connections == 0 || l.shadow) {
        return false;
    }
    uint32_t i = mesh_limit_find(shim_live_limits(), mesh_limit_key(of->service, ""));
    return i < MESH_LIMITS &&
           atomic_load_explicit(&shim_live_limits()[i].active, memory_order_relaxed) >= l.max_connections;
}

bool
shim_limit_turns_away(struct shim_work *w, enum mesh_mode mode)
{
    uint8_t b = 0;
    if (!is_full(&w->limit) ||
        (mode != MESH_MODE_STRICT && (sys_recv(w->fd, &b, 1, MSG_PEEK | MSG_DONTWAIT) != 1 || b != 22))) {
        return false;
    }
    shim_retry_disconnect(w->fd);
    (void)shim_hs_fail(w, MESH_E_INBOUND_OVERFLOW, 0);
    return true;
}

bool
shim_limit_refused(const struct shim_slot *s)
{
    uint32_t e = atomic_load(&s->err);
    return shim_slot_phase(s) == SHIM_PHASE_FAILED && (e == MESH_E_RATE_LIMITED || e == MESH_E_INBOUND_OVERFLOW);
}
