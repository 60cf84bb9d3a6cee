/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_edge: see edge.h.
 */
#include "shim/core/edge.h"

#include <string.h>

#define PROBES 16u /* then it is one of the others */

static void
add(_Atomic uint64_t *to, uint64_t n)
{
    atomic_fetch_add_explicit(to, n, memory_order_relaxed);
}

static uint64_t
hash_text(uint64_t h, const char *s, size_t cap)
{
    for (size_t i = 0; i < cap && s[i]; i++) {
        h = (h ^ (uint8_t)s[i]) * UINT64_C(0x100000001b3);
    }
    return (h ^ 0xff) * UINT64_C(0x100000001b3); /* FNV-1a; 0xff ends the text */
}

static bool
is_edge_of(const struct mesh_page_edge *e, const struct mesh_page_conn *c, const char *peer_id)
{
    return e->mark == c->mark && e->outbound == c->outbound && e->plaintext == c->plaintext &&
           strncmp(e->peer_id, peer_id, sizeof(e->peer_id)) == 0 &&
           strncmp(e->service, c->service, sizeof(e->service)) == 0;
}

static void
fill(struct mesh_page_edge *e, const struct mesh_page_conn *c, const char *peer_id)
{
    e->outbound = c->outbound;
    e->plaintext = c->plaintext;
    e->mark = c->mark;
    for (size_t i = 0; i < sizeof(e->peer_id) - 1 && peer_id[i]; i++) {
        e->peer_id[i] = peer_id[i];
    }
    memcpy(e->service, c->service, sizeof(e->service));
    /* Release: who sees READY sees the key. */
    atomic_store_explicit(&e->state, MESH_EDGE_READY, memory_order_release);
}

/* Two processes may make the same edge at once: meshd adds what has one key. */
static struct mesh_page_edge *
edge_of(struct mesh_page *p, const struct mesh_page_conn *c, const char *peer_id)
{
    struct mesh_page_edge *all = mesh_page_edges(p);
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ c->mark ^ (uint64_t)c->outbound << 1 ^ c->plaintext;
    h = hash_text(h, peer_id, sizeof(c->peer_id));
    h = hash_text(h, c->service, sizeof(c->service));
    h ^= h >> 32;
    for (uint32_t i = 0; i < PROBES; i++) {
        struct mesh_page_edge *e =
            &all[MESH_PAGE_OTHERS + (h + i) % (MESH_PAGE_EDGES - MESH_PAGE_OTHERS)];
        uint32_t seen = atomic_load_explicit(&e->state, memory_order_acquire);
        if (seen == MESH_EDGE_READY && is_edge_of(e, c, peer_id)) {
            return e;
        }
        if (seen == MESH_EDGE_FREE &&
            atomic_compare_exchange_strong(&e->state, &seen, MESH_EDGE_CLAIMED)) {
            fill(e, c, peer_id);
            return e;
        }
    }
    return &all[c->outbound ? 0 : 1];
}

static void
latency(_Atomic uint64_t *buckets, _Atomic uint64_t *sum, uint64_t us)
{
    static const uint32_t bound[] = MESH_PAGE_LATENCY_US;
    unsigned i = 0;
    while (i < MESH_PAGE_LATENCIES - 1 && us > bound[i]) {
        i++;
    }
    add(&buckets[i], 1);
    add(sum, us);
}

static void
count_attempts(struct mesh_page_edge *e, const struct mesh_page_conn *c)
{
    if (c->outbound && c->attempts) {
        add(&e->attempts, c->attempts);
        add(&e->retries, c->attempts - 1u);
    }
}

static struct mesh_page_edge *
at(struct mesh_page *p, uint16_t edge)
{
    return edge > 0 && edge <= MESH_PAGE_EDGES ? &mesh_page_edges(p)[edge - 1] : NULL;
}

uint16_t
shim_edge_find(struct mesh_page *p, const struct mesh_page_conn *c)
{
    return (uint16_t)(edge_of(p, c, c->peer_id) - mesh_page_edges(p) + 1);
}

void
shim_edge_opened(struct mesh_page *p, struct mesh_page_conn *c)
{
    c->edge = shim_edge_find(p, c);
    struct mesh_page_edge *e = at(p, c->edge);
    add(&e->opened, 1);
    count_attempts(e, c);
    if (!c->plaintext) {
        latency(e->handshake, &e->handshake_sum_us, c->handshake_us);
    }
    if (c->connect_us) { /* lazily: the program was told before */
        latency(e->connect, &e->connect_sum_us, c->connect_us);
    }
}

void
shim_edge_connected(struct mesh_page *p, struct mesh_page_conn *c, uint64_t us)
{
    struct mesh_page_edge *e = at(p, c->edge);
    c->connect_us = us == 0 ? 1 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
    if (e) {
        latency(e->connect, &e->connect_sum_us, c->connect_us);
    }
}

void
shim_edge_ended(struct mesh_page *p, struct mesh_page_conn *c)
{
    uint32_t how = atomic_load_explicit(&c->how, memory_order_relaxed);
    struct mesh_page_edge *e = at(p, c->edge);
    enum mesh_flag f = mesh_flag_of(c->outbound, (enum mesh_err)c->reason, how);
    if (how & MESH_HOW_RETRIED) {
        return;
    }
    if (!e) {
        e = edge_of(p, c, c->peer_id); /* known of a caller that is turned away, of no other */
        count_attempts(e, c);
        add(&e->failed[f], 1);
        return;
    }
    add(&e->tx_bytes, atomic_load_explicit(&c->tx_bytes, memory_order_relaxed));
    add(&e->rx_bytes, atomic_load_explicit(&c->rx_bytes, memory_order_relaxed));
    add(&e->closed[f], 1);
}

void
shim_edge_moved(struct mesh_page *p, uint16_t edge, uint64_t tx, uint64_t rx)
{
    struct mesh_page_edge *e = at(p, edge);
    if (e) {
        add(&e->tx_bytes, tx);
        add(&e->rx_bytes, rx);
    }
}

void
shim_edge_unlisted(struct mesh_page *p, bool outbound, bool opened)
{
    struct mesh_page_edge *e = &mesh_page_edges(p)[outbound ? 0 : 1];
    add(opened ? &e->opened : &e->closed[MESH_FLAG_NONE], 1);
}

void
shim_edge_number(struct mesh_page *p, struct mesh_page_conn *c)
{
    c->number = atomic_fetch_add(&p->ended, 1) + 1;
}

void
shim_edge_publish(struct mesh_page *p, uint64_t index, uint64_t number)
{
    /* Release: who finds the number finds the entry closed. */
    atomic_store_explicit(&mesh_page_ring(p)[number % MESH_PAGE_CONNS], MESH_RING_WORD(number, index),
                          memory_order_release);
}
