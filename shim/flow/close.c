/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_conn, the part about ends: close, shutdown, and fork's share of references.
 *
 * Order in close(): the table's word becomes CLOSING, so that another thread's call does not find
 * a plain descriptor while the mesh connection is still behind it; then the real close; then the
 * word is cleared, unless the number has been given out anew meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

#include "shim/core/fdtab.h"
#include "shim/core/region.h"
#include "shim/core/stat.h"
#include "shim/flow/age.h"
#include "shim/flow/audit.h"
#include "shim/flow/conn.h"
#include "shim/flow/fresh.h"
#include "shim/flow/hs.h"
#include "shim/flow/ident.h"
#include "shim/flow/ktls.h"
#include "shim/flow/limit.h"
#include "shim/flow/listener.h"
#include "shim/flow/retry.h"
#include "shim/flow/rx.h"
#include "shim/flow/shape.h"
#include "shim/flow/tx.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/real.h"

#define SILENT_NS UINT64_C(20000000)
#define HIGH_FD 700 /* out of the way of programs that count on low numbers */

/* Takes out control records. False: there is data that the program never read. */
static bool
clear_queue(int fd, struct shim_slot *s, bool try)
{
    bool unread = false;
    if (shim_audit_rx(fd, s, try) == 0) {
        shim_rx_drain_control(fd, s);
        unread = s->rx_state != SHIM_RX_NONE || shim_slot_has(s, SHIM_SF_MARK);
        shim_lock_put(&s->rx_lock);
    }
    return !unread;
}

/* The orderly end of an open connection whose last descriptor goes. A close with bytes unread is a
 * reset, which takes with it what the peer has not got yet; to bare TCP the peer's end is no byte, to
 * us it is a record. So our end goes out first, and what has come meanwhile is cleared away.
 * -EAGAIN: there is no room for it yet. `try`: other threads' calls are not waited for. */
static int
say_goodbye(int fd, struct shim_slot *s, bool try)
{
    int r = 0;
    if (shim_slot_has(s, SHIM_SF_ABORT)) {
        return 0;
    }
    /* With data unread the kernel resets, and the peer must see that and no orderly end. */
    if (clear_queue(fd, s, try) && shim_audit_tx(fd, s, try) == 0) {
        r = shim_tx_close_notify(fd, s);
        shim_lock_put(&s->tx_lock);
        if (r == 0 && sys_call(SYS_shutdown, fd, SHUT_WR, 0, 0) == 0) {
            (void)clear_queue(fd, s, try);
        }
    }
    return r;
}

/* The same where the kernel encrypts. A look decrypts, and what is decrypted the kernel's close does not
 * count as unread: then the reset is ours to order. */
static bool
clear_queue_kernel(int fd, struct shim_slot *s, bool try)
{
    static const struct linger reset = {1, 0};
    bool unread = false;
    if (shim_audit_rx(fd, s, try) == 0) {
        unread = shim_ktls_drain_control(fd, s);
        shim_lock_put(&s->rx_lock);
    }
    if (unread) {
        (void)sys_setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    }
    return !unread;
}

/* What a program that is not under libmesh still does with it we cannot know: then the kernel's FIN is
 * the end. -EAGAIN: there is no room for ours yet. */
static int
say_goodbye_kernel(int fd, struct shim_slot *s, bool try)
{
    int r = 0;
    if (shim_slot_has(s, SHIM_SF_ABORT | SHIM_SF_FOREIGN)) {
        return 0;
    }
    if (clear_queue_kernel(fd, s, try) && shim_audit_tx(fd, s, try) == 0) {
        r = shim_ktls_close_notify(fd, s);
        shim_lock_put(&s->tx_lock);
        if (r == 0 && sys_call(SYS_shutdown, fd, SHUT_WR, 0, 0) == 0) {
            (void)clear_queue_kernel(fd, s, try);
        }
    }
    return r;
}

