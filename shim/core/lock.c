/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_lock: see lock.h.
 *
 * Taking: compare-and-swap 0 -> tid with acquire order; releasing: store 0 with release order, so
 * what the last holder wrote is seen. A waiter announces itself before it sleeps and sleeps only
 * if the owner word is still what it saw; the releaser reads `waiters` after the store (both
 * sequentially consistent), so one of the two sees the other. The sleep is bounded, after which
 * the owner's life is checked: no hang on a holder that was killed.
 */
#include "shim/core/lock.h"

#include <errno.h>
#include <linux/futex.h>

#include "shim/real.h"

static __thread int tid_cache;

int
shim_tid(void)
{
    /* A vfork child runs in our TLS with another pid; it is told apart only where it matters
     * (shim_fdtab_may_write). For locks both names are one thread of control. */
    if (!tid_cache) {
        tid_cache = sys_gettid();
    }
    return tid_cache;
}

void
shim_lock_forked(void)
{
    tid_cache = 0;
}

static inline void
pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool
is_dead(int tid)
{
    return tid > 0 && sys_call(SYS_kill, tid, 0, 0, 0) == -ESRCH;
}

bool
shim_lock_try(struct shim_lock *l)
{
    int32_t zero = 0;
    return atomic_compare_exchange_strong(&l->owner, &zero, shim_tid());
}

bool
shim_lock_get(struct shim_lock *l, bool *died)
{
    int me = shim_tid();
    for (unsigned spin = 0;; spin++) {
        int32_t seen = 0;
        if (atomic_compare_exchange_strong(&l->owner, &seen, me)) {
            return true;
        }
        if (seen == me) {
            return false;
        }
        if (spin < 100) {
            pause_cpu();
            continue;
        }
        struct timespec ts = {0, 10000000};
        atomic_fetch_add(&l->waiters, 1);
        (void)sys_call(SYS_futex, &l->owner, FUTEX_WAIT, seen, &ts);
        atomic_fetch_sub(&l->waiters, 1);
        if (is_dead(seen) && atomic_compare_exchange_strong(&l->owner, &seen, me)) {
            if (died) {
                *died = true;
            }
            return true;
        }
    }
}

void
shim_lock_put(struct shim_lock *l)
{
    atomic_store(&l->owner, 0);
    if (atomic_load(&l->waiters)) {
        (void)sys_call(SYS_futex, &l->owner, FUTEX_WAKE, 1, 0);
    }
}
