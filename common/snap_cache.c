/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap_cache: see snap_cache.h.
 */
#include "common/snap_cache.h"

#include <string.h>

#include "common/snap_int.h"

/* ---- words ----
 * Acquire, so that the look at the turn afterwards is not made before; release, so that who sees a word sees its writer's
 * odd number, too. Fences would say the same, but ThreadSanitizer does not know them. One after the other, as atomic ones
 * are, but with the loop's own work done once for several. */

#define SEVERAL _Pragma("GCC unroll 16")

static inline void
load(void *to, const _Atomic uint64_t *from, size_t words)
{
    SEVERAL
    for (size_t i = 0; i < words; i++) {
        uint64_t w = atomic_load_explicit(&from[i], memory_order_acquire);
        memcpy((char *)to + i * sizeof(w), &w, sizeof(w));
    }
}

static inline void
store(_Atomic uint64_t *to, const void *from, size_t words)
{
    SEVERAL
    for (size_t i = 0; i < words; i++) {
        uint64_t w;
        memcpy(&w, (const char *)from + i * sizeof(w), sizeof(w));
        atomic_store_explicit(&to[i], w, memory_order_release);
    }
}

static inline bool
is_same(const _Atomic uint64_t *a, const void *b, size_t words)
{
    uint64_t differ = 0;
    SEVERAL
    for (size_t i = 0; i < words; i++) {
        uint64_t w;
        memcpy(&w, (const char *)b + i * sizeof(w), sizeof(w));
        differ |= w ^ atomic_load_explicit(&a[i], memory_order_acquire);
    }
    return differ == 0;
}

/* ---- a place's turn ---- */

/* Acquire: the words are at least as new. Odd: there is nothing to read. */
static inline uint32_t
begin_reading(const _Atomic uint32_t *turn)
{
    return atomic_load_explicit(turn, memory_order_acquire);
}

/* Words that were newer than `was` bring the number of their writer with them. */
static inline bool
were_still(const _Atomic uint32_t *turn, uint32_t was)
{
    return atomic_load_explicit(turn, memory_order_relaxed) == was;
}

/* False: another one writes there, or was killed while it did. */
static bool
begin_writing(_Atomic uint32_t *turn)
{
    uint32_t was = atomic_load_explicit(turn, memory_order_relaxed);
    return !(was & 1) && atomic_compare_exchange_strong_explicit(turn, &was, was + 1, memory_order_acquire,
                                                                 memory_order_relaxed);
}

static void
end_writing(_Atomic uint32_t *turn)
{
    atomic_fetch_add_explicit(turn, 1, memory_order_release);
}

/* ---- the front ---- */

#define KEY   MESH_SNAP_WORDS(struct mesh_snap_key)
#define ASKED MESH_SNAP_WORDS(struct mesh_snap_asked)
#define FRONT MESH_SNAP_WORDS(struct mesh_snap_front)

bool
mesh_snap_cache_front(struct mesh_snap_cache *c, const struct mesh_snap_key *k, const struct mesh_snap_front *front)
{
    const struct mesh_snap_kept_front *f = c ? &c->front[k->generation & 1] : NULL;
    uint32_t turn = f ? begin_reading(&f->turn) : 1;
    return !(turn & 1) && is_same(f->key, k, KEY) && is_same(f->front, front, FRONT) && were_still(&f->turn, turn);
}

void
mesh_snap_cache_keep_front(struct mesh_snap_cache *c, const struct mesh_snap_key *k, const struct mesh_snap_front *f)
{
    struct mesh_snap_kept_front *to = c ? &c->front[k->generation & 1] : NULL;
    if (to && begin_writing(&to->turn)) {
        store(to->key, k, KEY);
        store(to->front, f, FRONT);
        end_writing(&to->turn);
    }
}

/* ---- addresses ---- */

struct place {
    _Atomic uint32_t *row;
    uint32_t tag; /* in the high half, where a note has it */
};

static struct place
place_of(struct mesh_snap_cache *c, const struct mesh_snap_asked *a)
{
    uint64_t h = mesh_snap_stir(mesh_snap_stir(a->port, a->ip), a->ip + 8) * MESH_SNAP_ODD;
    uint32_t row = (uint32_t)(h >> 32) % (MESH_SNAP_NOTES / MESH_SNAP_ROW);
    return (struct place){&c->note[row * MESH_SNAP_ROW], (uint32_t)(h >> 48) << 16};
}

static void
load_service(struct mesh_snap_service *to, const struct mesh_snap_slot *from)
{
    uint32_t n = atomic_load_explicit(&from->id_words, memory_order_acquire);
    n = n < MESH_SNAP_ID_WORDS ? n : MESH_SNAP_ID_WORDS; /* torn, it could be anything; were_still() tells later */
    load((char *)to + MESH_SNAP_SET_OFF, from->set, MESH_SNAP_SET_WORDS);
    load(to->name, from->name, MESH_SNAP_NAME_WORDS);
    load(to->id, from->id, n);
    memset(to->id + 8 * (size_t)n, 0, sizeof(to->id) - 8 * (size_t)n);
}

