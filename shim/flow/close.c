/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_conn, the part about ends: close, shutdown, duplicates, and fork's share of references.
 *
 * Order in close(): the table's word becomes CLOSING, so that another thread's call does not find
 * a plain descriptor while the mesh connection is still behind it; then the real close; then the
 * word is cleared, unless the number has been given out anew meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "shim/core/fdtab.h"
#include "shim/core/stat.h"
#include "shim/flow/conn.h"
#include "shim/flow/hs.h"
#include "shim/flow/ident.h"
#include "shim/flow/listener.h"
#include "shim/flow/rx.h"
#include "shim/flow/tx.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/real.h"

#define SILENT_NS UINT64_C(20000000)
#define HIGH_FD 700 /* out of the way of programs that count on low numbers */

/* The orderly end of an open connection whose last descriptor goes. */
static void
say_goodbye(int fd, struct shim_slot *s)
{
    bool unread = false;
    if (shim_slot_has(s, SHIM_SF_ABORT)) {
        return;
    }
    if (shim_lock_try(&s->rx_lock)) {
        shim_rx_drain_control(fd, s);
        unread = s->rx_state != SHIM_RX_NONE;
        shim_lock_put(&s->rx_lock);
    }
    /* With data unread the kernel resets, and the peer must see that and no orderly end. */
    if (!unread && shim_lock_try(&s->tx_lock)) {
        (void)shim_tx_close_notify(fd, s);
        shim_lock_put(&s->tx_lock);
    }
}

/* Keeps the connection under a number of our own until what the program wrote has gone. */
static bool
keep_lingering(int fd, struct shim_work *w)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    int mine = (int)sys_fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
    if (mine < 0) {
        mine = (int)sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
    }
    if (mine < 0) {
        return false;
    }
    mesh_snap_settings(&snap, &set);
    w->fd = mine;
    w->owned = true;
    w->linger_at = shim_now() + (uint64_t)set.linger_ms * 1000000;
    if (w->may_be_plain && !w->answered && !w->detected && w->early_len == 0) {
        /* A meshed client's hello would be here by now; a plain one's end must not be delayed. */
        w->linger_at = shim_now() + SILENT_NS;
    }
    if (w->early_len > w->early_off) {
        w->linger_at = SHIM_NEVER; /* the program's bytes: until exit decides */
    }
    return true;
}

/* The last descriptor in any process. True when the slot lives on. */
static bool
end_last(int fd, struct shim_slot *s)
{
    bool lives = false;
    if (!shim_work_enter()) {
        return true; /* in a handler above the lock's holder: the sweep finds it */
    }
    struct shim_work *w = shim_work_of(s);
    if (w && shim_hs_drive(w)) {
        shim_work_drop(w);
        w = NULL;
    }
    if (atomic_load(&s->cookie) == 0) {
        shim_work_leave();
        return true; /* it had become plain */
    }
    if (w && !w->abandoned && !shim_slot_has(s, SHIM_SF_ABORT)) {
        lives = keep_lingering(fd, w);
    }
    if (!lives) {
        if (w) {
            shim_work_drop(w);
        }
        if (shim_slot_phase(s) == SHIM_PHASE_OPEN) {
            say_goodbye(fd, s);
        }
    }
    shim_work_leave();
    return lives;
}

/* Other descriptors remain: this process's item may have to move to another number. */
static void
end_one(int fd, uint32_t word, struct shim_slot *s)
{
    if (!shim_work_any() || !shim_work_enter()) {
        return;
    }
    struct shim_work *w = shim_work_of(s);
    if (w && w->fd == fd) {
        int other = shim_fdtab_other(word, fd);
        bool begun = !w->dormant && !w->abandoned && w->step > 0 && w->hs;
        if (other >= 0) {
            w->fd = other;
        } else if (begun && keep_lingering(fd, w)) {
            w->helper = true; /* only our copy of the handshake can go on */
        } else {
            shim_work_drop(w);
        }
    }
    shim_work_leave();
}

