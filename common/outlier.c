/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_outlier: see outlier.h. The word: until when in the upper 40 bits, how often in the next 16, and
 * whether it is a probe in the lowest. until is 0 in service.
 */
#include "common/outlier.h"

#define PROBE     1u
#define TIMES_MAX 0xffffu
#define LEASE_MAX UINT64_C(700000) /* no connect_timeout is longer */

static uint64_t
word_of(uint64_t until_ms, uint32_t times, unsigned probe)
{
    return until_ms << 24 | (uint64_t)(times < TIMES_MAX ? times : TIMES_MAX) << 8 | probe;
}

static uint64_t
until_of(uint64_t word)
{
    return word >> 24;
}

static uint32_t
times_of(uint64_t word)
{
    return (uint32_t)(word >> 8) & TIMES_MAX;
}

struct mesh_outlier_view
mesh_outlier_view(uint64_t word, const struct mesh_snap_live *set, uint64_t now_ms)
{
    uint64_t until = until_of(word), most = LEASE_MAX + set->max_ejection_ms + set->jitter_ms;
    enum mesh_outlier state = until == 0                              ? MESH_OUTLIER_IN
                              : now_ms >= until || until > now_ms + most ? MESH_OUTLIER_DUE
                              : word & PROBE                          ? MESH_OUTLIER_PROBED
                                                                      : MESH_OUTLIER_EJECTED;
    return (struct mesh_outlier_view){state, until, times_of(word)};
}

uint32_t
mesh_outlier_most(const struct mesh_snap_live *set)
{
    uint32_t all = set->endpoints;
    uint64_t most = (uint64_t)all * set->max_ejection_percent / 100;
    if (all < 2) {
        return 0;
    }
    most = most > 0 ? most : 1;
    return most < all ? (uint32_t)most : all - 1;
}

/* base_ejection_time as often as it was ejected, up to max_ejection_time, and some jitter. */
static uint64_t
end_of(const struct mesh_snap_live *set, uint32_t times, uint64_t now_ms, uint64_t random)
{
    uint64_t span = (uint64_t)set->base_ejection_ms * times;
    span = span < set->max_ejection_ms ? span : set->max_ejection_ms;
    return now_ms + span + random % ((uint64_t)set->jitter_ms + 1);
}

/* Release: who sees it in service again sees since when. */
static bool
turn(struct mesh_live_endpoint *e, uint64_t from, uint64_t to)
{
    return atomic_compare_exchange_strong(&e->ejected, &from, to);
}

bool
mesh_outlier_eject(struct mesh_live_endpoint *e, struct mesh_live_service *s,
                   const struct mesh_snap_live *set, uint64_t now_ms, uint64_t random)
{
    uint64_t was = atomic_load(&e->ejected);
    uint32_t times = times_of(was) + 1;
    atomic_store_explicit(&e->failures, 0, memory_order_relaxed);
    if (until_of(was) != 0) {
        return false;
    }
    /* The place first: of two endpoints that fail at the same time the second one must not be the last. */
    if (!mesh_live_take(&s->ejected, mesh_outlier_most(set))) {
        atomic_fetch_add_explicit(&s->ejections_overflow, 1, memory_order_relaxed);
        return false;
    }
    if (!turn(e, was, word_of(end_of(set, times, now_ms, random), times, 0))) {
        mesh_live_drop(&s->ejected);
        return false;
    }
    atomic_fetch_add_explicit(&s->ejections, 1, memory_order_relaxed);
    return true;
}

uint64_t
mesh_outlier_probe(struct mesh_live_endpoint *e, const struct mesh_snap_live *set, uint64_t now_ms,
                   uint32_t lease_ms)
{
    uint64_t was = atomic_load(&e->ejected);
    if (mesh_outlier_view(was, set, now_ms).state != MESH_OUTLIER_DUE) {
        return 0;
    }
    uint64_t mine = word_of(now_ms + (lease_ms < LEASE_MAX ? lease_ms : LEASE_MAX), times_of(was), PROBE);
    return turn(e, was, mine) ? mine : 0;
}

void
mesh_outlier_release(struct mesh_live_endpoint *e, uint64_t probe, uint64_t now_ms)
{
    (void)turn(e, probe, word_of(now_ms, times_of(probe), 0));
}

bool
mesh_outlier_return(struct mesh_live_endpoint *e, struct mesh_live_service *s, uint64_t probe, uint64_t now_ms)
{
    if (atomic_load(&e->ejected) != probe) {
        return false;
    }
    atomic_store_explicit(&e->failures, 0, memory_order_relaxed);
    atomic_store_explicit(&e->since_ms, now_ms, memory_order_relaxed);
    if (!turn(e, probe, word_of(0, times_of(probe), 0))) {
        return false;
    }
    mesh_live_drop(&s->ejected);
    return true;
}

bool
mesh_outlier_uneject(struct mesh_live_endpoint *e, struct mesh_live_service *s, uint64_t now_ms)
{
    uint64_t was = atomic_load(&e->ejected);
    return until_of(was) != 0 && mesh_outlier_return(e, s, was, now_ms);
}

bool
mesh_outlier_again(struct mesh_live_endpoint *e, struct mesh_live_service *s,
                   const struct mesh_snap_live *set, uint64_t probe, uint64_t now_ms, uint64_t random)
{
    uint32_t times = times_of(probe) + 1;
    if (!turn(e, probe, word_of(end_of(set, times, now_ms, random), times, 0))) {
        return false;
    }
    atomic_fetch_add_explicit(&s->ejections, 1, memory_order_relaxed);
    return true;
}

void
mesh_outlier_calm(struct mesh_live_endpoint *e)
{
    uint64_t was = atomic_load(&e->ejected);
    if (until_of(was) == 0 && times_of(was) > 0) {
        (void)turn(e, was, word_of(0, times_of(was) - 1, 0));
    }
}
