/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_egress: see egress.h.
 *
 * One word says that an address was told for a pattern, a hash of both; it has its place in one of SETS rows,
 * by the address. In a full row the word that was told or used longest ago makes room. Writers exchange whole
 * words, so nobody needs a lock, and fork and signal handlers find the table whole at any moment.
 */
#include "shim/route/egress.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <string.h>

#include "shim/core/env.h"
#include "shim/link/link.h"

#define SETS 128u
#define WAYS 32u

static struct told {
    _Atomic uint64_t word; /* 0: free; those behind are free, too */
    _Atomic uint32_t when;
} table[SETS][WAYS];
static _Atomic uint32_t clock_hand;

#define ODD UINT64_C(0x9e3779b97f4a7c15)

static uint64_t
hash_of(const struct mesh_addr *a)
{
    uint64_t high, low;
    memcpy(&high, a->ip, 8);
    memcpy(&low, a->ip + 8, 8);
    uint64_t h = (high * ODD) ^ low;
    h = (h ^ h >> 30) * UINT64_C(0xbf58476d1ce4e5b9); /* [splitmix64] */
    h = (h ^ h >> 27) * UINT64_C(0x94d049bb133111eb);
    return h ^ h >> 31;
}

static uint64_t
word_of(uint64_t address, uint64_t pattern)
{
    uint64_t h = (address ^ pattern * ODD) * UINT64_C(0xbf58476d1ce4e5b9);
    h ^= h >> 31;
    return h ? h : 1;
}

static uint32_t
tick(void)
{
    return atomic_fetch_add_explicit(&clock_hand, 1, memory_order_relaxed) + 1;
}

/* The word's place in the row, or NULL. */
static struct told *
find(struct told *row, uint64_t word)
{
    for (uint32_t i = 0; i < WAYS; i++) {
        uint64_t w = atomic_load_explicit(&row[i].word, memory_order_relaxed);
        if (w == word) {
            return &row[i];
        }
        if (w == 0) {
            break;
        }
    }
    return NULL;
}

/* A free place, or the oldest word's; the clock's overflow is nothing but an odd choice. */
static struct told *
make_room(struct told *row, uint32_t now, uint64_t *was)
{
    struct told *oldest = row;
    for (uint32_t i = 0; i < WAYS; i++) {
        *was = atomic_load_explicit(&row[i].word, memory_order_relaxed);
        if (*was == 0) {
            return &row[i];
        }
        if (now - atomic_load_explicit(&row[i].when, memory_order_relaxed) >
            now - atomic_load_explicit(&oldest->when, memory_order_relaxed)) {
            oldest = &row[i];
        }
    }
    *was = atomic_load_explicit(&oldest->word, memory_order_relaxed);
    return oldest;
}

static void
keep(uint64_t address, uint64_t pattern)
{
    struct told *row = table[address % SETS];
    uint64_t word = word_of(address, pattern), was = 0;
    struct told *t = find(row, word);
    for (uint32_t tries = 0; !t && tries < 2 * WAYS; tries++) { /* each lost one: another thread kept something */
        uint32_t now = tick();
        struct told *at = make_room(row, now, &was);
        atomic_store_explicit(&at->when, now, memory_order_relaxed);
        t = atomic_compare_exchange_strong(&at->word, &was, word) ? at : find(row, word);
    }
    if (t) {
        atomic_store_explicit(&t->when, tick(), memory_order_relaxed);
    }
}

bool
shim_egress_was_told(const struct mesh_addr *a, uint64_t pattern)
{
    uint64_t address = hash_of(a);
    struct told *t = find(table[address % SETS], word_of(address, pattern));
    if (t) {
        atomic_store_explicit(&t->when, tick(), memory_order_relaxed);
    }
    return t != NULL;
}

/* The listed patterns that take the name; a damaged snapshot lists none. */
static bool
begin(const char *name, struct mesh_snap_patterns *out)
{
    int saved = errno;
    struct mesh_snap snap = {0};
    out->count = 0;
    if (shim_env.on && name) {
        snap = shim_link_snapshot();
    }
    bool listed = snap.map && mesh_snap_patterns(&snap, name, out) == MESH_OK && out->count > 0;
    errno = saved;
    return listed;
}

static void
keep_all(const struct mesh_snap_patterns *p, const struct mesh_addr *a)
{
    for (uint32_t i = 0; i < p->count; i++) {
        keep(hash_of(a), p->key[i]);
    }
}

void
shim_egress_list(const char *name, const struct addrinfo *list)
{
    struct mesh_snap_patterns p;
    struct mesh_addr a;
    if (!list || !begin(name, &p)) {
        return;
    }
    for (; list; list = list->ai_next) {
        if (mesh_addr_from(&a, list->ai_addr, list->ai_addrlen)) {
            keep_all(&p, &a);
        }
    }
}

void
shim_egress_host(const char *name, const struct hostent *host)
{
    struct mesh_snap_patterns p;
    if (!host || !begin(name, &p)) {
        return;
    }
    bool v4 = host->h_addrtype == AF_INET && host->h_length == 4;
    bool v6 = host->h_addrtype == AF_INET6 && host->h_length == 16;
    for (char **at = host->h_addr_list; (v4 || v6) && *at; at++) {
        struct mesh_addr a = {.ip = {[10] = 0xff, [11] = 0xff}};
        memcpy(v4 ? a.ip + 12 : a.ip, *at, (size_t)host->h_length);
        keep_all(&p, &a);
    }
}
