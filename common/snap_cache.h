/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap_cache: what a process found in the snapshot, kept under the generation's number. An area's content does
 * not change under its number, so what was found and checked under it is right while the reader still sees that
 * number, in the head before and in the area after its look-up. Nothing is ever withdrawn: with the next number all is out of date.
 *
 * Kept are the front of one generation, and addresses of services with their service. Only copies go in, whose
 * check sums were right, and only copies come out.
 *
 *   address ── hash ──> note[8 of them side by side]: tag, slot ──> slot: lock, key, address, service
 *
 * Lock-free; any thread, signal handler, after fork, and in a child of vfork: what it writes is a fact about the
 * snapshot, as right for its parent. Each place has a sequence number, odd while one writes. Whoever would have to
 * wait goes without: a reader the long way, a writer without keeping anything. A place whose writer was killed, or
 * was another thread when the process forked, stays odd, and is passed over from then on.
 */
#ifndef MESH_COMMON_SNAP_CACHE_H
#define MESH_COMMON_SNAP_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "common/snap.h"

/* What of an area is behind its generation and before the buckets. */
struct mesh_snap_front {
    struct mesh_snap_table table[MESH_SNAP_TABLES];
    struct mesh_snap_settings settings;
    uint32_t last_id, check;
};

#define MESH_SNAP_SLOTS 1024u
#define MESH_SNAP_NOTES 4096u /* several times as many, so that hardly any is driven out by another one's */
#define MESH_SNAP_ROW   8u    /* of those that one address may have */

/* Where a generation is: another mapping or epoch is another registry. */
struct mesh_snap_key {
    const void *map;
    uint64_t epoch, generation;
    uint64_t area_size;
};
/* An address of a service, as seen from a namespace. */
struct mesh_snap_asked {
    uint64_t netns;
    uint8_t ip[16];
    uint64_t port;
};

/* Where most choices for an address begin: the group of all endpoints, its best tier, and the healthy ones' weight. */
struct mesh_snap_plan {
    struct mesh_snap_group group;
    struct mesh_snap_tier tier;
    uint32_t total;
    uint32_t is_known; /* 0: nothing of it */
};

/* A service's name, identity and settings. Of the identity it is only the words that have anything in them, for most of
 * its room is empty. */
#define MESH_SNAP_NAME_WORDS (MESH_SERVICE_MAX / 8u)
#define MESH_SNAP_ID_WORDS   (MESH_ID_MAX / 8u)
#define MESH_SNAP_SET_OFF    offsetof(struct mesh_snap_service, mode)
#define MESH_SNAP_SET_WORDS  ((sizeof(struct mesh_snap_service) - MESH_SNAP_SET_OFF) / 8u)
_Static_assert(offsetof(struct mesh_snap_service, id) == 8 * MESH_SNAP_NAME_WORDS &&
                   MESH_SNAP_SET_OFF == 8 * (MESH_SNAP_NAME_WORDS + MESH_SNAP_ID_WORDS),
               "service in words");

#define MESH_SNAP_WORDS(type) (sizeof(type) / sizeof(uint64_t))
_Static_assert(sizeof(struct mesh_snap_key) == 32 && sizeof(struct mesh_snap_asked) == 32 &&
                   sizeof(struct mesh_snap_front) % 8 == 0 && sizeof(struct mesh_snap_endpoint) % 8 == 0 &&
                   sizeof(struct mesh_snap_service) % 8 == 0 && sizeof(struct mesh_snap_plan) == 64,
               "words without gaps");

/* Words are read acquire and written release: who sees one of another writer sees his turn, too. */
struct mesh_snap_slot {
    _Alignas(64) _Atomic uint32_t turn; /* odd: being written. Acquire before the words, release after them */
    _Atomic uint32_t id_words; /* that are not empty */
    _Atomic uint64_t key[MESH_SNAP_WORDS(struct mesh_snap_key)];
    _Atomic uint64_t asked[MESH_SNAP_WORDS(struct mesh_snap_asked)];
    _Atomic uint64_t endpoint[MESH_SNAP_WORDS(struct mesh_snap_endpoint)];
    _Atomic uint64_t plan[MESH_SNAP_WORDS(struct mesh_snap_plan)];
    _Atomic uint64_t set[MESH_SNAP_SET_WORDS];
    _Atomic uint64_t name[MESH_SNAP_NAME_WORDS];
    _Atomic uint64_t id[MESH_SNAP_ID_WORDS];
};

/* Zeros to begin with. Its size is address space; pages that nobody used are none. */
struct mesh_snap_cache {
    struct mesh_snap_kept_front {
        _Alignas(64) _Atomic uint32_t turn;
        _Atomic uint64_t key[MESH_SNAP_WORDS(struct mesh_snap_key)];
        _Atomic uint64_t front[MESH_SNAP_WORDS(struct mesh_snap_front)];
    } front[2]; /* of generations whose last bit this is */
    _Alignas(64) _Atomic uint32_t next; /* slot to be given out, modulo their number; they lie in the order of use */
    _Alignas(64) _Atomic uint32_t note[MESH_SNAP_NOTES]; /* relaxed, a hint: high half of the hash, slot + 1 */
    struct mesh_snap_slot slot[MESH_SNAP_SLOTS];
};

/* `c` may be NULL: then nothing is kept. The first: is *f the front that was kept? False: it has to be looked for, and what
 * was to be filled in is anything; of a hit it is endpoint and service. */
bool mesh_snap_cache_front(struct mesh_snap_cache *c, const struct mesh_snap_key *k, const struct mesh_snap_front *f);
bool mesh_snap_cache_find(struct mesh_snap_cache *c, const struct mesh_snap_key *k, const struct mesh_snap_asked *a,
                          struct mesh_snap_hit *out, struct mesh_snap_plan *plan);
/* What was read and checked under that key. */
void mesh_snap_cache_keep_front(struct mesh_snap_cache *c, const struct mesh_snap_key *k,
                                const struct mesh_snap_front *f);
void mesh_snap_cache_keep(struct mesh_snap_cache *c, const struct mesh_snap_key *k, const struct mesh_snap_asked *a,
                          const struct mesh_snap_hit *hit, const struct mesh_snap_plan *plan);

#endif
