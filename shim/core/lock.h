/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_lock: a lock in memory that processes share. The word is the owner's thread id, so that a
 * holder that died can be told from one that works, and a signal handler that interrupts the
 * holder can be told from another thread. A holder that a handler left by siglongjmp(3) is as one that
 * died: where on its stack the thread took the lock tells, as far as the next taker is not deeper.
 *
 * A holder may be stopped, or live in a pid namespace where its number says nothing to us. Nobody
 * waits for such a one for ever: SHIM_LOCK_STUCK.
 */
#ifndef SHIM_CORE_LOCK_H
#define SHIM_CORE_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct shim_lock {
    _Atomic int32_t owner; /* 0: free */
    _Atomic uint32_t waiters;
};

enum shim_lock_result {
    SHIM_LOCK_OK,
    SHIM_LOCK_INHERITED, /* taken over from a dead thread, or a frame that was left: what it guards
                            may be half done */
    SHIM_LOCK_OWN,       /* not taken: this very thread holds it (we are in a handler above it) */
    SHIM_LOCK_BUSY,      /* not taken, by shim_lock_poll: somebody works */
    SHIM_LOCK_STUCK,     /* not taken: its holder has been stopped for seconds */
};

extern uint64_t shim_lock_stuck_ns; /* how long is that; for tests */

int shim_tid(void); /* cached; right after fork and in a vfork child too */
/* foreign: our ids mean nothing to the other processes that share locks (another pid namespace). */
void shim_lock_forked(bool foreign);

/* No process or thread of that number runs any more. */
bool shim_lock_is_gone(int id);
/* The same of a process that was there `since` seconds after boot: its number may be another's now. */
bool shim_lock_is_gone_since(int id, uint32_t since);

enum shim_lock_result shim_lock_wait(struct shim_lock *l);
enum shim_lock_result shim_lock_poll(struct shim_lock *l); /* never sleeps */
void shim_lock_put(struct shim_lock *l);

/* Taken or not. */
static inline bool
shim_lock_get(struct shim_lock *l)
{
    return shim_lock_wait(l) <= SHIM_LOCK_INHERITED;
}

/* A lock of this process alone, over memory that no other process would mend. Signals wait meanwhile:
 * a handler that left by siglongjmp(3), or a cancelled thread, would leave it shut for ever, and what it
 * guards half done. So it is never held for long, nor while sleeping; but for memory faults of the
 * program's own buffers no handler runs above its holder. */
struct shim_private {
    struct shim_lock lock;
    uint64_t mask; /* the holder's */
};

/* Signals wait, but for a child's death that nobody handles, as while one is held; the result is for the other one.
 * They nest. */
uint64_t shim_signals_hold(void);
void shim_signals_release(uint64_t mask);

bool shim_private_enter(struct shim_private *p); /* false: this thread holds it */
void shim_private_leave(struct shim_private *p);
/* In the child of fork. `held`: the forking thread took it, for both. */
void shim_private_forked(struct shim_private *p, bool held);

#endif
