/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_conn, the part about close.
 *
 * Order in close(): the table's word becomes CLOSING, so that another thread's call does not find
 * a plain descriptor while the mesh connection is still behind it; then the real close; then the
 * word is cleared, unless the number has been given out anew meanwhile.
 */
#include <errno.h>
#include <fcntl.h>

#include "shim/core/fdtab.h"
#include "shim/core/stat.h"
#include "shim/flow/age.h"
#include "shim/flow/conn.h"
#include "shim/flow/fresh.h"
#include "shim/flow/goodbye.h"
#include "shim/flow/hs.h"
#include "shim/flow/io.h"
#include "shim/flow/listener.h"
#include "shim/flow/shape.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/real.h"

#define SILENT_NS UINT64_C(20000000)
#define HIGH_FD 700 /* out of the way of programs that count on low numbers */

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
    shim_io_leave_sets(fd, s);
    if (!shim_work_enter()) {
        return true; /* in a handler above the lock's holder: the sweep finds it */
    }
    struct shim_work *w = shim_work_of(s);
    if (w) {
        w->wake_at = 0; /* nobody reads any more */
    }
    if (w && shim_hs_drive(w)) {
        shim_work_drop(w);
        w = NULL;
    }
    if (atomic_load(&s->cookie) == 0) {
        shim_work_leave();
        return true; /* it had become plain */
    }
    if (!w && shim_goodbye(fd, s, true) == -EAGAIN) {
        w = shim_work_new(s, fd);
    }
    if (w && !w->abandoned && !shim_slot_has(s, SHIM_SF_ABORT)) {
        lives = keep_lingering(fd, w);
    }
    if (w && !lives) {
        shim_work_drop(w);
        (void)shim_goodbye(fd, s, true);
    }
    shim_work_leave();
    return lives;
}

/* No other process has even a copy of the handshake. */
static bool
is_ours_to_connect(const struct shim_slot *s)
{
    return shim_slot_has(s, SHIM_SF_COMMON) && shim_slot_phase(s) < SHIM_PHASE_OPEN &&
           atomic_load(&s->hs_pid) == shim_fdtab_owner();
}

/* Other descriptors remain: this process's item may have to move to another number. */
static void
end_one(int fd, uint32_t word, struct shim_slot *s)
{
    if (shim_slot_has(s, SHIM_SF_GIVEN) && shim_fdtab_other(word, fd) < 0) {
        shim_stat_conn_left(s);
    }
    if (!(shim_work_items() || shim_work_sleeps()) || !shim_work_enter()) {
        return;
    }
    struct shim_work *w = shim_work_of(s);
    if (w && w->fd == fd) {
        int other = shim_fdtab_other(word, fd);
        bool common = shim_slot_has(s, SHIM_SF_COMMON);
        bool begun = !w->abandoned && ((w->step > 0 && w->hs) || (common && s->tx_spill) || is_ours_to_connect(s) ||
                                       shim_slot_has(s, SHIM_SF_GIVEN));
        if (other >= 0) {
            w->fd = other;
        } else if (!w->dormant && (begun || w->early_len > w->early_off) && keep_lingering(fd, w)) {
            w->helper = true; /* only our copy of the handshake can go on, and only we have what was written */
            w->linger_at = SHIM_NEVER;
            if (common) { /* so others are not the last ones before it is done */
                shim_slot_hold(s, shim_fdtab_owner(), 1);
                w->holds = true;
            }
        } else {
            shim_shape_share(w);
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
    if (shim_lock_poll(&s->rx_lock) <= SHIM_LOCK_INHERITED) {
        if (shim_lock_poll(&s->tx_lock) <= SHIM_LOCK_INHERITED) {
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
        shim_fresh_close(fd);
        return;
    }
    if (shim_slot_has(s, SHIM_SF_COMMON) && shim_slot_share(s, shim_fdtab_owner()) == 1) {
        (void)shim_slot_is_only(s, shim_fdtab_owner()); /* who is dead holds it no more */
    }
    if (shim_slot_release(s, shim_fdtab_owner(), 1) > 0) {
        end_one(fd, word, s);
        return;
    }
    *lives = end_last(fd, s);
    if (*lives) {
        shim_slot_hold(s, shim_fdtab_owner(), 1);
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

static bool
is_last_number(int fd)
{
    int spare = (int)sys_fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (spare >= 0) {
        (void)sys_close(spare);
    }
    return spare < 0;
}

/* Long enough for a busy client, short enough for a server that many of them beleaguer. */
#define IN_PLACE_GRACES 4

/* A handshake under way goes on under a number of ours after the program's close. When there is none
 * left it gets its moment before: cut off, the client's answer would bring it a reset. */
static void
finish_in_place(int fd)
{
    struct shim_slot *s = shim_conn_slot(fd);
    if (!s || shim_slot_phase(s) != SHIM_PHASE_HANDSHAKE || shim_slot_has(s, SHIM_SF_ABORT) ||
        !is_last_number(fd)) {
        return;
    }
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    mesh_snap_settings(&snap, &set);
    uint64_t until = shim_now() + (uint64_t)set.accept_grace_ms * 1000000 * IN_PLACE_GRACES;
    while (shim_slot_phase(s) == SHIM_PHASE_HANDSHAKE && shim_now() < until) {
        uint64_t tick = shim_now() + 5000000;
        (void)shim_work_wait(NULL, 0, tick < until ? tick : until, NULL, s);
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
    if (kind == SHIM_FD_LISTENER) {
        return shim_listener_close(fd, word);
    }
    int saved = errno;
    if (kind == SHIM_FD_CONN) {
        if (shim_work_items()) {
            finish_in_place(fd);
        }
        cookie = shim_work_items() ? shim_cookie(fd) : 0;
        detach(fd, word, &lives, &s);
    }
    closing = SHIM_FD_WORD(SHIM_FD_CLOSING, SHIM_FD_INDEX(word));
    (void)shim_fdtab_set(fd, kind == SHIM_FD_CONN ? SHIM_FD_CLOSING : SHIM_FD_NONE, SHIM_FD_INDEX(word));
    errno = saved;
    int r = shim_real.close(fd);
    saved = errno;
    if (kind == SHIM_FD_CONN) {
        (void)shim_fdtab_clear_if(fd, closing);
        if (s && !lives) {
            free_slot(s);
        }
        shim_age_closed();
        if (lives && cookie) {
            linger_briefly(cookie);
        }
    } else if (kind == SHIM_FD_INHERITED) {
        shim_work_expect(-1);
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
    if (kind == SHIM_FD_CONN) {
        shim_age_closed();
    } else if (kind == SHIM_FD_LISTENER) {
        shim_listener_closed(fd, word);
    } else if (kind == SHIM_FD_INHERITED) {
        shim_work_expect(-1);
    }
    errno = saved;
}
