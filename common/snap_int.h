/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap_int: one attempt at the snapshot, for snap*.c only.
 */
#ifndef MESH_COMMON_SNAP_INT_H
#define MESH_COMMON_SNAP_INT_H

#include <string.h>

#include "common/snap.h"
#include "common/snap_cache.h"
#include "mesh/names.h"

/* One attempt's view of the current area: everything in it is checked. */
struct mesh_snap_view {
    const uint8_t *area;
    const uint64_t *stamp;
    const uint8_t *pool;
    size_t pool_size;
    uint64_t generation;
    struct mesh_snap_key key;
    struct mesh_snap_cache *cache;
    bool is_kept; /* the front came from there */
    struct mesh_snap_front f;
};

/* ---- entries: inline, for where the table is known a copy is a few words and its sum a few products ---- */

static inline void
mesh_snap_grab(void *to, const void *from, size_t n)
{
    memcpy(to, from, n);
    atomic_signal_fence(memory_order_seq_cst);
}

#define MESH_SNAP_ODD UINT64_C(0x9e3779b97f4a7c15)

static inline uint64_t
mesh_snap_word(const uint8_t *p, size_t n)
{
    uint64_t w = 0;
    memcpy(&w, p, n);
    return w;
}

static inline uint64_t
mesh_snap_stir(uint64_t h, const uint8_t *p)
{
    h = (h ^ mesh_snap_word(p, 8)) * MESH_SNAP_ODD;
    return h ^ h >> 32;
}

/* Both halves of the product of two words, each with a key that is another one at each place. */
static inline uint64_t
mesh_snap_fold(uint64_t a, uint64_t b, uint64_t key)
{
    unsigned __int128 product = (unsigned __int128)(a ^ key) * (b ^ ~key);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* mesh_snap_sum: no product waits for another, so the processor has several under way. */
static inline uint32_t
mesh_snap_sum_of(uint64_t generation, uint32_t index, const void *p, size_t n)
{
    const uint8_t *at = p;
    uint64_t key = (generation + 1) * UINT64_C(0xd6e8feb86659fd93) ^ index, sum = 0, a = 0, b = 0;
    for (; n >= 16; n -= 16, at += 16, key += MESH_SNAP_ODD) {
        sum += mesh_snap_fold(mesh_snap_word(at, 8), mesh_snap_word(at + 8, 8), key);
    }
    if (n >= 8) {
        a = mesh_snap_word(at, 8);
        at += 8;
    }
    if (n & 4) {
        b = mesh_snap_word(at, 4);
    }
    sum += mesh_snap_fold(a, b, key);
    return (uint32_t)(sum * MESH_SNAP_ODD >> 32);
}

/* Each entry ends in its check sum. */
#define MESH_SNAP_ENTRY(type) [MESH_SNAP_##type]
static const size_t mesh_snap_sizes[MESH_SNAP_TABLES] = {
    MESH_SNAP_ENTRY(SERVICES) = sizeof(struct mesh_snap_service),
    MESH_SNAP_ENTRY(ENDPOINTS) = sizeof(struct mesh_snap_endpoint),
    MESH_SNAP_ENTRY(MEMBERS) = sizeof(struct mesh_snap_member),
    MESH_SNAP_ENTRY(GROUPS) = sizeof(struct mesh_snap_group),
    MESH_SNAP_ENTRY(TIERS) = sizeof(struct mesh_snap_tier),
    MESH_SNAP_ENTRY(ROUTES) = sizeof(struct mesh_snap_route),
    MESH_SNAP_ENTRY(TARGETS) = sizeof(struct mesh_snap_target),
    MESH_SNAP_ENTRY(NETS) = sizeof(struct mesh_snap_net),
    MESH_SNAP_ENTRY(DOMAIN) = sizeof(struct mesh_snap_domain),
    MESH_SNAP_ENTRY(NAMES) = sizeof(struct mesh_snap_name),
    MESH_SNAP_ENTRY(NAME_BUCKETS) = sizeof(struct mesh_snap_name_bucket),
    MESH_SNAP_ENTRY(LIMITS) = sizeof(struct mesh_snap_limits),
    MESH_SNAP_ENTRY(HOSTS) = sizeof(struct mesh_snap_host),
};

/* Copies entry i of the table and checks its sum; the copy has the table's entry size. */
static inline MESH_MUST_CHECK enum mesh_err
mesh_snap_get(const struct mesh_snap_view *v, enum mesh_snap_tables t, uint32_t i, void *out)
{
    const size_t n = mesh_snap_sizes[t], sum = n - sizeof(uint32_t);
    if (i >= v->f.table[t].count) {
        return MESH_E_SNAPSHOT;
    }
    mesh_snap_grab(out, v->area + v->f.table[t].off + i * n, n);
    bool same = mesh_snap_word((uint8_t *)out + sum, sizeof(uint32_t)) == mesh_snap_sum_of(v->generation, i, out, sum);
    return same ? MESH_OK : MESH_E_SNAPSHOT;
}

enum mesh_err mesh_snap_get_service(const struct mesh_snap_view *v, uint32_t i,
                                    struct mesh_snap_service *out) MESH_MUST_CHECK;
enum mesh_err mesh_snap_get_endpoint(const struct mesh_snap_view *v, uint32_t i,
                                     struct mesh_snap_endpoint *out) MESH_MUST_CHECK;
/* Does it lie in the table? */
bool mesh_snap_has(const struct mesh_snap_view *v, enum mesh_snap_tables t, const struct mesh_snap_part *p);

/* What a look-up asks for and finds. */
struct mesh_snap_query {
    uint64_t netns, cookie;
    struct mesh_addr addr;
    struct mesh_snap_hit *hit;
    int score; /* of *hit, 0: nothing found */
    bool is_kept; /* *hit came from the cache */
    struct mesh_snap_key key; /* of the attempt */
    struct mesh_snap_plan plan;
    bool endpoints_only;
    mesh_snap_choose_fn *choose;
    void *arg;
};

typedef enum mesh_err mesh_snap_attempt_fn(const struct mesh_snap_view *v, void *arg);
/* Runs fn on a view until it was whole from beginning to end. */
enum mesh_err mesh_snap_attempt(const struct mesh_snap *s, mesh_snap_attempt_fn *fn, void *arg) MESH_MUST_CHECK;
/* From what was found to where a choice begins; as much as nothing is, where it cannot be read. */
void mesh_snap_plan(const struct mesh_snap_view *v, const struct mesh_snap_hit *hit, uint16_t port,
                    struct mesh_snap_plan *out);
/* After an attempt that was whole: what it found, for the next one. */
void mesh_snap_keep(const struct mesh_snap *s, const struct mesh_snap_query *q);
/* The attempt of mesh_snap_find; arg: a struct mesh_snap_query. */
enum mesh_err mesh_snap_try_find(const struct mesh_snap_view *v, void *arg) MESH_MUST_CHECK;

#endif
