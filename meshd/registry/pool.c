/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_pool: see pool.h. A list in the order of places, the first gap that is large enough is taken.
 *
 *   draft g + 1 begins ── last used before g: free ──> add ──> (area g - 1 is void) write ──> area g + 1 in force
 */
#include "meshd/registry/pool.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "common/hash.h"

struct piece {
    uint64_t key[2];
    bool keyed; /* found by its key */
    uint32_t first, units, count;
    size_t size;
    uint8_t *bytes;  /* not written yet; NULL: it is */
    uint64_t sum;
    uint64_t used;   /* the last generation that refers to it */
    struct piece *next;
    UT_hash_handle hh;
};

static struct piece *pieces; /* in order; those of an earlier meshd may overlap */
static struct piece *by_key;
static uint64_t draft;
static uint32_t all_units;

static uint32_t
units_of(size_t size)
{
    return (uint32_t)((size + MESH_SNAP_UNIT - 1) / MESH_SNAP_UNIT);
}

void
meshd_pool_open(size_t size)
{
    meshd_pool_close();
    all_units = (uint32_t)(size / MESH_SNAP_UNIT);
}

static void
unkey(struct piece *p)
{
    if (p->keyed) {
        HASH_DEL(by_key, p);
        p->keyed = false;
    }
}

/* Those last used before `generation`. */
static void
drop(uint64_t generation)
{
    for (struct piece **at = &pieces; *at;) {
        struct piece *p = *at;
        if (p->used >= generation) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        unkey(p);
        free(p->bytes);
        free(p);
    }
}

void
meshd_pool_close(void)
{
    drop(UINT64_MAX);
    all_units = 0;
}

/* The piece before which there are n units free, or the end; *first: where they begin. NULL: there are not. */
static struct piece **
gap(uint32_t n, uint32_t *first)
{
    struct piece **at = &pieces;
    uint32_t end = 0;
    for (; *at && ((*at)->first < end || (*at)->first - end < n); at = &(*at)->next) {
        uint32_t behind = (*at)->first + (*at)->units;
        end = behind > end ? behind : end;
    }
    *first = end;
    return n <= all_units && end <= all_units - n ? at : NULL;
}

static struct piece *
insert(struct piece **at, uint32_t first, uint32_t n)
{
    struct piece *p = calloc(1, sizeof(*p));
    if (p) {
        p->first = first;
        p->units = n;
        p->next = *at;
        *at = p;
    }
    return p;
}

bool
meshd_pool_has_room(size_t size)
{
    uint32_t first;
    return gap(units_of(size), &first) != NULL;
}

void
meshd_pool_reserve(uint32_t first, size_t size, uint64_t generation)
{
    struct piece **at = &pieces, *p;
    while (*at && (*at)->first < first) {
        at = &(*at)->next;
    }
    p = insert(at, first, units_of(size));
    if (p) {
        p->used = generation;
    }
}

void
meshd_pool_begin(uint64_t generation)
{
    draft = generation;
    drop(generation - 1);
}

bool
meshd_pool_find(const uint64_t key[2], struct mesh_snap_part *out)
{
    struct piece *p = NULL;
    HASH_FIND(hh, by_key, key, sizeof(p->key), p);
    if (p) {
        p->used = draft;
        *out = (struct mesh_snap_part){p->first, p->count};
    }
    return p != NULL;
}

bool
meshd_pool_add(const uint64_t key[2], uint8_t *bytes, size_t size, uint32_t count, struct mesh_snap_part *out)
{
    uint32_t first = 0;
    struct piece **at = gap(units_of(size), &first), *p = at ? insert(at, first, units_of(size)) : NULL;
    if (!p) {
        free(bytes);
        return false;
    }
    memcpy(p->key, key, sizeof(p->key));
    p->keyed = true;
    p->count = count;
    p->size = size;
    p->bytes = bytes;
    p->sum = mesh_hash_bytes(bytes, size, 0);
    p->used = draft;
    HASH_ADD(hh, by_key, key, sizeof(p->key), p);
    *out = (struct mesh_snap_part){p->first, count};
    return true;
}

size_t
meshd_pool_passing(void)
{
    size_t n = 0;
    for (const struct piece *p = pieces; p; p = p->next) {
        n += p->used < draft ? (size_t)p->units * MESH_SNAP_UNIT : 0;
    }
    return n;
}

bool
meshd_pool_each_new(meshd_pool_room *room, void *arg)
{
    for (const struct piece *p = pieces; p; p = p->next) {
        if (p->bytes && !room((size_t)p->first * MESH_SNAP_UNIT, p->size, arg)) {
            return false;
        }
    }
    return true;
}

void
meshd_pool_write(uint8_t *base)
{
    for (struct piece *p = pieces; p; p = p->next) {
        if (p->bytes) {
            memcpy(base + (size_t)p->first * MESH_SNAP_UNIT, p->bytes, p->size);
            free(p->bytes);
            p->bytes = NULL;
        }
    }
}

bool
meshd_pool_is_whole(const uint8_t *base)
{
    bool whole = true;
    for (struct piece *p = pieces; p; p = p->next) {
        if (p->keyed && !p->bytes &&
            mesh_hash_bytes(base + (size_t)p->first * MESH_SNAP_UNIT, p->size, 0) != p->sum) {
            unkey(p);
            whole = false;
        }
    }
    return whole;
}

void
meshd_pool_forget(void)
{
    for (struct piece *p = pieces; p; p = p->next) {
        if (!p->bytes) {
            unkey(p);
        }
    }
}

void
meshd_pool_info(struct meshd_pool_info *out)
{
    *out = (struct meshd_pool_info){.size = (size_t)all_units * MESH_SNAP_UNIT};
    for (const struct piece *p = pieces; p; p = p->next) {
        out->used += (size_t)p->units * MESH_SNAP_UNIT;
        out->tables += p->keyed;
    }
}
