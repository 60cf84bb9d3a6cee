/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_work: see work.h.
 */
#include "shim/flow/work.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/core/fdtab.h"
#include "shim/flow/age.h"
#include "shim/flow/conn.h"
#include "shim/flow/hs.h"
#include "shim/flow/ident.h"
#include "shim/flow/shape.h"
#include "shim/real.h"

_Atomic int shim_work_count;
_Atomic unsigned shim_work_changes;
void (*shim_work_on_change)(int fd);
static struct shim_private lock;
static struct shim_work *head;
static _Atomic int expected; /* listeners of kind INHERITED */
static struct shim_work *by_cookie[SHIM_SLOTS]; /* chains; untouched pages cost nothing */
static uint64_t full_at; /* under lock: when all of a long list is looked at next */
static _Atomic int dormant; /* items that are, see shim_work_wake */

/* Items for the next ones: a fresh mapping costs page faults, an unmapping all threads' translations. As many
 * as a busy program has under way at a time. */
#define SPARES 16u
static struct shim_work *spare;
static unsigned spares;

bool
shim_work_sleeps(void)
{
    return (atomic_load_explicit(&dormant, memory_order_relaxed) |
            atomic_load_explicit(&expected, memory_order_relaxed)) > 0;
}

void
shim_work_expect(int n)
{
    atomic_fetch_add(&expected, n);
}

void
shim_work_look(void)
{
    static _Atomic bool told;
    if (!atomic_exchange(&told, true)) {
        shim_work_expect(1);
    }
}

bool
shim_work_enter(void)
{
    return shim_private_enter(&lock);
}

void
shim_work_leave(void)
{
    shim_private_leave(&lock);
}

struct shim_work *
shim_work_first(void)
{
    return head;
}

#define SHORT    64u /* a list that is always looked at as a whole */
#define WARM_MAX 128u
#define WARM_NS  UINT64_C(100000000)
#define REST_NS  UINT64_C(5000) /* between two passes over a long list, for each item */

static void
push(struct shim_work *w, uint64_t now)
{
    w->warm_at = now;
    w->prev = NULL;
    w->next = head;
    if (head) {
        head->prev = w;
    }
    head = w;
}

static void
unlink_item(struct shim_work *w)
{
    if (w->prev) {
        w->prev->next = w->next;
    } else {
        head = w->next;
    }
    if (w->next) {
        w->next->prev = w->prev;
    }
}

static bool
is_long(void)
{
    return shim_work_items() > SHORT;
}

/* Of a long list: is w, the n-th of it, still one to look at in a short pass? */
static bool
is_warm(const struct shim_work *w, unsigned n, uint64_t now)
{
    return n < WARM_MAX && now - w->warm_at < WARM_NS;
}

void
shim_work_touch(const struct shim_slot *s)
{
    if (!is_long() || !shim_work_enter()) {
        return;
    }
    struct shim_work *w = shim_work_of(s);
    if (w) {
        unlink_item(w);
        push(w, shim_now());
    }
    shim_work_leave();
}

struct shim_work *
shim_work_new(struct shim_slot *s, int fd)
{
    struct shim_work *w = spare;
    if (w) {
        spare = w->next;
        spares--;
    } else {
        w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (w == MAP_FAILED) {
            return NULL;
        }
    }
    memset(w, 0, offsetof(struct shim_work, in));
    w->slot = shim_slot_handle(s);
    w->cookie = atomic_load(&s->cookie);
    w->step = atomic_load(&s->hs_step);
    w->fd = fd;
    w->started = shim_now();
    w->grace_at = w->detect_at = w->expires_at = w->linger_at = SHIM_NEVER;
    push(w, w->started);
    struct shim_work **chain = &by_cookie[w->cookie % SHIM_SLOTS];
    w->chained = *chain;
    *chain = w;
    atomic_fetch_add(&shim_work_count, 1);
    return w;
}

struct shim_work *
shim_work_of(const struct shim_slot *s)
{
    return shim_work_by_cookie(atomic_load(&s->cookie));
}

struct shim_work *
shim_work_by_cookie(uint64_t cookie)
{
    struct shim_work *w = by_cookie[cookie % SHIM_SLOTS];
    while (w && w->cookie != cookie) {
        w = w->chained;
    }
    return w;
}

static void
release(struct shim_work *w)
{
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    if (w->hs && tls) {
        tls->hs_free(w->hs);
    }
    if (w->early) {
        explicit_bzero(w->early, SHIM_EARLY_MAX);
        munmap(w->early, SHIM_EARLY_MAX);
    }
    if (spares < SPARES) {
        explicit_bzero(w->in, w->in_len);
        w->next = spare;
        spare = w;
        spares++;
    } else {
        munmap(w, sizeof(*w));
    }
}

