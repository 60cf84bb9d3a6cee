/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_stat: counters and connection records in the statistics page (mesh/page.h). Before meshd
 * gave a page they go to one of our own that nobody reads. Relaxed atomics; any thread, fork-safe.
 */
#ifndef SHIM_CORE_STAT_H
#define SHIM_CORE_STAT_H

#include "mesh/page.h"
#include "shim/core/slot.h"

extern struct mesh_page *_Atomic shim_page;

/* Takes over a mapped page; earlier counts stay where they are. */
void shim_stat_page(struct mesh_page *page);
void shim_stat_forked(void); /* adds the child to the page's processes */

static inline void
shim_stat_add(enum mesh_stat c, uint64_t n)
{
    struct mesh_page *p = atomic_load_explicit(&shim_page, memory_order_acquire);
    atomic_fetch_add_explicit(&p->stat[c], n, memory_order_relaxed);
}

void shim_stat_err(enum mesh_err e);

/* Claims a record for the connection; leaves s->conn 0 when the table is full. */
void shim_stat_conn_new(struct shim_slot *s, bool plaintext);
struct mesh_page_conn *shim_stat_conn(const struct shim_slot *s); /* NULL if unlisted */
void shim_stat_conn_open(struct shim_slot *s, const char *peer_id, uint16_t cipher, uint64_t us);
void shim_stat_conn_closed(struct shim_slot *s, enum mesh_err why);

#endif
