/* SPDX-License-Identifier: Apache-2.0
 *
 * heap: which connection is due next. A binary heap of pairs; each connection is in it once at most, which is
 * the caller's to see to.
 */
#ifndef MESHLOAD_HEAP_H
#define MESHLOAD_HEAP_H

#include <stdint.h>

struct heap_item {
    uint64_t due;
    unsigned who;
};

struct heap {
    unsigned n;
    struct heap_item *item; /* room for all */
};

static inline void
heap_push(struct heap *h, struct heap_item x)
{
    unsigned i = h->n++;
    for (; i > 0 && h->item[(i - 1) / 2].due > x.due; i = (i - 1) / 2) {
        h->item[i] = h->item[(i - 1) / 2];
    }
    h->item[i] = x;
}

static inline struct heap_item
heap_pop(struct heap *h)
{
    struct heap_item first = h->item[0], x = h->item[--h->n];
    unsigned i = 0, k;
    for (; (k = 2 * i + 1) < h->n; i = k) {
        k += k + 1 < h->n && h->item[k + 1].due < h->item[k].due;
        if (h->item[k].due >= x.due) {
            break;
        }
        h->item[i] = h->item[k];
    }
    h->item[i] = x;
    return first;
}

#endif
