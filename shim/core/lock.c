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
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/single_threaded.h>

#include "shim/real.h"

#define TICKS   100u /* a second, in /proc [USER_HZ] */
#define FOREIGN  (1 << 30)                /* in the owner word: a number of another namespace */
#define NAP_NS   UINT64_C(10000000)

uint64_t shim_lock_stuck_ns = UINT64_C(10000000000);

static __thread int tid_cache;
static int foreign_bit;

__attribute__((hot)) int
shim_tid(void)
{
    /* A vfork child runs in our TLS with another pid; it is told apart only where it matters
     * (shim_fdtab_may_write). For locks both names are one thread of control. */
    if (!tid_cache) {
        tid_cache = sys_gettid() | foreign_bit;
    }
    return tid_cache;
}

void
shim_lock_forked(bool foreign)
{
    foreign_bit = foreign ? FOREIGN : 0;
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

/* Can we tell anything about that thread? */
static bool
is_visible(int owner)
{
    return owner > 0 && !(owner & FOREIGN) && !foreign_bit;
}

/* [proc(5)] "pid (comm) S ...": the letter; 0 when there is no such process, '?' if /proc is not there.
 * *started, unless NULL: field 22 in seconds since boot, 0 if it is not to be had. */
static char
state_of(int id, uint64_t *started)
{
    char path[32], text[512];
    if (started) {
        *started = 0;
    }
    if (id <= 0) {
        return '?'; /* to kill(2) a group of processes */
    }
    if (sys_call(SYS_kill, id, 0, 0, 0) == -ESRCH) {
        return 0;
    }
    snprintf(path, sizeof(path), "/proc/%d/stat", id);
    int fd = (int)sys_call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    long n = fd >= 0 ? sys_call(SYS_read, fd, text, sizeof(text) - 1, 0) : -1;
    if (fd >= 0) {
        (void)sys_close(fd);
    }
    text[n > 0 ? n : 0] = '\0';
    const char *end = strrchr(text, ')'), *at = end;
    char state = end ? end[2] : '?';
    for (int field = 2; at && started && field < 22; field++) {
        at = strchr(at + 1, ' ');
        if (at && field + 1 == 20 && state == 'Z' && strtoul(at + 1, NULL, 10) > 1) {
            state = 'S'; /* its first thread has ended, others go on */
        }
    }
    if (at && started) {
        *started = strtoull(at + 1, NULL, 10) / TICKS;
    }
    return state;
}

static bool
is_gone(char state)
{
    return state == 0 || state == 'Z' || state == 'X'; /* killed, and perhaps nobody has waited for it */
}

bool
shim_lock_is_gone(int id)
{
    return is_gone(state_of(id, NULL));
}

bool
shim_lock_is_gone_since(int id, uint32_t since)
{
    uint64_t started;
    return is_gone(state_of(id, &started)) || started > since;
}

static bool
is_dead(int owner)
{
    return is_visible(owner) && shim_lock_is_gone(owner);
}

/* What cannot be seen is believed to be stopped. */
static bool
is_stopped(int owner)
{
    char state = is_visible(owner) ? state_of(owner, NULL) : '?';
    return state == 'T' || state == 't' || state == '?';
}

/* Where on its stack this thread took its latest locks. Noted before a lock is taken, dropped when it was not
 * taken after all: of a lock that this thread holds, the newest note is the holder's. As locks are put in the
 * order of a stack, mostly, it is the newest of all that is looked for. */
#define NOTES 8u
static __thread struct {
    struct shim_lock *lock;
    uintptr_t frame;
} note[NOTES];
static __thread unsigned notes; /* a ring: the newest is the one before */

static unsigned
note_of(const struct shim_lock *l)
{
    for (unsigned back = 1; back <= NOTES; back++) {
        unsigned i = (notes - back) % NOTES;
        if (note[i].lock == l) {
            return i;
        }
    }
    return NOTES;
}

/* A handler may come after any instruction, and note and drop its own, or never return: an entry is ours
 * before it is filled. */
static inline void
take_note(struct shim_lock *l, uintptr_t frame)
{
    if (frame == 0) {
        return; /* no signal comes while it is held */
    }
    unsigned i = notes % NOTES;
    note[i].lock = NULL;
    atomic_signal_fence(memory_order_seq_cst);
    notes++;
    atomic_signal_fence(memory_order_seq_cst);
    note[i].frame = frame;
    note[i].lock = l;
    atomic_signal_fence(memory_order_seq_cst);
}

static inline void
drop_note(const struct shim_lock *l)
{
    unsigned i = (notes - 1) % NOTES;
    if (note[i].lock != l) {
        i = note_of(l);
        if (i < NOTES) {
            note[i].lock = NULL;
        }
        return;
    }
    note[i].lock = NULL;
    atomic_signal_fence(memory_order_seq_cst);
    notes--;
}

/* This thread has the lock. A handler above the holder is deeper, or on another stack. Who is not
 * deeper was not called from there: the holder was left by siglongjmp(3) in a handler, and will not
 * come back. Far away, nothing is certain. */
#define NEAR (64 << 10)
static bool
take_left(const struct shim_lock *l, uintptr_t frame)
{
    unsigned i = note_of(l);
    stack_t other;
    if (i == NOTES || frame < note[i].frame || frame >= note[i].frame + NEAR ||
        sys_call(SYS_sigaltstack, 0, &other, 0, 0) != 0 || other.ss_flags & SS_ONSTACK) {
        return false;
    }
    note[i].frame = frame;
    return true;
}

static inline __attribute__((always_inline)) bool
swap(struct shim_lock *l, int32_t seen, uintptr_t frame)
{
    take_note(l, frame);
    if (atomic_compare_exchange_strong(&l->owner, &seen, tid_cache ? tid_cache : shim_tid())) {
        return true;
    }
    drop_note(l);
    return false;
}

static enum shim_lock_result
try_once(struct shim_lock *l, int32_t *seen, uintptr_t frame)
{
    *seen = atomic_load(&l->owner);
    if (*seen == shim_tid()) {
        return take_left(l, frame) ? SHIM_LOCK_INHERITED : SHIM_LOCK_OWN;
    }
    return *seen == 0 && swap(l, 0, frame) ? SHIM_LOCK_OK : SHIM_LOCK_BUSY;
}

static bool
inherit(struct shim_lock *l, int32_t seen, uintptr_t frame)
{
    return is_dead(seen) && swap(l, seen, frame);
}

enum shim_lock_result
shim_lock_poll(struct shim_lock *l)
{
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    int32_t seen;
    enum shim_lock_result r = try_once(l, &seen, frame);
    return r == SHIM_LOCK_BUSY && inherit(l, seen, frame) ? SHIM_LOCK_INHERITED : r;
}

/* How long that took, at most what it should have: when all of a group were stopped, waiter too, that is
 * nobody's fault. *put: somebody let go of it. */
static uint64_t
sleep_on(struct shim_lock *l, int32_t seen, bool *put)
{
    struct timespec ts = {0, NAP_NS};
    uint64_t start = shim_now();
    atomic_fetch_add(&l->waiters, 1);
    long r = sys_call(SYS_futex, &l->owner, FUTEX_WAIT, seen, &ts);
    atomic_fetch_sub(&l->waiters, 1);
    *put = r == 0 || r == -EAGAIN;
    uint64_t ns = shim_now() - start;
    return ns < 2 * NAP_NS ? ns : 2 * NAP_NS;
}

static __attribute__((noinline)) enum shim_lock_result
wait_from(struct shim_lock *l, uintptr_t frame)
{
    uint64_t waited = 0;
    int32_t whom = 0;
    for (unsigned spin = 0;; spin++) {
        int32_t seen;
        enum shim_lock_result r = try_once(l, &seen, frame);
        if (r != SHIM_LOCK_BUSY) {
            return r;
        }
        if (spin < 100) {
            pause_cpu();
            continue;
        }
        waited = seen == whom ? waited : 0;
        whom = seen;
        bool put = false;
        waited += sleep_on(l, seen, &put);
        if (!put && inherit(l, seen, frame)) { /* the look takes a descriptor for a moment */
            return SHIM_LOCK_INHERITED;
        }
        if (waited > shim_lock_stuck_ns) {
            if (atomic_load(&l->owner) == seen && is_stopped(seen)) {
                return SHIM_LOCK_STUCK;
            }
            waited = 0;
        }
    }
}

__attribute__((hot)) enum shim_lock_result
shim_lock_wait(struct shim_lock *l)
{
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    if (atomic_load(&l->owner) == 0 && swap(l, 0, frame)) {
        return SHIM_LOCK_OK;
    }
    return wait_from(l, frame);
}

/* A handler that comes in between finds the lock without a note, and takes nothing for left. */
__attribute__((hot)) void
shim_lock_put(struct shim_lock *l)
{
    drop_note(l);
    atomic_store(&l->owner, 0);
    if (atomic_load(&l->waiters)) {
        (void)sys_call(SYS_futex, &l->owner, FUTEX_WAKE, 1, 0);
    }
}

#define BIT(sig) (UINT64_C(1) << ((sig) - 1))
#define SIGSETXID 33 /* libc's: setuid in another thread waits for it */

/* The kernel kills who blocks a fault. */
static const uint64_t may_wait = ~(BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGILL) | BIT(SIGFPE) | BIT(SIGTRAP) |
                                   BIT(SIGSYS) | BIT(SIGSETXID));