/* A blocked reader or writer in another thread still uses the slot: the kernel keeps its socket,
 * we keep the slot, and the last one out frees it. */
static void
free_slot(struct shim_slot *s)
{
    if (shim_lock_try(&s->rx_lock)) {
        if (shim_lock_try(&s->tx_lock)) {
            shim_conn_end(s);
            shim_lock_put(&s->tx_lock);
        }
        shim_lock_put(&s->rx_lock);
    }
}

static void
detach(int fd, uint32_t word, bool *lives, struct shim_slot **slot)
{
    struct shim_slot *s = shim_conn_slot(fd);
    *slot = NULL;
    *lives = true;
    if (!s) {
        return;
    }
    if (atomic_fetch_sub(&s->refs, 1) > 1) {
        end_one(fd, word, s);
        return;
    }
    *lives = end_last(fd, s);
    if (*lives) {
        atomic_store(&s->refs, 1);
    } else {
        *slot = s;
    }
}

/* Gives a handshake that is under way the time that connect() would have given it: the program may
 * not come back to us for long. Never when the other end is in this very process. */
static void
linger_briefly(uint64_t cookie)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    mesh_snap_settings(&snap, &set);
    uint64_t until = shim_now() + (uint64_t)set.accept_grace_ms * 1000000;
    for (;;) {
        bool wait = false;
        shim_work_drive();
        if (shim_now() >= until || !shim_work_enter()) {
            return;
        }
        struct shim_work *w = shim_work_by_cookie(cookie);
        if (w) {
            struct shim_slot *s = shim_slot_at(w->slot);
            wait = w->answered || w->linger_at < until ||
                   !shim_slot_has(s, SHIM_SF_OWN | SHIM_SF_SERVER);
        }
        shim_work_leave();
        if (!wait) {
            return;
        }
        uint64_t tick = shim_now() + 5000000;
        (void)shim_work_wait(NULL, 0, tick < until ? tick : until, NULL, NULL);
    }
}

int
shim_conn_close(int fd)
{
    uint32_t word = shim_fd_word(fd), closing;
    enum shim_fd_kind kind = (enum shim_fd_kind)(word >> SHIM_FD_KIND_SHIFT);
    struct shim_slot *s = NULL;
    uint64_t cookie = 0;
    bool lives = true;
    if (shim_fd_is_light(word)) {
        (void)shim_fdtab_set(fd, SHIM_FD_NONE, 0);
        return shim_real.close(fd);
    }
    if (!shim_fdtab_may_write() || kind == SHIM_FD_CLOSING) {
        return shim_real.close(fd);
    }
    int saved = errno;
    if (kind == SHIM_FD_CONN) {
        cookie = shim_work_any() ? shim_cookie(fd) : 0;
        detach(fd, word, &lives, &s);
    }
    closing = SHIM_FD_WORD(SHIM_FD_CLOSING, SHIM_FD_INDEX(word));
    (void)shim_fdtab_set(fd, kind == SHIM_FD_CONN ? SHIM_FD_CLOSING : SHIM_FD_NONE,
                         SHIM_FD_INDEX(word));
    errno = saved;
    int r = shim_real.close(fd);
    saved = errno;
    if (kind == SHIM_FD_CONN) {
        shim_fdtab_clear_if(fd, closing);
        if (s && !lives) {
            free_slot(s);
        }
        if (lives && cookie) {
            linger_briefly(cookie);
        }
    } else if (kind == SHIM_FD_LISTENER) {
        shim_listener_closed(fd, word);
    }
    errno = saved;
    return r;
}

void
shim_conn_replaced(int fd)
{
    uint32_t word = shim_fd_word(fd);
    enum shim_fd_kind kind = (enum shim_fd_kind)(word >> SHIM_FD_KIND_SHIFT);
    struct shim_slot *s = NULL;
    bool lives = true;
    if (word == 0 || (!shim_fd_is_light(word) && !shim_fdtab_may_write())) {
        return;
    }
    int saved = errno;
    if (kind == SHIM_FD_CONN) {
        detach(fd, word, &lives, &s);
        if (s && !lives) {
            free_slot(s);
        }
    }
    (void)shim_fdtab_set(fd, SHIM_FD_NONE, 0);
    if (kind == SHIM_FD_LISTENER) {
        shim_listener_closed(fd, word);
    }
    errno = saved;
}

