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

bool
shim_plain_late(int fd, struct shim_slot *s)
{
    if (!(atomic_fetch_and(&s->flags, ~SHIM_SF_SILENT) & SHIM_SF_SILENT)) {
        return false;
    }
    bool plain = shim_detect_is_outside(fd, s) && shim_work_enter();
    if (plain) {
        shim_stat_add(MESH_STAT_PLAIN_IN, 1);
        (void)shim_fdtab_turn(SHIM_FD_WORD(SHIM_FD_CONN, shim_slot_handle(s)), SHIM_FD_OTHER);
        shim_slot_free(s);
        shim_work_leave();
    } else {
        (void)sys_call(SYS_shutdown, fd, SHUT_RDWR, 0, 0);
    }
    return plain;
}
