/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_outlier: see outlier.h.
 */
#include "shim/route/outlier.h"

#include "common/ewma.h"
#include "common/fixed.h"
#include "common/outlier.h"
#include "shim/core/live.h"
#include "shim/core/rand.h"
#include "shim/real.h"

#define MS         UINT64_C(1000000)
#define ROUNDS     8u    /* of a choice whose endpoint others probe each time */
#define LEASE_MS   1000u /* beyond the time that a connect may take */
#define PENALTY_MS 5000u /* what a failure counts as, at least: failing fast is not being fast */

static uint64_t
clock_ms(struct shim_outlier *o)
{
    if (o->now_ms == 0) {
        o->now_ms = shim_now() / MS;
    }
    return o->now_ms;
}

/* Its share of its weight by now, of MESH_FIXED_ONE. */
static uint32_t
warmth(struct shim_outlier *o, const struct mesh_snap_live *set, const struct mesh_live_endpoint *e)
{
    uint64_t since = atomic_load_explicit(&e->since_ms, memory_order_relaxed), now = clock_ms(o);
    uint64_t age = now > since ? now - since : 0;
    uint32_t least = (uint32_t)set->slow_start_percent * MESH_FIXED_ONE / 100;
    if (since == 0 || age >= set->slow_start_ms) {
        return MESH_FIXED_ONE;
    }
    uint32_t share = mesh_fixed_root((uint32_t)(age * MESH_FIXED_ONE / set->slow_start_ms),
                                     set->slow_start_aggression);
    return share > least ? share : least;
}

static bool
is_cold(struct shim_outlier *o, const struct mesh_snap_live *set, const struct mesh_live_endpoint *e)
{
    uint32_t share = warmth(o, set, e);
    return share < MESH_FIXED_ONE && shim_rand_below(MESH_FIXED_ONE) >= share;
}

/* Connections that were up and then reset are counted without a look at the settings: it may be due. */
static bool
is_ejected(struct shim_outlier *o, const struct mesh_snap_live *set, struct mesh_live_endpoint *e)
{
    uint64_t word = atomic_load_explicit(&e->ejected, memory_order_relaxed);
    if (atomic_load_explicit(&e->failures, memory_order_relaxed) >= set->consecutive_5xx) {
        (void)mesh_outlier_eject(e, shim_live_service(set->entry), set, clock_ms(o), shim_rand());
        word = atomic_load_explicit(&e->ejected, memory_order_relaxed);
    }
    if (word >> 24 == 0) {
        return false; /* nearly always; without the clock */
    }
    enum mesh_outlier state = mesh_outlier_view(word, set, clock_ms(o)).state;
    return state == MESH_OUTLIER_EJECTED || state == MESH_OUTLIER_PROBED;
}

bool
shim_outlier_admits(struct shim_outlier *o, const struct mesh_snap_service *s, uint32_t id)
{
    const struct mesh_snap_live *set = &s->live;
    if (!(set->flags & MESH_LIVE_OUTLIER) && !set->host_max_connections && !set->slow_start_ms) {
        return true;
    }
    struct mesh_live_endpoint *e = shim_live_endpoint(id);
    if (set->host_max_connections &&
        atomic_load_explicit(&e->active, memory_order_relaxed) >= set->host_max_connections) {
        o->full = true;
        return false;
    }
    if (!o->ejected_too && set->flags & MESH_LIVE_OUTLIER && is_ejected(o, set, e)) {
        o->passed_ejected = true;
        return false;
    }
    if (!o->cold_too && set->slow_start_ms && is_cold(o, set, e)) {
        o->passed_cold = true;
        return false;
    }
    return true;
}

