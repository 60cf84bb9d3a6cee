/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_work: connections of this process that need driving: handshakes under way, bytes that wait
 * for room in the kernel, and connections that the program closed before they were done
 * [DESIGN D11]. Every wrapper that waits drives all of them. Empty in steady state: one load.
 *
 * Items live in this process's memory. A handshake's OpenSSL state is copied by fork like
 * everything else; slot.hs_step tells which copy is the current one: only a process whose item has
 * the slot's step may drive, and it advances both, under the slot's rx_lock. The others wait for the
 * phase to change. A child leaves all to its parent, but for connections that it uses itself.
 *
 * A call must not cost more because many peers connected and say nothing. The list is in the order of
 * the items' last sign of life; as long as it is short every pass looks at all of it, but of a long
 * one only at the warm beginning, and at all so rarely that this takes a few percent of the time.
 * A cold item becomes warm when its event comes by epoll, when the program uses it, or in that pass. Who waited and
 * is told of some items drives those; a call on a connection drives its item. Passes are for what the kernel does
 * not tell, at most one in a few microseconds for each item.
 *
 * Of several threads that wait one watches all items, the others what they wait for themselves.
 *
 * One lock for the list and all items. It is never held while sleeping in the kernel, and is taken
 * around fork. A signal handler above its holder finds shim_work_enter() false and does without.
 */
#ifndef SHIM_FLOW_WORK_H
#define SHIM_FLOW_WORK_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>

#include "shim/core/slot.h"
#include "shim/route/outlier.h"
#include "shim/route/pick.h"
#include "shim/tls/tls.h"

#define SHIM_NEVER      UINT64_MAX
#define SHIM_EARLY_MAX  (256u << 10) /* stands for the socket's send buffer before TLS */
#define SHIM_HS_OUT     8192u

/* The attempts of a connect() to a service (retry.c). CLOCK_MONOTONIC ns. */
struct shim_attempts {
    struct shim_pick pick;
    uint32_t left;      /* attempts after this one */
    uint64_t deadline;  /* of all together */
    uint64_t until;     /* of this one */
    uint64_t resume_at; /* when this one begins, 0: it has */
    uint32_t scope;     /* of a link-local address: sin6_scope_id, as the program gave it */
    struct shim_outlier_attempt outcome; /* of this one */
    uint8_t fault;      /* enum mesh_fault: why the first one waits, or NONE */
    uint64_t asked_service, route; /* for the list of connections, as there */
};

/* A service that may have limits; 0: none (limit.h). */
struct shim_limit_of {
    uint32_t limits;
    char service[MESH_SERVICE_MAX];
};

struct shim_work {
    struct shim_work *next, *prev, *chained; /* all; those of cookies that fall together */
    uint64_t cookie;
    uint64_t warm_at; /* CLOCK_MONOTONIC ns of its last sign of life */
    uint32_t slot, step;
    int fd;
    bool owned;    /* the program closed it; fd is our duplicate */
    bool answered; /* the peer has sent something */
    bool moved;    /* just now */
    bool looked_up; /* client: whom to expect, again, at the first answer */
    bool spoke;    /* server: the program wrote before the client did */
    bool may_be_plain, detected;
    bool ended;     /* so has the client, and meshd could not tell yet whose it is */
    bool plain;     /* it is; what was written early is still going out */
    bool dormant;   /* after fork, in the child: the parent's until the child uses the connection */
    bool helper;    /* closed here, other processes go on: only for the handshake, and for `early` */
    bool holds;     /* helper: counts as a descriptor of ours */
    _Atomic bool held; /* connect() has not been called yet: nobody may drive it */
    bool abandoned; /* another process drives this handshake now */
    bool tls_done;  /* the engine is done, its last flight is not out yet */
    bool handed;    /* to meshd, at exit, or given up: takes no more bytes */
    bool patient;   /* expires_at is the long one */
    struct shim_hs *hs;
    /* CLOCK_MONOTONIC ns */
    uint64_t started, grace_at, detect_at, ask_until, expires_at, linger_at;
    struct mesh_addr to; /* client: where it connected to */
    char expect_id[MESH_ID_MAX];
    char service[MESH_SERVICE_MAX]; /* client: the destination's name, for statistics */
    struct shim_limit_of limit; /* of the service whose it is */
    uint64_t wake_at; /* open and not readable until then, 0: not so (shape.c) */
    struct shim_attempts tries; /* client of a service: slot has ROUTED */
    uint8_t *early; /* plaintext taken before the handshake, [early_off, early_len) */
    size_t early_len, early_off;
    size_t early_urgent; /* where the last urgent one of them ends, or 0 */
    size_t early_common; /* of which another process has a copy: what was there at the fork */
    bool inherited;      /* made by fork */
    uint32_t awaited; /* so many first bytes tell what the client is; 0: not waited for (detect.c) */
    int own_lowat;    /* SO_RCVLOWAT without that */
    uint32_t in_len, out_len, out_off;
    uint8_t in[SHIM_REC_MAX];
    uint8_t out[SHIM_HS_OUT];
};