void
shim_work_drop(struct shim_work *w)
{
    unlink_item(w);
    struct shim_work **at = &by_cookie[w->cookie % SHIM_SLOTS];
    while (*at != w) {
        at = &(*at)->chained;
    }
    *at = w->chained;
    atomic_fetch_sub(w->dormant ? &dormant : &shim_work_count, 1);
    if (w->helper) {
        struct shim_slot *s = shim_slot_at(w->slot);
        if (w->holds && atomic_load(&s->cookie) == w->cookie && shim_slot_release(s, shim_fdtab_owner(), 1) == 0) {
            shim_conn_end(s);
        }
        (void)sys_close(w->fd);
    } else if (w->owned) {
        struct shim_slot *s = shim_slot_at(w->slot);
        if (atomic_load(&s->cookie) == w->cookie) {
            shim_conn_end(s);
        }
        (void)sys_close(w->fd);
    }
    release(w);
}

void
shim_work_wake(const struct shim_slot *s)
{
    if (atomic_load(&dormant) == 0 || !shim_work_enter()) {
        return;
    }
    struct shim_work *w = shim_work_of(s);
    if (w && w->dormant) {
        w->dormant = false;
        atomic_fetch_sub(&dormant, 1);
        atomic_fetch_add(&shim_work_count, 1);
    }
    shim_work_leave();
}

#define WATCHES UINT32_MAX /* no copy of a handshake is that one */

void
shim_work_watch(struct shim_slot *s, int fd)
{
    if (atomic_load(&s->hs_pid) == shim_fdtab_owner() || !shim_work_enter()) {
        return;
    }
    struct shim_work *w = shim_work_of(s) || shim_slot_phase(s) >= SHIM_PHASE_OPEN ? NULL : shim_work_new(s, fd);
    if (w) {
        w->step = WATCHES;
        w->abandoned = true;
    }
    shim_work_leave();
    if (w && shim_work_on_change) {
        shim_work_on_change(fd); /* epoll is not to say what TLS has not made true yet */
    }
}

bool
shim_work_has(const struct shim_slot *s)
{
    bool has = false;
    if (shim_work_items() > 0 && shim_work_enter()) {
        const struct shim_work *w = shim_work_of(s);
        has = w && w->step != WATCHES;
        shim_work_leave();
    }
    return has;
}

void
shim_work_tail(struct shim_slot *s, int fd)
{
    if (shim_work_enter()) {
        if (!shim_work_of(s)) {
            (void)shim_work_new(s, fd); /* no memory: the next call on the connection flushes */
        }
        shim_work_leave();
    }
}

static void
drive_one(struct shim_work *w, uint64_t now)
{
    w->moved = false;
    if (shim_hs_drive(w)) {
        int fd = w->owned ? -1 : w->fd;
        atomic_fetch_add(&shim_work_changes, 1);
        shim_work_drop(w);
        if (fd >= 0 && shim_work_on_change) {
            shim_work_on_change(fd);
        }
    } else if (w->moved && w->prev) {
        unlink_item(w);
        push(w, now ? now : shim_now());
    }
}

void
shim_work_drive(void)
{
    int saved = errno;
    if (!shim_work_any() || (shim_work_items() == 0 && shim_now() < shim_age_next()) || !shim_work_enter()) {
        return;
    }
    bool all = !is_long();
    uint64_t now = all ? 0 : shim_now();
    unsigned n = 0;
    all = all || now >= full_at;
    for (struct shim_work *w = head, *next; w && (all || is_warm(w, n, now)); w = next, n++) {
        next = w->next;
        drive_one(w, now);
    }
    if (shim_age_next() < SHIM_NEVER) {
        shim_age_drive();
    }
    if (all && n > SHORT) {
        full_at = shim_now() + n * REST_NS;
    }
    shim_work_leave();
    errno = saved;
}

#define TICK_NS UINT64_C(5000000)
#define SHORT_MS 1

struct wait {
    struct pollfd *all, few[64];
    size_t bytes; /* mapped, 0 when `few` was enough */
    nfds_t n, total;
    uint64_t deadline;
    bool until; /* a connection that perhaps only another process can finish */
};

