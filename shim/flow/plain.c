/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_plain: see plain.h.
 */
#include "shim/flow/plain.h"

#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "shim/core/stat.h"
#include "shim/flow/detect.h"
#include "shim/flow/early.h"
#include "shim/flow/fresh.h"
#include "shim/flow/hs_int.h"
#include "shim/flow/retry.h"
#include "shim/flow/sockopt.h"
#include "shim/link/link.h"
#include "shim/real.h"

/* The socket is not ours any more: it is a plain one, open or not. */
bool
shim_plain_forget(struct shim_work *w, enum shim_fd_kind kind)
{
    struct shim_slot *s = shim_hs_slot(w);
    shim_retry_leave(s);
    if (kind == SHIM_FD_FRESH) {
        shim_sockopt_fast_open_again(w->fd, s);
    }
    if (kind != SHIM_FD_FRESH || !shim_fresh_again(s)) {
        (void)shim_fdtab_turn(SHIM_FD_WORD(SHIM_FD_CONN, w->slot), kind);
        (void)shim_slot_free_once(s, w->cookie);
    }
    return true;
}

static bool
let_go(struct shim_work *w)
{
    if (w->helper) {
        (void)shim_slot_free_once(shim_hs_slot(w), w->cookie); /* who has got it finds a plain one */
        return true;
    }
    if (w->owned) {
        return true; /* dropped and closed */
    }
    return shim_plain_forget(w, SHIM_FD_OTHER);
}

bool
shim_plain_go(struct shim_work *w)
{
    shim_early_begin(w);
    while (w->early_off < w->early_len) {
        bool urgent;
        struct iovec v = shim_early_part(w, &urgent);
        long r = sys_send(w->fd, v.iov_base, v.iov_len, MSG_DONTWAIT | (urgent ? MSG_OOB : 0));
        if (r == -EAGAIN) {
            w->plain = true; /* comes back here: nothing else can be decided any more */
            return false;
        }
        if (r < 0) {
            break;
        }
        shim_early_went(w, (size_t)r);
    }
    struct shim_slot *s = shim_hs_slot(w);
    shim_stat_add(MESH_STAT_PLAIN_IN, 1);
    shim_stat_conn_plain(s);
    if (shim_slot_has(s, SHIM_SF_FIN_DUE)) {
        (void)sys_call(SYS_shutdown, w->fd, SHUT_WR, 0, 0);
    }
    if (shim_slot_has(s, SHIM_SF_RX_SHUT)) {
        (void)sys_call(SYS_shutdown, w->fd, SHUT_RD, 0, 0);
    }
    return let_go(w);
}

bool
shim_plain_is_dead(const struct shim_work *w)
{
    struct shim_slot *s = shim_hs_slot(w);
    struct pollfd p = {w->fd, 0, 0};
    int queued = 0;
    bool ours = shim_hs_is_server(w) && ((w->may_be_plain && !w->detected) || shim_slot_is_only(s, shim_fdtab_owner()));
    return ours && sys_poll(&p, 1, 0) > 0 && p.revents & POLLHUP && sys_call(SYS_ioctl, w->fd, FIONREAD, &queued, 0) == 0 &&
           queued == 0;
}

bool
shim_plain_bury(struct shim_work *w)
{
    struct shim_slot *s = shim_hs_slot(w);
    shim_stat_conn_broke(s, -ECONNRESET);
    shim_stat_conn_closed(s, MESH_OK);
    return let_go(w);
}

/* As ask_registry in detect.c, but that the caller sleeps: for so long at most, if it may. */
#define PATIENCE_MS 1000u
static bool
is_outside(int fd, const struct shim_slot *s, bool patient)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    mesh_snap_settings(&snap, &set);
    uint64_t until = shim_now() + (uint64_t)(patient ? PATIENCE_MS : set.detect_timeout_ms) * 1000000;
    enum shim_origin o = shim_detect_origin(fd, s);
    while (o == SHIM_ORIGIN_UNKNOWN && shim_slot_has(s, SHIM_SF_SILENT) && shim_now() < until) {
        (void)sys_poll(NULL, 0, 5);
        o = shim_detect_origin(fd, s);
    }
    return o == SHIM_ORIGIN_OUTSIDE;
}

/* Several threads, or processes, may come here at once. All find the same; one acts, and until it has done so the flag
 * stands. A handler above the lock's holder acts without the lock: nothing of this connection is on the list any more. */
bool
shim_plain_late(int fd, struct shim_slot *s, bool patient)
{
    uint32_t word = shim_fd_word(fd), handle = SHIM_FD_INDEX(word), failed = SHIM_PHASE_FAILED;
    if (word >> SHIM_FD_KIND_SHIFT != SHIM_FD_CONN || shim_slot_current(handle) != s) {
        return true;
    }
    bool plain = is_outside(fd, s, patient), locked = shim_work_enter();
    if (shim_slot_current(handle) != s || shim_slot_phase(s) != SHIM_PHASE_FAILED) {
        plain = true;
    } else if (!shim_slot_has(s, SHIM_SF_SILENT)) {
        plain = false;
    } else if (!plain) {
        (void)sys_call(SYS_shutdown, fd, SHUT_RDWR, 0, 0);
        atomic_fetch_and(&s->flags, ~SHIM_SF_SILENT);
    } else if (atomic_compare_exchange_strong(&s->phase, &failed, SHIM_PHASE_FREE)) {
        shim_stat_add(MESH_STAT_PLAIN_IN, 1);
        (void)shim_fdtab_turn(SHIM_FD_WORD(SHIM_FD_CONN, handle), SHIM_FD_OTHER);
        shim_slot_free(s);
    }
    if (locked) {
        shim_work_leave();
    }
    return plain;
}