static void
store_service(struct mesh_snap_slot *to, const struct mesh_snap_service *from)
{
    uint32_t n = (uint32_t)(strnlen(from->id, sizeof(from->id) - 1) + 8) / 8;
    atomic_store_explicit(&to->id_words, n, memory_order_release);
    store(to->set, (const char *)from + MESH_SNAP_SET_OFF, MESH_SNAP_SET_WORDS);
    store(to->name, from->name, MESH_SNAP_NAME_WORDS);
    store(to->id, from->id, n);
}

static bool
read_slot(const struct mesh_snap_slot *s, const struct mesh_snap_key *k, const struct mesh_snap_asked *a,
          struct mesh_snap_hit *out, struct mesh_snap_plan *plan)
{
    uint32_t turn = begin_reading(&s->turn);
    if (turn & 1 || !is_same(s->asked, a, ASKED) || !is_same(s->key, k, KEY)) {
        return false;
    }
    load(&out->endpoint, s->endpoint, MESH_SNAP_WORDS(struct mesh_snap_endpoint));
    load_service(&out->service, s);
    load(plan, s->plan, MESH_SNAP_WORDS(struct mesh_snap_plan));
    return were_still(&s->turn, turn);
}

/* The slot that a note leads to; NULL: it is none of this tag. */
static struct mesh_snap_slot *
slot_of(struct mesh_snap_cache *c, uint32_t note, uint32_t tag)
{
    uint32_t n = (note ^ tag) - 1;
    return n < MESH_SNAP_SLOTS ? &c->slot[n] : NULL;
}

bool
mesh_snap_cache_find(struct mesh_snap_cache *c, const struct mesh_snap_key *k, const struct mesh_snap_asked *a,
                     struct mesh_snap_hit *out, struct mesh_snap_plan *plan)
{
    if (!c) {
        return false;
    }
    const struct place p = place_of(c, a);
    for (unsigned i = 0; i < MESH_SNAP_ROW; i++) {
        const struct mesh_snap_slot *s =
            slot_of(c, atomic_load_explicit(&p.row[i], memory_order_relaxed), p.tag);
        if (s && read_slot(s, k, a, out, plan)) {
            return true;
        }
    }
    return false;
}

/* Whose note it is, or which it may have: its own, else an empty one, else one that is not the same each time. */
static _Atomic uint32_t *
note_of(struct mesh_snap_cache *c, const struct place *p, uint32_t by_chance)
{
    _Atomic uint32_t *at = &p->row[by_chance % MESH_SNAP_ROW];
    for (unsigned i = MESH_SNAP_ROW; i-- > 0;) {
        uint32_t note = atomic_load_explicit(&p->row[i], memory_order_relaxed);
        if (slot_of(c, note, p->tag)) {
            return &p->row[i];
        }
        at = note ? at : &p->row[i];
    }
    return at;
}

/* The one that the address has had, else the next of all, to be written; NULL: others are at it. */
static struct mesh_snap_slot *
take_slot(struct mesh_snap_cache *c, _Atomic uint32_t *note, uint32_t tag, const struct mesh_snap_asked *a)
{
    struct mesh_snap_slot *s = slot_of(c, atomic_load_explicit(note, memory_order_relaxed), tag);
    if (s && is_same(s->asked, a, ASKED) && begin_writing(&s->turn)) {
        return s;
    }
    uint32_t n = atomic_fetch_add_explicit(&c->next, 1, memory_order_relaxed) % MESH_SNAP_SLOTS;
    if (!begin_writing(&c->slot[n].turn)) {
        return NULL;
    }
    atomic_store_explicit(note, tag | (n + 1), memory_order_relaxed);
    return &c->slot[n];
}

void
mesh_snap_cache_keep(struct mesh_snap_cache *c, const struct mesh_snap_key *k, const struct mesh_snap_asked *a,
                     const struct mesh_snap_hit *hit, const struct mesh_snap_plan *plan)
{
    if (!c) {
        return;
    }
    const struct place p = place_of(c, a);
    _Atomic uint32_t *note = note_of(c, &p, atomic_load_explicit(&c->next, memory_order_relaxed));
    struct mesh_snap_slot *s = take_slot(c, note, p.tag, a);
    if (s) {
        store(s->key, k, KEY);
        store(s->asked, a, ASKED);
        store(s->endpoint, &hit->endpoint, MESH_SNAP_WORDS(struct mesh_snap_endpoint));
        store_service(s, &hit->service);
        store(s->plan, plan, MESH_SNAP_WORDS(struct mesh_snap_plan));
        end_writing(&s->turn);
    }
}
