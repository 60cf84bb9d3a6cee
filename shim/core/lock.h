/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_lock: a lock in memory that processes share. The word is the owner's thread id, so that a
 * holder that died can be told from one that works, and a signal handler that interrupts the
 * holder can be told from another thread.
 *
 * shim_lock_get: true when taken. False only when this very thread holds it already (we are in a
 * signal handler above it): the caller answers EAGAIN or leaves the work for later.
 * *died is set when the lock was taken over from a dead thread: what it guards may be half done.
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

int shim_tid(void); /* cached; right after fork and in a vfork child too */
void shim_lock_forked(void);

bool shim_lock_get(struct shim_lock *l, bool *died);
bool shim_lock_try(struct shim_lock *l);
void shim_lock_put(struct shim_lock *l);

#endif
