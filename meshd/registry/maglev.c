/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_maglev: the table of maglev, see table.h [Eisenbud et al., NSDI 2016, 3.4; weights as in Envoy]. Each member has
 * an order of its own of all entries; in turns each takes the first of its order that is free, the heaviest in every
 * turn, one of half its weight in every other.
 */
#include <stdlib.h>
#include <string.h>

#include "meshd/registry/table.h"

#define FREE        UINT16_MAX
#define MEMBER_BITS 16 /* MESH_HASH_MEMBERS */

struct taker {
    uint64_t at, skip; /* its order: at, at + skip ... */
    uint64_t taken;
};

static void
take(struct taker *t, uint16_t *table, uint32_t size, uint16_t member)
{
    while (table[t->at] != FREE) {
        t->at += t->skip;
        t->at -= t->at >= size ? size : 0;
    }
    table[t->at] = member;
    t->taken++;
}

/* Whose turn it is: a heap of turns with members below them, whose least is the first. */
static void
sink(uint64_t *heap, uint32_t n)
{
    uint64_t v = heap[0];
    uint32_t i = 0;
    for (uint32_t k; (k = 2 * i + 1) < n; i = k) {
        k += k + 1 < n && heap[k + 1] < heap[k];
        if (heap[k] >= v) {
            break;
        }
        heap[i] = heap[k];
    }
    heap[i] = v;
}

static void
fill(uint16_t *table, uint32_t size, struct taker *t, uint64_t *heap, const struct meshd_table_member *m, uint32_t n)
{
    uint32_t heaviest = 0;
    for (uint32_t i = 0; i < n; i++) {
        heaviest = m[i].weight > heaviest ? m[i].weight : heaviest;
        heap[i] = UINT64_C(1) << MEMBER_BITS | i; /* in order: a heap */
    }
    for (uint32_t k = 0; k < size; k++) {
        uint32_t i = (uint32_t)(heap[0] & ((1u << MEMBER_BITS) - 1));
        uint64_t turn = heap[0] >> MEMBER_BITS;
        take(&t[i], table, size, (uint16_t)i);
        uint64_t due = (t[i].taken * heaviest + m[i].weight - 1) / m[i].weight;
        heap[0] = (due > turn ? due : turn + 1) << MEMBER_BITS | i;
        sink(heap, n);
    }
}

uint8_t *
meshd_maglev_make(const struct meshd_table_rule *r, const struct meshd_table_member *m, uint32_t n)
{
    uint16_t *table = malloc(sizeof(*table) * (size_t)r->size);
    struct taker *t = calloc(n, sizeof(*t));
    uint64_t *heap = calloc(n, sizeof(*heap));
    if (!table || !t || !heap) {
        free(table);
        free(t);
        free(heap);
        return NULL;
    }
    memset(table, 0xff, sizeof(*table) * (size_t)r->size);
    for (uint32_t i = 0; i < n; i++) {
        t[i].at = meshd_table_hash(&m[i].addr, 0) % r->size;
        t[i].skip = meshd_table_hash(&m[i].addr, 1) % (r->size - 1) + 1;
    }
    fill(table, r->size, t, heap, m, n);
    free(t);
    free(heap);
    return (uint8_t *)table;
}
