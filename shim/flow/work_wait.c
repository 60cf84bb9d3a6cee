/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_work: waiting, see work.h.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/core/fdtab.h"
#include "shim/flow/age.h"
#include "shim/flow/conn.h"
#include "shim/flow/hs.h"
#include "shim/flow/work.h"
#include "shim/flow/work_int.h"
#include "shim/real.h"

#define TICK_NS UINT64_C(5000000)
#define SHORT_MS 1
#define FEW 64u

/* Of the threads that wait one watches all items, the first that comes; the others only what they wait for, or each
 * event would wake them all. It says until when, for it may never come back from its sleep [longjmp, cancellation]; if
 * it comes back for good before, the others look each TICK_NS whether there is one. */
static _Atomic uint64_t watched_until;

struct wait {
    struct pollfd *all, few[FEW];
    uint64_t *cookies, few_cookies[FEW]; /* of the items of all[n..total) */
    size_t bytes; /* mapped, 0 when there were few */
    nfds_t n, total, room;
    bool watches;           /* all items */
    uint64_t passed;        /* when all items were looked at */
    uint64_t deadline, due; /* when the sleep ends; when all items are to be looked at again */
};

static bool
make_room(struct wait *w, nfds_t n)
{
    nfds_t items = (nfds_t)shim_work_items() + 8;
    w->room = n + (items < SHIM_WORK_WARM ? items : SHIM_WORK_WARM);
    w->all = w->few;
    w->cookies = w->few_cookies;
    w->bytes = 0;
    if (w->room > FEW) {
        w->bytes = w->room * (sizeof(*w->cookies) + sizeof(*w->all));
        void *p = mmap(NULL, w->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) {
            return false;
        }
        w->cookies = p;
        w->all = (struct pollfd *)(w->cookies + w->room);
    }
    return true;
}

static void
add(struct wait *w, const struct shim_work *i)
{
    short events = i ? shim_hs_events(i) : 0;
    uint64_t at = i ? shim_hs_deadline(i) : SHIM_NEVER;
    w->due = at < w->due ? at : w->due;
    if (events && w->total < w->room) {
        w->cookies[w->total - w->n] = i->cookie;
        w->all[w->total++] = (struct pollfd){i->fd, events, 0};
    }
}

static void
add_all(struct wait *w, uint64_t now)
{
    uint64_t tick = w->passed + TICK_NS, age = shim_age_next();
    bool all = !shim_work_is_long();
    unsigned k = 0;
    for (struct shim_work *i = shim_work_first(); i && (all || shim_work_is_warm(i, k, now)); i = i->next, k++) {
        add(w, i);
    }
    /* Another thread or process may take the bytes that were to wake us, and finish our connection. */
    w->due = shim_work_first() && tick < w->due ? tick : w->due;
    w->due = !all && shim_work_full_at < w->due ? shim_work_full_at : w->due;
    w->due = age < w->due ? age : w->due;
}

/* What the program waits for: shim_ready_poll has complemented the numbers of what is hidden. */
static void
add_own(struct wait *w, const struct shim_slot *until)
{
    for (nfds_t i = 0; i < w->n; i++) {
        int fd = w->all[i].fd;
        const struct shim_slot *s = shim_conn_slot(fd < 0 ? ~fd : fd);
        add(w, s ? shim_work_of(s) : NULL);
    }
    add(w, until ? shim_work_of(until) : NULL);
}

/* The program's entries, then ours. `until` may be what only another process can finish. */
static bool
collect(struct wait *w, const struct pollfd *p, nfds_t n, const struct shim_slot *until)
{
    uint64_t now = shim_now(), tick = now + TICK_NS;
    if (!make_room(w, n)) {
        return false;
    }
    if (n) {
        memcpy(w->all, p, n * sizeof(*p));
    }
    w->total = w->n = n;
    w->due = SHIM_NEVER;
    w->watches = false;
    if (!shim_work_enter()) {
        return true;
    }
    if (now >= watched_until) {
        add_all(w, now);
        w->watches = true;
    } else {
        add_own(w, until);
    }
    w->deadline = w->due < w->deadline ? w->due : w->deadline;
    bool ticks = !w->watches || (until && shim_slot_phase(until) < SHIM_PHASE_OPEN);
    w->deadline = ticks && tick < w->deadline ? tick : w->deadline;
    if (w->watches) {
        watched_until = shim_work_first() ? w->deadline + TICK_NS : 0;
    }
    shim_work_leave();
    return true;
}

/* The program may have forbidden itself ppoll. */
static int
sleep_filtered(const struct wait *w, struct timespec *ts, const sigset_t *mask)
{
    int ms = ts ? (int)(ts->tv_sec * 1000 + (ts->tv_nsec + 999999) / 1000000) : -1;
    long r = sys_call6(SYS_ppoll, (long)w->all, (long)w->total, (long)ts, (long)mask, 8, 0);
    if (r == -EPERM) {
        r = sys_poll(w->all, w->total, ms);
    }
    return (int)r;
}

