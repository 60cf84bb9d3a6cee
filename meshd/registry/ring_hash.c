/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_ring: the ring of ring_hash, see table.h: points of all members in rising order, each the hash of an address
 * and a number. A member's points are its own whoever else is there, and how many there are depends on the others as
 * little as can be: the heaviest has least to 4 * least of them. So who leaves takes his points along and leaves
 * those of the others, and their connections, alone. (Envoy divides least among all: there each that comes or goes
 * changes how many the others have.) Only when that made more than 16 * least points are these divided by weight; and
 * the lightest has 1 point, as long as that does not make more than `most`.
 */
#include <stdlib.h>
#include <string.h>

#include "meshd/registry/table.h"

#define SPAN   16u /* times `least`: more points there are not, */
#define SPARSE 16u /* but for those that the lightest has in any case */

uint32_t
meshd_ring_points(const struct meshd_ring *ring, uint32_t weight)
{
    uint64_t n = (weight * ring->times + ring->of / 2) / ring->of;
    return n ? (uint32_t)n : 1;
}

uint64_t
meshd_ring_sum(const struct meshd_ring *ring, const struct meshd_table_member *m, uint32_t n)
{
    uint64_t all = 0;
    for (uint32_t i = 0; i < n; i++) {
        all += meshd_ring_points(ring, m[i].weight);
    }
    return all;
}

static struct meshd_ring
larger(struct meshd_ring a, struct meshd_ring b)
{
    return a.times * b.of > b.times * a.of ? a : b;
}

static struct meshd_ring
smaller(struct meshd_ring a, struct meshd_ring b)
{
    return a.times * b.of > b.times * a.of ? b : a;
}

struct meshd_ring
meshd_ring_scale(const struct meshd_table_rule *r, const struct meshd_table_member *m, uint32_t n)
{
    struct meshd_ring ring = {r->least, 1};
    uint64_t all = 0;
    uint32_t heaviest = 1, lightest = UINT32_MAX;
    for (uint32_t i = 0; i < n; i++) {
        all += m[i].weight;
        heaviest = m[i].weight > heaviest ? m[i].weight : heaviest;
        lightest = m[i].weight < lightest ? m[i].weight : lightest;
    }
    while (ring.of * 4 <= heaviest) {
        ring.of *= 4;
    }
    if (meshd_ring_sum(&ring, m, n) > (uint64_t)SPAN * r->least) {
        ring = larger((struct meshd_ring){(uint64_t)SPAN * r->least, all},
                      smaller((struct meshd_ring){SPARSE, lightest}, ring));
    }
    ring = larger(ring, (struct meshd_ring){1, lightest});
    return meshd_ring_sum(&ring, m, n) > r->most ? (struct meshd_ring){r->most, all} : ring;
}

/* By the upper half, which is a point; those that fall together stay in the order of members. */
static void
sort(uint64_t *v, uint64_t *room, uint32_t n)
{
    for (unsigned shift = 32; shift < 64; shift += 8) {
        uint32_t at[256] = {0}, before = 0;
        for (uint32_t i = 0; i < n; i++) {
            at[v[i] >> shift & 255]++;
        }
        for (unsigned k = 0; k < 256; k++) {
            uint32_t here = at[k];
            at[k] = before;
            before += here;
        }
        for (uint32_t i = 0; i < n; i++) {
            room[at[v[i] >> shift & 255]++] = v[i];
        }
        uint64_t *other = v;
        v = room;
        room = other;
    }
}

uint8_t *
meshd_ring_make(const struct meshd_table_rule *r, const struct meshd_table_member *m, uint32_t n)
{
    struct meshd_ring ring = meshd_ring_scale(r, m, n);
    uint32_t all = (uint32_t)meshd_ring_sum(&ring, m, n), k = 0;
    uint64_t *v = calloc(2 * (size_t)all, sizeof(*v));
    uint8_t *out = malloc(6 * (size_t)all);
    for (uint32_t i = 0; v && out && i < n; i++) {
        for (uint32_t p = meshd_ring_points(&ring, m[i].weight); p > 0; p--) {
            v[k++] = (meshd_table_hash(&m[i].addr, p) & ~UINT64_C(0xffffffff)) | i;
        }
    }
    if (!v || !out) {
        free(v);
        free(out);
        return NULL;
    }
    sort(v, v + all, all);
    for (uint32_t i = 0; i < all; i++) {
        uint32_t point = (uint32_t)(v[i] >> 32);
        uint16_t member = (uint16_t)v[i];
        memcpy(out + 4 * (size_t)i, &point, sizeof(point));
        memcpy(out + 4 * (size_t)all + 2 * (size_t)i, &member, sizeof(member));
    }
    free(v);
    return out;
}