static void
set_mask(int how, const uint64_t *mask, uint64_t *old)
{
    (void)sys_call(SYS_rt_sigprocmask, how, mask, old, sizeof(*mask));
}

/* A signal that nobody handles is dropped when it is sent; but not while its thread blocks it, and then it ends other
 * threads' calls with EINTR [kernel/signal.c: sig_ignored; signal(7)]. One comes by itself: a child's death. */
static bool
drops_sigchld(void)
{
    struct {
        void (*handler)(int);
        unsigned long flags, restorer;
        uint64_t mask;
    } now = {NULL, 0, 0, 0};
    return !__libc_single_threaded && sys_call(SYS_rt_sigaction, SIGCHLD, 0, &now, sizeof(now.mask)) == 0 &&
           now.handler == SIG_DFL;
}

uint64_t
shim_signals_hold(void)
{
    uint64_t old = 0, mask = drops_sigchld() ? may_wait & ~BIT(SIGCHLD) : may_wait;
    set_mask(SIG_BLOCK, &mask, &old);
    return old;
}

void
shim_signals_release(uint64_t mask)
{
    set_mask(SIG_SETMASK, &mask, NULL);
}

bool
shim_private_enter(struct shim_private *p)
{
    uint64_t old = shim_signals_hold();
    if (wait_from(&p->lock, 0) > SHIM_LOCK_INHERITED) {
        shim_signals_release(old);
        return false;
    }
    p->mask = old;
    return true;
}

void
shim_private_leave(struct shim_private *p)
{
    uint64_t old = p->mask;
    shim_lock_put(&p->lock);
    shim_signals_release(old);
}

void
shim_private_forked(struct shim_private *p, bool held)
{
    atomic_store(&p->lock.owner, 0);
    if (held) {
        shim_signals_release(p->mask);
    }
}