/* Our descriptors are more than the program allows itself [ppoll(2), EINVAL; setrlimit(2)]. */
static int
sleep_short(struct wait *w)
{
    w->due = 0;
    return (int)sys_poll(w->all, w->n, SHORT_MS);
}

static int
sleep_once(struct wait *w, const sigset_t *mask)
{
    struct timespec ts, *tp = NULL;
    if (w->deadline != SHIM_NEVER) {
        uint64_t now = shim_now(), left = w->deadline > now ? w->deadline - now : 0;
        ts = (struct timespec){(time_t)(left / 1000000000), (long)(left % 1000000000)};
        tp = &ts;
    }
    int r = shim_filter_any() ? sleep_filtered(w, tp, mask)
                              : shim_real.ppoll(w->all, w->total, tp, mask);
    r = r < 0 && !shim_filter_any() ? -errno : r;
    return r == -EINVAL && w->total > w->n ? sleep_short(w) : r;
}

struct shim_work_seen
shim_work_see(const struct shim_slot *s)
{
    struct shim_work_seen seen = {.changes = atomic_load(&shim_work_changes)};
    if (s) {
        seen.phase = shim_slot_phase(s);
        seen.lazy = shim_slot_has(s, SHIM_SF_LAZY);
    }
    return seen;
}

static bool
has_changed(struct shim_slot *until, const struct shim_work_seen *before)
{
    if (until && !shim_work_has(until)) {
        (void)shim_conn_is_orphan(until);
    }
    struct shim_work_seen now = shim_work_see(until);
    if (!until) {
        return now.changes != before->changes;
    }
    return (now.phase != SHIM_PHASE_CONNECTING && now.phase != SHIM_PHASE_HANDSHAKE) ||
           now.phase != before->phase || now.lazy != before->lazy;
}

/* What a socket shows that is shut for writing, while its unsent bytes keep ours from being shut in
 * the kernel: who waits for room must learn that there will be none [tcp_poll]. */
static short
shut_events(const struct pollfd *p)
{
    struct shim_slot *s = shim_conn_slot(p->fd);
    if (!s || !shim_slot_has(s, SHIM_SF_FIN_DUE)) {
        return 0;
    }
    return (short)((p->events & POLLOUT) | (shim_slot_has(s, SHIM_SF_RX_SHUT) ? POLLHUP : 0));
}

static void
release_wait(struct wait *w)
{
    if (w->watches) {
        watched_until = 0; /* who began to watch as we were late watches as well */
    }
    if (w->bytes) {
        munmap(w->cookies, w->bytes);
    }
}

/* The items of which the kernel told something. */
static void
drive_told(const struct wait *w)
{
    int saved = errno;
    bool entered = false;
    for (nfds_t i = w->n; i < w->total && shim_work_any(); i++) {
        if (w->all[i].revents && (entered || (entered = shim_work_enter()))) {
            shim_work_drive_cookie(w->cookies[i - w->n]);
        }
    }
    if (entered) {
        shim_work_leave();
    }
    errno = saved;
}

/* [ppoll(2)] for w->all, of which the first n are p's. */
static int
sleep_with(struct wait *w, struct pollfd *p, const sigset_t *mask)
{
    for (nfds_t i = 0; i < w->n; i++) {
        w->deadline = shut_events(&p[i]) ? 0 : w->deadline;
    }
    int r = sleep_once(w, mask), ready = 0;
    for (nfds_t i = 0; r >= 0 && i < w->n; i++) {
        p[i].revents = (short)(w->all[i].revents | shut_events(&p[i]));
        ready += p[i].revents != 0;
    }
    if (r >= 0 && shim_now() >= w->due) {
        shim_work_drive();
        w->passed = shim_now();
    } else if (r > 0) {
        drive_told(w);
    }
    return r < 0 ? r : ready;
}

int
shim_work_wait_since(const struct shim_work_seen *before, struct pollfd *p, nfds_t n, uint64_t deadline,
                     const sigset_t *mask, struct shim_slot *until)
{
    struct wait w;
    if (until) {
        shim_work_touch(until);
    }
    w.passed = shim_now();
    if (w.passed >= shim_work_full_at) {
        shim_work_drive();
    }
    for (;;) {
        if (has_changed(until, before)) {
            return 0;
        }
        w.deadline = deadline;
        if (!collect(&w, p, n, until)) {
            return -ENOMEM;
        }
        if (has_changed(until, before)) {
            release_wait(&w); /* another thread was quicker */
            return 0;
        }
        int ready = sleep_with(&w, p, mask);
        release_wait(&w);
        if (ready != 0) {
            return ready;
        }
        if (deadline != SHIM_NEVER && shim_now() >= deadline) {
            return 0;
        }
    }
}

int
shim_work_wait(struct pollfd *p, nfds_t n, uint64_t deadline, const sigset_t *mask, struct shim_slot *until)
{
    struct shim_work_seen before = shim_work_see(until);
    return shim_work_wait_since(&before, p, n, deadline, mask, until);
}