extern _Atomic int shim_work_count; /* items, and SHIM_WORK_AGED while connections end by time (age.h) */
#define SHIM_WORK_AGED (1 << 24)

static inline bool
shim_work_any(void)
{
    return __builtin_expect(atomic_load_explicit(&shim_work_count, memory_order_relaxed) > 0, 0);
}

static inline unsigned
shim_work_items(void)
{
    return (unsigned)atomic_load_explicit(&shim_work_count, memory_order_relaxed) % SHIM_WORK_AGED;
}

/* Items that sleep since fork, and inherited listeners that are not registered yet: poll and select
 * look whether one of theirs is among them (shim_conn_wake). */
bool shim_work_sleeps(void);
void shim_work_expect(int n); /* n more such listeners */
void shim_work_look(void);    /* they look from now on, for good: it costs a load for each descriptor */

bool shim_work_enter(void);
void shim_work_leave(void);

/* Under the lock: */
struct shim_work *shim_work_new(struct shim_slot *s, int fd); /* NULL: no memory */
struct shim_work *shim_work_first(void); /* of all, by .next */
struct shim_work *shim_work_of(const struct shim_slot *s);
struct shim_work *shim_work_by_cookie(uint64_t cookie);
void shim_work_drop(struct shim_work *w); /* closes fd if owned */

/* The program uses this connection: an item that slept since fork is ours to drive. */
void shim_work_wake(const struct shim_slot *s);

/* Another process connects what fd is here, too: an item that does no more than to see it done. */
void shim_work_watch(struct shim_slot *s, int fd);
/* Bit i: an item of region i is on the list. */
uint32_t shim_work_regions(void);
/* There is an item of s that can go on with its handshake. */
bool shim_work_has(const struct shim_slot *s);
bool shim_work_goes_on(const struct shim_slot *s); /* and it is the newest of all copies */

/* Something happens on this connection: the next pass is to look at its item. */
void shim_work_touch(const struct shim_slot *s);

/* Makes sure that the unsent tail of s is looked after. */
void shim_work_tail(struct shim_slot *s, int fd);

/* One pass over everything. */
void shim_work_drive(void);
/* What a call on this connection (NULL: on no connection) needs; everything only when that is due. */
void shim_work_drive_slot(const struct shim_slot *s);

/* Waits as ppoll(2) would for p[0..n), and drives meanwhile. Returns the number of entries with
 * events, or -errno; 0 at the deadline (CLOCK_MONOTONIC ns, SHIM_NEVER), and 0 as soon as the state
 * of `until` (NULL: of any connection) has changed, for the caller to look again. Sleeps without
 * the lock; a cancellation point. */
int shim_work_wait(struct pollfd *p, nfds_t n, uint64_t deadline, const sigset_t *mask,
                   struct shim_slot *until);

/* Changed since when? Who looks at a state, and waits if it is not yet as it should be, sees before that look:
 * what another thread changes in between ends the wait, too. */
struct shim_work_seen {
    unsigned changes;
    enum shim_phase phase;
    bool lazy;
};
struct shim_work_seen shim_work_see(const struct shim_slot *until);
int shim_work_wait_since(const struct shim_work_seen *before, struct pollfd *p, nfds_t n, uint64_t deadline,
                         const sigset_t *mask, struct shim_slot *until);

/* At exit: finishes what it can within the linger time, hands the rest to meshd. */
void shim_work_finish(bool goes_on);

void shim_work_before_fork(void);
void shim_work_after_fork(bool child);

/* Grows whenever a connection changes its phase or is declared established. */
extern _Atomic unsigned shim_work_changes;

/* Called, under the lock, when what a program may see of fd has changed; set by ready/. */
extern void (*shim_work_on_change)(int fd);

#endif