/* The program's entries, then ours. */
static bool
collect(struct wait *w, const struct pollfd *p, nfds_t n)
{
    nfds_t items = (nfds_t)shim_work_items() + 8;
    nfds_t room = n + (items < WARM_MAX ? items : WARM_MAX);
    w->all = w->few;
    if (room > 64) {
        w->bytes = room * sizeof(*p);
        w->all = mmap(NULL, w->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (w->all == MAP_FAILED) {
            return false;
        }
    }
    if (n) {
        memcpy(w->all, p, n * sizeof(*p));
    }
    w->total = w->n = n;
    if (!shim_work_enter()) {
        return true;
    }
    bool all = !is_long();
    uint64_t now = shim_now();
    unsigned k = 0;
    for (struct shim_work *i = head; i && (all || is_warm(i, k, now)); i = i->next, k++) {
        short ev = shim_hs_events(i);
        uint64_t at = shim_hs_deadline(i);
        if (ev && w->total < room) {
            w->all[w->total++] = (struct pollfd){i->fd, ev, 0};
        }
        w->deadline = at < w->deadline ? at : w->deadline;
    }
    w->deadline = shim_age_next() < w->deadline ? shim_age_next() : w->deadline;
    /* Another thread or process may take the bytes that were to wake us, and finish our connection. */
    uint64_t tick = k || w->until ? now + TICK_NS : SHIM_NEVER;
    tick = !all && full_at < tick ? full_at : tick;
    w->deadline = tick < w->deadline ? tick : w->deadline;
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
sleep_short(const struct wait *w)
{
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

struct look {
    enum shim_phase phase;
    bool lazy;
};

static struct look
look_at(const struct shim_slot *s)
{
    return s ? (struct look){shim_slot_phase(s), shim_slot_has(s, SHIM_SF_LAZY)}
             : (struct look){SHIM_PHASE_FREE, false};
}

static bool
has_changed(struct shim_slot *until, const struct look *first, unsigned changes)
{
    if (until && !shim_work_has(until)) {
        (void)shim_conn_is_orphan(until);
    }
    struct look now = look_at(until);
    if (until && now.phase != SHIM_PHASE_CONNECTING && now.phase != SHIM_PHASE_HANDSHAKE) {
        return true;
    }
    return until ? now.phase != first->phase || now.lazy != first->lazy
                 : atomic_load(&shim_work_changes) != changes;
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
    if (w->bytes) {
        munmap(w->all, w->bytes);
    }
}

int
shim_work_wait(struct pollfd *p, nfds_t n, uint64_t deadline, const sigset_t *mask,
               struct shim_slot *until)
{
    struct look first = look_at(until);
    if (until) {
        shim_work_touch(until);
    }
    unsigned changes = atomic_load(&shim_work_changes);
    for (;;) {
        shim_work_drive();
        if (has_changed(until, &first, changes)) {
            return 0;
        }
        struct wait w;
        w.deadline = deadline;
        w.bytes = 0;
        w.until = until && shim_slot_phase(until) < SHIM_PHASE_OPEN;
        if (!collect(&w, p, n)) {
            return -ENOMEM;
        }
        if (has_changed(until, &first, changes)) {
            release_wait(&w); /* another thread was quicker */
            return 0;
        }
        for (nfds_t i = 0; i < n; i++) {
            w.deadline = shut_events(&p[i]) ? 0 : w.deadline;
        }
        int r = sleep_once(&w, mask), ready = 0;
        for (nfds_t i = 0; r >= 0 && i < n; i++) {
            p[i].revents = (short)(w.all[i].revents | shut_events(&p[i]));
            ready += p[i].revents != 0;
        }
        release_wait(&w);
        if (r < 0) {
            return r;
        }
        if (ready) {
            shim_work_drive();
            return ready;
        }
        if (deadline != SHIM_NEVER && shim_now() >= deadline) {
            return 0;
        }
    }
}

static bool fork_locked;

void
shim_work_before_fork(void)
{
    fork_locked = shim_work_enter();
    for (struct shim_work *w = head; w && fork_locked; w = w->next) {
        w->early_common = w->inherited ? w->early_common : w->early_len;
        shim_shape_share(w);
    }
}

/* The child keeps its copies of handshakes (it may be the one that goes on), but not what the
 * program had closed: that is the parent's to finish. */
void
shim_work_after_fork(bool child)
{
    if (child) {
        shim_private_forked(&lock, fork_locked);
        for (struct shim_work *w = head, *next; w; w = next) {
            next = w->next;
            if (w->owned) {
                w->helper = true; /* close our copy, no more */
                w->holds = false;
                shim_work_drop(w);
                continue;
            }
            w->inherited = true;
            w->early_len = w->early_common; /* what the parent wrote since its own birth is its own */
            w->early_off = w->early_off < w->early_len ? w->early_off : w->early_len;
            if (!w->dormant) {
                w->dormant = true;
                atomic_fetch_add(&dormant, 1);
                atomic_fetch_sub(&shim_work_count, 1);
            }
        }
    } else if (fork_locked) {
        shim_work_leave();
    }
}
