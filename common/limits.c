/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_limit: see limits.h.
 *
 * The bucket is one number: when it will be full. A token costs the time in which one comes in; it may be
 * taken as long as that time does not lie further ahead than a full bucket is worth [GCRA: ITU-T I.371].
 */
#include "common/limits.h"

#define FNV_START UINT64_C(14695981039346656037)
#define FNV_PRIME UINT64_C(1099511628211)
#define TRIES     64 /* each lost one means that another process took a token meanwhile */
#define MS        (UINT64_C(1000000) << MESH_LIMIT_SHIFT)

static uint64_t
hash_on(uint64_t h, const char *text)
{
    for (; *text; text++) {
        h = (h ^ (uint8_t)*text) * FNV_PRIME;
    }
    return h;
}

static uint64_t
never_zero(uint64_t h)
{
    return h ? h : 1;
}

uint64_t
mesh_limit_hash(const char *text)
{
    return never_zero(hash_on(FNV_START, text));
}

/* The name is no part of an ID, nor has it a '\n': what is hashed is clear. */
uint64_t
mesh_limit_key(const char *service, const char *caller)
{
    return never_zero(hash_on(hash_on(hash_on(FNV_START, service), "\n"), caller));
}

static uint32_t
place(uint64_t key, uint32_t n)
{
    return (uint32_t)((key ^ key >> 32) + n) % MESH_LIMITS;
}

uint32_t
mesh_limit_find(struct mesh_limit *table, uint64_t key)
{
    for (uint32_t n = 0; n < MESH_LIMIT_PROBES; n++) {
        if (atomic_load_explicit(&table[place(key, n)].key, memory_order_relaxed) == key) {
            return place(key, n);
        }
    }
    return MESH_LIMITS;
}

static bool
is_idle(struct mesh_limit *l, uint64_t now)
{
    return atomic_load_explicit(&l->active, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&l->full_at, memory_order_relaxed) <= now << MESH_LIMIT_SHIFT;
}

uint32_t
mesh_limit_at(struct mesh_limit *table, uint64_t key, uint64_t now)
{
    uint32_t i = mesh_limit_find(table, key);
    for (uint32_t n = 0; i == MESH_LIMITS && n < MESH_LIMIT_PROBES; n++) {
        struct mesh_limit *l = &table[place(key, n)];
        uint64_t was = atomic_load_explicit(&l->key, memory_order_relaxed);
        if (was == key || ((was == 0 || is_idle(l, now)) &&
                           (atomic_compare_exchange_strong(&l->key, &was, key) || was == key))) {
            i = place(key, n);
        }
    }
    return i < MESH_LIMITS ? i : place(key, 0);
}

bool
mesh_limit_take(struct mesh_limit *l, const struct mesh_rate *r, uint64_t now)
{
    uint64_t cost = r->fill_interval_ms * MS / (r->tokens_per_fill ? r->tokens_per_fill : 1);
    uint64_t t = now << MESH_LIMIT_SHIFT, limit = t + cost * r->max_tokens;
    uint64_t was = atomic_load_explicit(&l->full_at, memory_order_relaxed);
    if (r->max_tokens == 0) {
        return true;
    }
    for (int i = 0; i < TRIES; i++) {
        uint64_t from = was > t ? was : t;
        from = from < limit ? from : limit; /* nobody can empty it more than it holds */
        if (from + cost > limit) {
            return false;
        }
        if (atomic_compare_exchange_weak_explicit(&l->full_at, &was, from + cost, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            return true;
        }
    }
    return false; /* so many took one meanwhile */
}

bool
mesh_limit_enter(struct mesh_limit *l, uint32_t max)
{
    uint32_t n = atomic_fetch_add_explicit(&l->active, 1, memory_order_relaxed);
    if (max == 0 || n < max) {
        return true;
    }
    mesh_limit_leave(l);
    return false;
}

void
mesh_limit_leave(struct mesh_limit *l)
{
    uint32_t n = atomic_load_explicit(&l->active, memory_order_relaxed);
    while (n > 0 && !atomic_compare_exchange_weak_explicit(&l->active, &n, n - 1, memory_order_relaxed,
                                                           memory_order_relaxed)) {
    }
}