/* Who is due may be chosen by one connection on the host. False: that is another one. */
static bool
claim(struct shim_outlier *o, const struct mesh_snap_service *s, uint32_t id, uint64_t *probe)
{
    const struct mesh_snap_live *set = &s->live;
    struct mesh_live_endpoint *e = shim_live_endpoint(id);
    uint64_t word = atomic_load_explicit(&e->ejected, memory_order_relaxed);
    *probe = 0;
    if (!(set->flags & MESH_LIVE_OUTLIER) || word >> 24 == 0) {
        return true;
    }
    *probe = mesh_outlier_probe(e, set, clock_ms(o), s->connect_timeout_ms + LEASE_MS);
    if (*probe || o->ejected_too) {
        return true;
    }
    word = atomic_load_explicit(&e->ejected, memory_order_relaxed);
    return mesh_outlier_view(word, set, clock_ms(o)).state == MESH_OUTLIER_IN;
}

bool
shim_outlier_again_cold(struct shim_outlier *o, enum mesh_err e)
{
    o->cold_too = e == MESH_E_NO_ENDPOINT && o->passed_cold && !o->cold_too;
    o->passed_cold = false;
    return o->cold_too;
}

bool
shim_outlier_again(struct shim_outlier *o, enum mesh_err e, const struct mesh_snap_service *s, uint32_t id,
                   uint64_t *probe)
{
    *probe = 0;
    if (e == MESH_OK) {
        return !claim(o, s, id, probe) && ++o->rounds < ROUNDS;
    }
    bool first = !o->ejected_too;
    o->ejected_too = e == MESH_E_NO_ENDPOINT && o->passed_ejected;
    return o->ejected_too && first;
}

void
shim_outlier_release(uint32_t id, uint64_t probe)
{
    if (probe) {
        mesh_outlier_release(shim_live_endpoint(id), probe, shim_now() / MS);
    }
}

void
shim_outlier_begin(struct shim_outlier_attempt *a, const struct mesh_snap_service *s, uint32_t id,
                   uint64_t probe)
{
    *a = (struct shim_outlier_attempt){.set = s->live, .probe = probe, .id = id,
                                       .timeout_ms = s->connect_timeout_ms, .begun_ns = shim_now(),
                                       .measured = s->load_balancer == MESH_LB_PEAK_EWMA};
}

static void
measure(const struct shim_outlier_attempt *a, uint64_t us, uint64_t now)
{
    if (a->measured) {
        mesh_ewma_add(&shim_live_use(a->id)->latency, us, now / MS);
    }
}

void
shim_outlier_failed(struct shim_outlier_attempt *a)
{
    if (a->told) {
        return;
    }
    a->told = true;
    uint64_t now = shim_now();
    measure(a, (a->timeout_ms > PENALTY_MS ? a->timeout_ms : PENALTY_MS) * UINT64_C(1000), now);
    if (!(a->set.flags & MESH_LIVE_OUTLIER)) {
        return;
    }
    struct mesh_live_endpoint *e = shim_live_use(a->id);
    struct mesh_live_service *s = shim_live_service(a->set.entry);
    atomic_fetch_add_explicit(&e->bad, 1, memory_order_relaxed);
    if (a->probe) {
        (void)mesh_outlier_again(e, s, &a->set, a->probe, now / MS, shim_rand());
    } else if (atomic_fetch_add_explicit(&e->failures, 1, memory_order_relaxed) + 1 >= a->set.consecutive_5xx) {
        (void)mesh_outlier_eject(e, s, &a->set, now / MS, shim_rand());
    }
}

/* That it lets itself be connected to ends no row of failures: one that resets each connection would never get
 * to the end of it. Its first byte does, and a connection's orderly end (shim_live_answered). */
void
shim_outlier_succeeded(struct shim_outlier_attempt *a)
{
    if (a->told) {
        return;
    }
    a->told = true;
    uint64_t now = shim_now();
    measure(a, (now - a->begun_ns) / 1000, now);
    if (!(a->set.flags & MESH_LIVE_OUTLIER)) {
        return;
    }
    struct mesh_live_endpoint *e = shim_live_use(a->id);
    atomic_fetch_add_explicit(&e->good, 1, memory_order_relaxed);
    if (a->probe) {
        (void)mesh_outlier_return(e, shim_live_service(a->set.entry), a->probe, now / MS);
    }
}

void
shim_outlier_waits(const struct shim_outlier_attempt *a)
{
    uint64_t now = shim_now();
    measure(a, (now - a->begun_ns) / 1000, now);
}