static int
say_any_goodbye(int fd, struct shim_slot *s)
{
    enum shim_phase phase = shim_slot_phase(s);
    return phase == SHIM_PHASE_OPEN     ? say_goodbye(fd, s, true)
           : phase == SHIM_PHASE_KERNEL ? say_goodbye_kernel(fd, s, true)
                                        : 0;
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
    if (!w && say_any_goodbye(fd, s) == -EAGAIN) {
        w = shim_work_new(s, fd);
    }
    if (w && !w->abandoned && !shim_slot_has(s, SHIM_SF_ABORT)) {
        lives = keep_lingering(fd, w);
    }
    if (w && !lives) {
        shim_work_drop(w);
        (void)say_any_goodbye(fd, s);
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

/* The peer had closed altogether, and close_notify, which is data, made it answer with a reset before
 * the FIN was out. To a FIN alone it would not have: the bare call succeeds. */
static int
shutdown_real(int fd, int how, bool said_goodbye)
{
    int saved = errno, r = shim_real.shutdown(fd, how);
    if (r < 0 && errno == ENOTCONN && said_goodbye) {
        errno = saved;
        r = 0;
    }
    return r;
}

static void
note_spoke(const struct shim_slot *s)
{
    if (shim_work_enter()) {
        struct shim_work *w = shim_work_of(s);
        if (w) {
            shim_hs_spoke(w);
        }
        shim_work_leave();
    }
}

/* Ends the send side: now, or as soon as what stands before it has gone. */
static int
shutdown_write(int fd, struct shim_slot *s, int how)
{
    int r = -EAGAIN;
    shim_work_drive_slot(s);
    if (shim_slot_phase(s) >= SHIM_PHASE_OPEN && !shim_slot_has(s, SHIM_SF_EARLY)) {
        r = shim_audit_tx(fd, s, false);
        if (r == 0) {
            r = shim_slot_phase(s) == SHIM_PHASE_OPEN     ? shim_tx_close_notify(fd, s)
                : shim_slot_phase(s) == SHIM_PHASE_KERNEL ? shim_ktls_close_notify(fd, s)
                                                          : -EAGAIN;
            shim_lock_put(&s->tx_lock);
        }
    }
    if (r != -EAGAIN || shim_slot_phase(s) >= SHIM_PHASE_FAILED) {
        return shutdown_real(fd, how, r == 0);
    }
    atomic_fetch_or(&s->flags, SHIM_SF_FIN_DUE);
    shim_work_tail(s, fd);
    note_spoke(s);
    shim_work_drive_slot(s);
    /* SHUT_RD now would cut a handshake off: talk.c does it afterwards. */
    return how == SHUT_RDWR && shim_slot_phase(s) >= SHIM_PHASE_OPEN
               ? shim_real.shutdown(fd, SHUT_RD)
               : 0;
}

int
shim_conn_shutdown(int fd, int how)
{
    struct shim_slot *s = shim_conn_slot(fd);
    uint32_t word = shim_fd_word(fd);
    if (word >> SHIM_FD_KIND_SHIFT == SHIM_FD_LISTENER && how != SHUT_WR) {
        int saved = errno;
        shim_link_leave(shim_cookie(fd)); /* it will not listen any more, either */
        errno = saved;
    }
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
for_own_slots(void (*each)(struct shim_slot *s, uint32_t arg), uint32_t arg)
{
    for (int fd = 0, end = shim_fdtab_limit(); fd < end; fd++) {
        uint32_t word = shim_fd_word(fd);
        struct shim_slot *s = word >> SHIM_FD_KIND_SHIFT == SHIM_FD_CONN
                                  ? shim_slot_current(SHIM_FD_INDEX(word))
                                  : NULL;
        if (s) {
            each(s, arg);
        }
    }
}

static void
count(struct shim_slot *s, uint32_t n)
{
    atomic_fetch_add(&s->refs, n);
}

static void
name(struct shim_slot *s, uint32_t pid)
{
    if (pid && shim_region_index(s) == 0) {
        shim_slot_name(s, (int)pid, 1);
    } else {
        atomic_store(&s->crowded, 1);
    }
}

static _Atomic bool over;

bool
shim_conn_is_over(void)
{
    return atomic_load_explicit(&over, memory_order_relaxed);
}

/* What finds no room waits for it as after shutdown. */
static void
part(struct shim_slot *s, int fd, bool for_good)
{
    enum shim_phase phase = shim_slot_phase(s);
    int r = 0;
    shim_shape_leave(s);
    if (for_good && shim_slot_is_only(s, shim_fdtab_owner())) {
        shim_retry_leave(s); /* nobody closes it */
        shim_limit_leave(s);
    }
    if ((phase != SHIM_PHASE_OPEN && phase != SHIM_PHASE_KERNEL) ||
        !shim_slot_is_only(s, shim_fdtab_owner())) {
        return; /* others go on with it */
    }
    if (for_good) {
        shim_stat_conn_note(s, MESH_HOW_EXITED, 0);
        r = phase == SHIM_PHASE_OPEN ? say_goodbye(fd, s, false) : say_goodbye_kernel(fd, s, false);
    } else if (phase == SHIM_PHASE_OPEN) {
        (void)clear_queue(fd, s, true);
    }
    if (r == -EAGAIN) {
        atomic_fetch_or(&s->flags, SHIM_SF_FIN_DUE);
        shim_work_tail(s, fd);
    }
}

/* What this image inherited and never used, it only has to look after if something came: the engine
 * is not loaded yet. */
static bool
is_worth_it(int fd)
{
    int unread = 0;
    return atomic_load(&shim_tls) || (sys_call(SYS_ioctl, fd, SIOCINQ, &unread, 0) == 0 &&
                                      unread > 0 && shim_ident_engine() == MESH_OK);
}

void
shim_conn_exit(bool for_good)
{
    if (for_good && !atomic_exchange(&over, true)) {
        shim_listener_exit();
    }
    for (int fd = 0, end = shim_region() ? shim_fdtab_limit() : 0; fd < end; fd++) {
        uint32_t word = shim_fd_word(fd);
        struct shim_slot *s = word >> SHIM_FD_KIND_SHIFT == SHIM_FD_CONN
                                  ? shim_slot_current(SHIM_FD_INDEX(word))
                                  : NULL;
        if (s && is_worth_it(fd)) {
            part(s, fd, for_good);
        }
        if (s && for_good && atomic_load(&s->endpoint) && shim_slot_is_only(s, shim_fdtab_owner())) {
            struct mesh_page_conn *c = shim_stat_conn(s);
            if (c) {
                c->uncounted = 1; /* meshd would take it for one that it has to count again */
            }
            shim_retry_leave(s);
        }
    }
}

/* The child will hold every descriptor once more. Counted before, so that a close in the parent
 * right after fork does not see itself as the last; the child puts its name to it. */
void
shim_conn_before_fork(void)
{
    shim_fresh_share(false);
    for_own_slots(count, 1);
}

void
shim_conn_fork_failed(void)
{
    for_own_slots(count, (uint32_t)-1);
}

void
shim_conn_forked(void)
{
    atomic_store(&over, false);
    /* In another pid namespace our numbers are somebody else's. */
    bool same = !shim_region() || shim_region_forked();
    shim_lock_forked(!same);
    for_own_slots(name, same ? (uint32_t)shim_fdtab_owner() : 0);
}
