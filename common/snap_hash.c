/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap_hashes: see snap_hash.h. Entries carry no check sums: a wrong one leads to another member of the
 * same tier, which the connection may go to as well, and one that leads nowhere is seen to.
 */
#include "common/snap_hash.h"

#include <string.h>

#include "common/hash.h"
#include "common/snap_int.h"

size_t
mesh_snap_hash_size(unsigned load_balancer, uint32_t count)
{
    return (size_t)count * (load_balancer == MESH_LB_RING_HASH ? 6 : 2);
}

enum mesh_err
mesh_snap_hashes(const struct mesh_snap_choice *c, const struct mesh_snap_service *s,
                 const struct mesh_snap_tier *t, struct mesh_snap_hashes *out)
{
    const struct mesh_snap_view *v = c->view;
    uint64_t from = (uint64_t)t->table.first * MESH_SNAP_UNIT;
    size_t size = mesh_snap_hash_size(s->load_balancer, t->table.count);
    *out = (struct mesh_snap_hashes){.members = t->members.count};
    if (t->table.count == 0) {
        return MESH_OK;
    }
    if (from > v->pool_size || size > v->pool_size - from) {
        return MESH_E_SNAPSHOT;
    }
    bool ring = s->load_balancer == MESH_LB_RING_HASH;
    out->count = t->table.count;
    out->point = ring ? v->pool + from : NULL;
    out->member = v->pool + from + (ring ? 4 * (size_t)out->count : 0);
    return MESH_OK;
}

#define STEP 8u

static uint32_t
point_at(const struct mesh_snap_hashes *h, uint32_t i)
{
    uint32_t p;
    memcpy(&p, h->point + 4 * (size_t)i, sizeof(p));
    return p;
}

/* On the ring the first point at or behind the hash, and behind the last one the first. Points lie evenly, as hashes
 * do: it is searched for from where it would be in a row of equal gaps, in steps that double. */
uint32_t
mesh_snap_hash_start(const struct mesh_snap_hashes *h, uint64_t hash)
{
    uint32_t want = (uint32_t)(hash >> 32), step = STEP;
    if (!h->point) {
        return (uint32_t)(hash % h->count);
    }
    uint32_t low = (uint32_t)((uint64_t)want * h->count >> 32), high = low;
    for (; low > 0 && point_at(h, low - 1) >= want; step *= 2) {
        high = low - 1;
        low = low > step ? low - step : 0;
    }
    for (; high < h->count && point_at(h, high) < want; step *= 2) {
        low = high + 1;
        high = h->count - high > step ? high + step : h->count;
    }
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (point_at(h, mid) < want) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < h->count ? low : 0;
}

enum mesh_err
mesh_snap_hash_member(const struct mesh_snap_hashes *h, uint32_t at, uint32_t *index)
{
    uint16_t m;
    memcpy(&m, h->member + 2 * (size_t)at, sizeof(m));
    if (m >= h->members) {
        return MESH_E_SNAPSHOT;
    }
    *index = m;
    return MESH_OK;
}
