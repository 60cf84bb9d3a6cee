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

/* Who holds a listener, as the page's processes say. This one does not any more: true if `maker`, another of
 * them, is alive and has not said so yet. Then the listener is not its last holder's to leave: whoever comes
 * later sees this word, for it is said before the other's is read, with full barriers on both sides. */
bool shim_stat_let_go(uint64_t cookie, int32_t maker);
void shim_stat_holds(uint64_t cookie); /* it does */

static inline void
shim_stat_add(enum mesh_stat c, uint64_t n)
{
    struct mesh_page *p = atomic_load_explicit(&shim_page, memory_order_acquire);
    atomic_fetch_add_explicit(&p->stat[c], n, memory_order_relaxed);
}

__attribute__((cold)) void shim_stat_err(enum mesh_err e);

/* Around the choice of an endpoint, from before the look at the snapshot until what was chosen can be
 * seen by others: listed in the page, or counted in the live state, or given up. Whoever publishes a
 * snapshot and then finds nobody deciding knows that no connection goes by an older one any more: what
 * begins later reads the new one, for the count is raised before the snapshot is read (and the order is
 * kept by full barriers on both sides). Signals wait meanwhile: a handler that left by siglongjmp(3) would
 * leave the process deciding for ever, and what was counted for the choice with it. So nobody sleeps in it. */
struct shim_deciding {
    _Atomic uint32_t *count;
    uint64_t mask;  /* of signals */
    uint32_t forks; /* a child that returns into it did not count */
};
struct shim_deciding shim_stat_decide(void);
void shim_stat_decided(struct shim_deciding d);

/* Claims a record for the connection, or for this attempt of it; leaves s->conn 0 when the table is full.
 * service: the destination's name, "" if inbound. */
void shim_stat_conn_new(struct shim_slot *s, const char *service, unsigned attempts);
/* It has a local address: until then its record says port 0. */
void shim_stat_conn_local(const struct shim_slot *s);
/* Whose address was named, and by which rule it was led on: mesh_page_conn's asked_service and route. */
void shim_stat_conn_asked(const struct shim_slot *s, uint64_t service, uint64_t route);
/* A connect() that was refused before there was a connection. */
void shim_stat_refused(const struct mesh_addr *to, const char *service, enum mesh_err why);
/* Adds to its record: bits of enum mesh_how, and the system's errno (0: none). */
void shim_stat_conn_note(const struct shim_slot *s, uint32_t how, int no);
/* A call on its socket returned r (nothing if it is no error): notes what says that the connection is over, as a reset. */
__attribute__((cold)) void shim_stat_conn_broke(const struct shim_slot *s, long r);
struct mesh_page_conn *shim_stat_conn(const struct shim_slot *s); /* NULL if unlisted */
/* Who the peer has proved to be; opened: and it was let in, after so many microseconds. */
void shim_stat_conn_peer(const struct shim_slot *s, const char *peer_id, uint16_t cipher);
void shim_stat_conn_open(struct shim_slot *s, const char *peer_id, uint16_t cipher, uint64_t us);
/* Of another image of this process tree: it is in our list from here on. */
void shim_stat_conn_carried(struct shim_slot *s, const struct mesh_page_conn *from);
/* It leaves for an image that will list it, and nobody stays behind. */
void shim_stat_conn_moved(struct shim_slot *s);
/* This process has no descriptor of it any more; if another image lists it, we do not. */
void shim_stat_conn_left(const struct shim_slot *s);
/* The connection is plaintext and from now on none of ours: nobody will tell when it ends, so its
 * record ends here. */
void shim_stat_conn_plain(struct shim_slot *s);
/* connect() told the program that it is established. */
void shim_stat_connected(const struct shim_slot *s);
void shim_stat_conn_closed(struct shim_slot *s, enum mesh_err why);

#endif