void
shim_conn_dup(int from, int to)
{
    uint32_t word = shim_fd_word(from);
    enum shim_fd_kind kind = (enum shim_fd_kind)(word >> SHIM_FD_KIND_SHIFT);
    bool light = shim_fd_is_light(word) && shim_fd_is_light(shim_fd_word(to));
    if (from == to || to < 0 || (!light && !shim_fdtab_may_write())) {
        return;
    }
    if (kind == SHIM_FD_CONN) {
        struct shim_slot *s = shim_slot_current(SHIM_FD_INDEX(word));
        if (!s) {
            return;
        }
        atomic_fetch_add(&s->refs, 1);
    }
    (void)shim_fdtab_set(to, kind == SHIM_FD_CLOSING ? SHIM_FD_NONE : kind, SHIM_FD_INDEX(word));
}

/* Ends the send side: now, or as soon as what stands before it has gone. */
static int
shutdown_write(int fd, struct shim_slot *s, int how)
{
    int r = -EAGAIN;
    shim_work_drive();
    if (shim_slot_phase(s) == SHIM_PHASE_OPEN && !shim_slot_has(s, SHIM_SF_EARLY) &&
        shim_lock_get(&s->tx_lock, NULL)) {
        r = shim_tx_close_notify(fd, s);
        shim_lock_put(&s->tx_lock);
    }
    if (r != -EAGAIN || shim_slot_phase(s) >= SHIM_PHASE_FAILED) {
        return shim_real.shutdown(fd, how);
    }
    atomic_fetch_or(&s->flags, SHIM_SF_FIN_DUE);
    shim_work_tail(s, fd);
    shim_work_drive();
    /* SHUT_RD now would cut a handshake off: hs.c does it afterwards. */
    return how == SHUT_RDWR && shim_slot_phase(s) >= SHIM_PHASE_OPEN
               ? shim_real.shutdown(fd, SHUT_RD)
               : 0;
}

int
shim_conn_shutdown(int fd, int how)
{
    struct shim_slot *s = shim_conn_slot(fd);
    if (!s || shim_slot_phase(s) == SHIM_PHASE_CONNECTING) {
        return shim_real.shutdown(fd, how);
    }
    if (how == SHUT_RD && shim_slot_phase(s) == SHIM_PHASE_HANDSHAKE) {
        struct mesh_snap snap = shim_link_snapshot();
        struct mesh_snap_settings set;
        mesh_snap_settings(&snap, &set);
        (void)shim_work_wait(NULL, 0, shim_now() + (uint64_t)set.accept_grace_ms * 1000000, NULL, s);
    }
    if (how == SHUT_RD || how == SHUT_RDWR) {
        atomic_fetch_or(&s->flags, SHIM_SF_RX_SHUT);
    }
    if (how == SHUT_WR || how == SHUT_RDWR) {
        return shutdown_write(fd, s, how);
    }
    return how == SHUT_RD && shim_slot_phase(s) < SHIM_PHASE_OPEN ? 0
                                                                  : shim_real.shutdown(fd, how);
}

static void
count_refs(uint32_t n)
{
    for (int fd = 0, end = shim_fdtab_limit(); fd < end; fd++) {
        uint32_t word = shim_fd_word(fd);
        struct shim_slot *s = word >> SHIM_FD_KIND_SHIFT == SHIM_FD_CONN
                                  ? shim_slot_current(SHIM_FD_INDEX(word))
                                  : NULL;
        if (s) {
            atomic_fetch_add(&s->refs, n);
        }
    }
}

/* The child will hold every descriptor once more. Counted before, so that a close in the parent
 * right after fork does not see itself as the last. */
void
shim_conn_before_fork(void)
{
    count_refs(1);
}

void
shim_conn_fork_failed(void)
{
    count_refs((uint32_t)-1);
}
