/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_work: see work.h.
 */
#include "shim/flow/work.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/flow/conn.h"
#include "shim/flow/hs.h"
#include "shim/flow/ident.h"
#include "shim/link/link.h"
#include "shim/real.h"

_Atomic int shim_work_count;
_Atomic unsigned shim_work_changes;
void (*shim_work_on_change)(int fd);
static struct shim_lock lock;
static struct shim_work *head, *spare;
static _Atomic int dormant; /* items that are, see shim_work_wake */

bool
shim_work_sleeps(void)
{
    return atomic_load_explicit(&dormant, memory_order_relaxed) > 0;
}

bool
shim_work_enter(void)
{
    return shim_lock_get(&lock, NULL);
}

void
shim_work_leave(void)
{
    shim_lock_put(&lock);
}

struct shim_work *
shim_work_new(struct shim_slot *s, int fd)
{
    struct shim_work *w = spare;
    if (w) {
        spare = NULL;
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
    w->next = head;
    head = w;
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
    struct shim_work *w = head;
    while (w && w->cookie != cookie) {
        w = w->next;
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
    if (!spare) {
        explicit_bzero(w->in, w->in_len);
        spare = w;
    } else {
        munmap(w, sizeof(*w));
    }
}

void
shim_work_drop(struct shim_work *w)
{
    struct shim_work **at = &head;
    while (*at && *at != w) {
        at = &(*at)->next;
    }
    if (!*at) {
        return;
    }
    *at = w->next;
    atomic_fetch_sub(w->dormant ? &dormant : &shim_work_count, 1);
    if (w->helper) {
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

void
shim_work_drive(void)
{
    int saved = errno;
    if (!shim_work_any() || !shim_work_enter()) {
        return;
    }
    for (struct shim_work *w = head, *next; w; w = next) {
        next = w->next;
        if (shim_hs_drive(w)) {
            int fd = w->owned ? -1 : w->fd;
            atomic_fetch_add(&shim_work_changes, 1);
            shim_work_drop(w);
            if (fd >= 0 && shim_work_on_change) {
                shim_work_on_change(fd);
            }
        }
    }
    shim_work_leave();
    errno = saved;
}

#define TICK_NS UINT64_C(5000000)

struct wait {
    struct pollfd *all, few[64];
    size_t bytes; /* mapped, 0 when `few` was enough */
    nfds_t n, total;
    uint64_t deadline;
};

/* The program's entries, then ours. */
static bool
collect(struct wait *w, const struct pollfd *p, nfds_t n)
{
    nfds_t room = n + (nfds_t)atomic_load(&shim_work_count) + 8;
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
    if (head) {
        /* Another thread may take the bytes that were to wake us, and finish our connection. */
        uint64_t tick = shim_now() + TICK_NS;
        w->deadline = tick < w->deadline ? tick : w->deadline;
    }
    for (struct shim_work *i = head; i; i = i->next) {
        short ev = shim_hs_events(i);
        uint64_t at = shim_hs_deadline(i);
        if (ev && w->total < room) {
            w->all[w->total++] = (struct pollfd){i->fd, ev, 0};
        }
        w->deadline = at < w->deadline ? at : w->deadline;
    }
    shim_work_leave();
    return true;
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
    int r = shim_real.ppoll(w->all, w->total, tp, mask);
    return r < 0 ? -errno : r;
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
has_changed(const struct shim_slot *until, const struct look *first, unsigned changes)
{
    struct look now = look_at(until);
    if (until && now.phase != SHIM_PHASE_CONNECTING && now.phase != SHIM_PHASE_HANDSHAKE) {
        return true;
    }
    return until ? now.phase != first->phase || now.lazy != first->lazy
                 : atomic_load(&shim_work_changes) != changes;
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
               const struct shim_slot *until)
{
    struct look first = look_at(until);
    unsigned changes = atomic_load(&shim_work_changes);
    for (;;) {
        shim_work_drive();
        if (has_changed(until, &first, changes)) {
            return 0;
        }
        struct wait w;
        w.deadline = deadline;
        w.bytes = 0;
        if (!collect(&w, p, n)) {
            return -ENOMEM;
        }
        if (has_changed(until, &first, changes)) {
            release_wait(&w); /* another thread was quicker */
            return 0;
        }
        int r = sleep_once(&w, mask), ready = 0;
        for (nfds_t i = 0; r >= 0 && i < n; i++) {
            p[i].revents = w.all[i].revents;
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

/* A connect() that was told established, and of which the server knows nothing yet. */
static bool
is_unheard(const struct shim_work *w)
{
    const struct shim_slot *s = shim_slot_at(w->slot);
    return shim_slot_phase(s) == SHIM_PHASE_HANDSHAKE && shim_slot_has(s, SHIM_SF_LAZY) &&
           !shim_slot_has(s, SHIM_SF_SERVER) && !w->answered;
}

/* What must not be lost when the program ends. */
static bool
has_unsent(const struct shim_work *w)
{
    const struct shim_slot *s = shim_slot_at(w->slot);
    return !w->abandoned && !w->dormant && atomic_load(&s->cookie) == w->cookie &&
           shim_slot_phase(s) != SHIM_PHASE_FAILED &&
           (w->owned || w->early_len > w->early_off || s->tx_spill || is_unheard(w) ||
            shim_slot_has(s, SHIM_SF_FIN_DUE));
}

/* What only meshd can still do: the peer has not even begun to answer. */
static bool
is_hopeless(const struct shim_work *w, uint64_t since, uint32_t grace_ms)
{
    return is_unheard(w) && shim_now() > since + (uint64_t)grace_ms * 1000000;
}

static void
hand_off(struct shim_work *w)
{
    struct shim_slot *s = shim_slot_at(w->slot);
    bool fresh = shim_slot_phase(s) == SHIM_PHASE_HANDSHAKE && !shim_slot_has(s, SHIM_SF_SERVER);
    size_t n = w->early_len - w->early_off;
    if (!fresh || n > 65536) {
        if (n) {
            shim_stat_err(MESH_E_LINGER);
            shim_log_error("%zu bytes: %s", n, mesh_err_text(MESH_E_LINGER));
        }
        return;
    }
    if (shim_link_handoff(&w->to, w->expect_id, w->early + w->early_off, n) == MESH_OK) {
        shim_stat_add(MESH_STAT_HANDOFFS, 1);
    } else {
        shim_stat_err(MESH_E_LINGER);
    }
}

void
shim_work_finish(void)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    if (!shim_work_any()) {
        return;
    }
    mesh_snap_settings(&snap, &set);
    uint64_t start = shim_now(), until = start + (uint64_t)set.linger_ms * 1000000;
    while (shim_now() < until) {
        bool any = false;
        shim_work_drive();
        if (!shim_work_enter()) {
            return;
        }
        for (struct shim_work *w = head; w; w = w->next) {
            any = any || (has_unsent(w) && !is_hopeless(w, start, set.accept_grace_ms));
        }
        shim_work_leave();
        if (!any) {
            break;
        }
        uint64_t tick = shim_now() + 5000000;
        (void)shim_work_wait(NULL, 0, tick < until ? tick : until, NULL, NULL);
    }
    if (shim_work_enter()) {
        for (struct shim_work *w = head; w; w = w->next) {
            if (has_unsent(w)) {
                hand_off(w);
            }
        }
        shim_work_leave();
    }
}

static bool fork_locked;

void
shim_work_before_fork(void)
{
    fork_locked = shim_work_enter();
}

/* The child keeps its copies of handshakes (it may be the one that goes on), but not what the
 * program had closed: that is the parent's to finish. */
void
shim_work_after_fork(bool child)
{
    if (child) {
        shim_lock_forked();
        atomic_store(&lock.owner, 0);
        for (struct shim_work *w = head, *next; w; w = next) {
            next = w->next;
            if (w->owned) {
                w->helper = true; /* close our copy, no more */
                shim_work_drop(w);
            } else if (!w->dormant) {
                w->dormant = true;
                atomic_fetch_add(&dormant, 1);
                atomic_fetch_sub(&shim_work_count, 1);
            }
        }
    } else if (fork_locked) {
        shim_work_leave();
    }
}
