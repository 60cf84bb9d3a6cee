/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_hs: see hs.h.
 */
#include "shim/flow/hs.h"

#include <errno.h>

#include "shim/core/fdtab.h"
#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/flow/audit.h"
#include "shim/flow/conn.h"
#include "shim/flow/detect.h"
#include "shim/flow/early.h"
#include "shim/flow/goodbye.h"
#include "shim/flow/hs_int.h"
#include "shim/flow/ktls.h"
#include "shim/flow/plain.h"
#include "shim/flow/retry.h"
#include "shim/flow/rx.h"
#include "shim/flow/shape.h"
#include "shim/flow/tx.h"
#include "shim/link/link.h"
#include "shim/real.h"

void
shim_hs_changed(const struct shim_work *w)
{
    atomic_fetch_add(&shim_work_changes, 1);
    if (!w->owned && shim_work_on_change) {
        shim_work_on_change(w->fd);
    }
}

bool
shim_hs_fail(struct shim_work *w, enum mesh_err e, int no)
{
    struct shim_slot *s = shim_hs_slot(w);
    char peer[MESH_ADDR_TEXT];
    if (shim_retry_after(w, e, no ? no : mesh_err_errno(e))) {
        return true;
    }
    shim_stat_err(e);
    shim_log_info("handshake with %s: %s (%s)", mesh_addr_text(&s->peer, peer), mesh_err_text(e),
                  mesh_err_reason(e));
    atomic_store(&s->err, e);
    bool kernels = no && (e == MESH_E_SYSTEM || e == MESH_E_PEER_GONE || e == MESH_E_CONNECT_FAILED);
    no = no ? no : mesh_err_errno(e);
    atomic_store(&s->fail_errno, no == EACCES && shim_slot_has(s, SHIM_SF_LAZY) ? ECONNRESET : no);
    if (!shim_hs_is_server(w) && !shim_slot_has(s, SHIM_SF_LAZY)) {
        atomic_store(&s->so_error, no);
    }
    shim_retry_note(w);
    shim_stat_conn_broke(s, kernels ? -no : -EAGAIN);
    shim_stat_conn_closed(s, e);
    shim_retry_leave(s);
    bool silent = shim_slot_has(s, SHIM_SF_SILENT); /* when it is FAILED, another thread may decide */
    atomic_store_explicit(&s->phase, SHIM_PHASE_FAILED, memory_order_release);
    if (!silent) {
        (void)sys_call(SYS_shutdown, w->fd, SHUT_RDWR, 0, 0);
    }
    return true;
}

static bool
tcp_is_up(struct shim_work *w, bool *failed)
{
    struct pollfd p = {w->fd, POLLOUT, 0};
    *failed = false;
    if (sys_poll(&p, 1, 0) <= 0) {
        return false;
    }
    if (p.revents & (POLLERR | POLLHUP | POLLNVAL)) {
        *failed = true;
        return false;
    }
    return true;
}

/* The first words are drive_handshake's, as all others, under the lock: a copy of the item that fork made may be here, too. */
static void
start_tls(struct shim_work *w)
{
    struct shim_slot *s = shim_hs_slot(w);
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    mesh_snap_settings(&snap, &set);
    uint32_t connecting = SHIM_PHASE_CONNECTING;
    if (!atomic_compare_exchange_strong(&s->phase, &connecting, SHIM_PHASE_HANDSHAKE)) {
        return; /* another process has ended it in this moment, or begun */
    }
    w->started = shim_now();
    w->grace_at = w->started + (uint64_t)set.accept_grace_ms * 1000000;
    if (shim_slot_has(s, SHIM_SF_OWN)) {
        w->grace_at = w->started;
    }
    shim_hs_changed(w); /* it is waited for to be readable now, no longer to be writable */
}

/* A peer that has begun must go on. A server that has sent its flight grants more time: the client
 * may be a program that does not come back to its socket for a while [DESIGN D11]. */
#define PATIENCE 12
static void
set_expiry(struct shim_work *w, uint64_t now)
{
    struct mesh_snap_settings set;
    bool flight = shim_hs_is_server(w) && w->step > 0;
    if (w->expires_at != SHIM_NEVER && (!flight || w->patient)) {
        return;
    }
    if (!w->answered && !w->awaited && (!shim_hs_is_server(w) || w->may_be_plain)) {
        return;
    }
    struct mesh_snap snap = shim_link_snapshot();
    mesh_snap_settings(&snap, &set);
    w->patient = flight;
    w->expires_at = now + (uint64_t)set.handshake_timeout_ms * 1000000 * (flight ? PATIENCE : 1);
}

static void
linger_anew(struct shim_work *w)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    mesh_snap_settings(&snap, &set);
    w->linger_at = shim_now() + (uint64_t)set.linger_ms * 1000000;
}

static bool
drive_handshake(struct shim_work *w)
{
    struct shim_slot *s = shim_hs_slot(w);
    uint64_t now;
    if (shim_plain_is_dead(w)) {
        return shim_plain_bury(w);
    }
    if (w->may_be_plain && !w->detected) {
        switch (shim_detect(w)) {
        case SHIM_DETECT_PLAIN:
            return shim_plain_go(w);
        case SHIM_DETECT_GONE:
            atomic_fetch_or(&s->flags, w->spoke ? 0 : SHIM_SF_SILENT);
            shim_stat_err(w->spoke ? MESH_E_TRUNCATED : MESH_OK);
            return shim_hs_fail(w, MESH_OK, 0);
        case SHIM_DETECT_RESET:
            atomic_fetch_or(&s->flags, SHIM_SF_TX_DEAD);
            return shim_hs_fail(w, MESH_OK, ECONNRESET);
        case SHIM_DETECT_TLS:
            w->detected = true;
            if (w->owned && w->linger_at != SHIM_NEVER) {
                linger_anew(w); /* it was taken for silent */
            }
            break;
        case SHIM_DETECT_WAIT:
            break;
        }
    }
    if (!shim_hs_is_server(w) || w->detected || !w->may_be_plain) {
        if (shim_lock_poll(&s->rx_lock) > SHIM_LOCK_INHERITED) {
            return false; /* another process is at it */
        }
        bool mine = w->step == atomic_load(&s->hs_step);
        bool moved = mine && shim_hs_talk(w);
        shim_lock_put(&s->rx_lock);
        if (moved || !mine) {
            return false; /* look again in the new phase */
        }
    }
    if (shim_slot_phase(s) != SHIM_PHASE_HANDSHAKE) {
        return shim_slot_phase(s) == SHIM_PHASE_FAILED;
    }
    now = shim_now();
    if (!shim_hs_is_server(w) && !w->answered && now >= w->grace_at &&
        !shim_slot_has(s, SHIM_SF_LAZY)) {
        atomic_fetch_or(&s->flags, SHIM_SF_LAZY);
        shim_stat_add(MESH_STAT_HS_LAZY, 1);
        shim_stat_connected(s);
        shim_retry_waits(w);
        shim_hs_changed(w);
    }
    set_expiry(w, now);
    shim_retry_expire(w, now);
    if (now >= w->expires_at) {
        (void)shim_hs_fail(w, MESH_E_HANDSHAKE_TIMEOUT, 0);
    }
    return shim_slot_phase(s) == SHIM_PHASE_FAILED;
}

/* Bytes that were accepted early, in order, then the tail, then what close or shutdown asked. */
static bool
drive_open(struct shim_work *w)
{
    struct shim_slot *s = shim_hs_slot(w);
    bool done = false;
    if (shim_audit_tx(w->fd, s, true) != 0) {
        return false; /* whoever holds it flushes */
    }
    if (shim_slot_phase(s) != SHIM_PHASE_OPEN) {
        shim_lock_put(&s->tx_lock);
        return false; /* it went to the kernel meanwhile */
    }
    ssize_t r = 0;
    shim_early_begin(w);
    while (w->early_off < w->early_len && r >= 0) {
        bool urgent;
        struct iovec v = shim_early_part(w, &urgent);
        struct shim_iov c;
        (void)shim_iov_init(&c, &v, 1);
        r = urgent ? shim_tx_urgent(w->fd, s, &c) : shim_tx_put(w->fd, s, &c, 0);
        shim_early_went(w, r > 0 ? (size_t)r : 0);
    }
    if (r >= 0 && w->early_off == w->early_len) {
        r = shim_tx_flush(w->fd, s);
        if (r == 0) {
            atomic_fetch_and(&s->flags, ~(uint32_t)(SHIM_SF_EARLY | SHIM_SF_EARLY_FULL));
        }
        if (r == 0 && !w->helper && (w->owned || shim_slot_has(s, SHIM_SF_FIN_DUE))) {
            r = shim_tx_close_notify(w->fd, s);
            if (r == 0 && !w->owned) {
                shim_goodbye_fin(w->fd);
                atomic_fetch_and(&s->flags, ~(uint32_t)SHIM_SF_FIN_DUE);
            }
        }
        done = r == 0;
    }
    if (r < 0 && r != -EAGAIN) {
        shim_early_failed(w, (int)-r);
    }
    shim_lock_put(&s->tx_lock);
    if (done && w->helper) {
        return true; /* the rest is theirs */
    }
    if (done && w->owned) {
        shim_rx_drain_control(w->fd, s);
    } else if (done && shim_ktls_always() && !shim_slot_has(s, SHIM_SF_SHAPED) && shim_ktls_give(w->fd, s) == -EAGAIN) {
        shim_stat_add(MESH_STAT_KERNEL_NOT, 1); /* its reader was quicker: it stays with us */
    }
    return done || (r < 0 && r != -EAGAIN);
}

/* Close and shutdown waited for room before they could say so. */
static bool
drive_kernel(struct shim_work *w)
{
    struct shim_slot *s = shim_hs_slot(w);
    int r = 0;
    if (shim_audit_tx(w->fd, s, true) != 0) {
        return false;
    }
    if (w->owned || shim_slot_has(s, SHIM_SF_FIN_DUE)) {
        r = shim_ktls_close_notify(w->fd, s);
        if (r == 0 && !w->owned) {
            shim_goodbye_fin(w->fd);
            atomic_fetch_and(&s->flags, ~(uint32_t)SHIM_SF_FIN_DUE);
        }
    }
    shim_lock_put(&s->tx_lock);
    return r != -EAGAIN;
}

/* Its program is not to read yet [shape.c]. */
static bool
is_held_back(struct shim_work *w, enum shim_phase phase)
{
    if (w->wake_at && phase == SHIM_PHASE_OPEN && !w->owned) {
        if (shim_now() < w->wake_at || !shim_shape_wake(w->fd, shim_hs_slot(w))) {
            return true;
        }
        shim_hs_changed(w);
    }
    w->wake_at = 0;
    return false;
}

/* The others have closed meanwhile what we helped to send: it is ours to end. */
static void
become_last(struct shim_work *w)
{
    w->helper = false;
    linger_anew(w);
    if (w->early_len > w->early_off) {
        w->linger_at = SHIM_NEVER;
    }
}

/* A client that has been silent until its server's end is due, but is of the mesh: it gets the time of others. Asked
 * once. */
static bool
is_slow(struct shim_work *w)
{
    uint32_t known = MESH_PEER_NO;
    const struct shim_slot *s = shim_hs_slot(w);
    if (!w->may_be_plain || w->answered || w->detected ||
        shim_link_peer_known(w->fd, &s->peer, &s->local, &known) != MESH_OK || known == MESH_PEER_NO) {
        return false;
    }
    w->may_be_plain = false;
    linger_anew(w);
    return true;
}

/* Whoever has the connection can do without us. */
static bool
has_helped(const struct shim_work *w, const struct shim_slot *s, enum shim_phase phase)
{
    bool sent = w->early_off == w->early_len && (s->tx_spill == 0 || !shim_slot_has(s, SHIM_SF_COMMON));
    return phase >= SHIM_PHASE_OPEN && (phase != SHIM_PHASE_OPEN || sent);
}

bool
shim_hs_drive(struct shim_work *w)
{
    struct shim_slot *s = shim_hs_slot(w);
    if (w->held) {
        return false;
    }
    if (atomic_load(&s->cookie) != w->cookie) {
        return true;
    }
    if (w->dormant) {
        return false;
    }
    if (w->owned && shim_now() >= w->linger_at && !is_slow(w)) {
        return true;
    }
    enum shim_phase phase = shim_slot_phase(s);
    if (phase < SHIM_PHASE_OPEN && w->step != atomic_load(&s->hs_step)) {
        w->abandoned = true;
        if (!shim_conn_is_orphan(s)) {
            return false;
        }
        if (shim_conn_is_mute(s)) {
            shim_retry_disconnect(w->fd);
        } else {
            (void)sys_call(SYS_shutdown, w->fd, SHUT_RDWR, 0, 0);
        }
        return true;
    }
    if (phase == SHIM_PHASE_CONNECTING) {
        bool failed, routed = shim_slot_has(s, SHIM_SF_ROUTED);
        if (routed ? !shim_retry_up(w, &failed) : !tcp_is_up(w, &failed)) {
            if (failed) {
                shim_retry_note(w);
                shim_stat_conn_closed(s, MESH_E_CONNECT_FAILED); /* the program hears it of the kernel */
                return shim_plain_forget(w, SHIM_FD_FRESH);
            }
            return shim_slot_phase(s) == SHIM_PHASE_FAILED;
        }
        start_tls(w);
        phase = shim_slot_phase(s);
    }
    if (phase == SHIM_PHASE_HANDSHAKE) {
        if (drive_handshake(w)) {
            return true;
        }
        if (atomic_load(&s->cookie) != w->cookie) {
            return true;
        }
        phase = shim_slot_phase(s);
    }
    if (w->holds && w->helper && shim_slot_is_only(s, shim_fdtab_owner())) {
        become_last(w);
    }
    if (w->helper && has_helped(w, s, phase)) {
        return true;
    }
    if (phase == SHIM_PHASE_KERNEL) {
        return drive_kernel(w);
    }
    bool sleeps = is_held_back(w, phase);
    return phase == SHIM_PHASE_OPEN ? drive_open(w) && !sleeps : phase >= SHIM_PHASE_FAILED;
}

short
shim_hs_events(const struct shim_work *w)
{
    struct shim_slot *s = shim_hs_slot(w);
    enum shim_phase phase = shim_slot_phase(s);
    if (w->abandoned || w->held || w->dormant) {
        return 0;
    }
    if (phase == SHIM_PHASE_HANDSHAKE) {
        if (w->ended) {
            return 0; /* asked again by the clock */
        }
        return w->plain || w->out_off < w->out_len ? POLLOUT : POLLIN;
    }
    if (shim_slot_has(s, SHIM_SF_PAUSED) && phase == SHIM_PHASE_CONNECTING) {
        return 0;
    }
    if (w->wake_at && phase == SHIM_PHASE_OPEN && !s->tx_spill &&
        !shim_slot_has(s, SHIM_SF_EARLY | SHIM_SF_FIN_DUE)) {
        return 0;
    }
    return phase == SHIM_PHASE_CONNECTING || phase == SHIM_PHASE_OPEN || phase == SHIM_PHASE_KERNEL
               ? POLLOUT
               : 0;
}

uint64_t
shim_hs_deadline(const struct shim_work *w)
{
    struct shim_slot *s = shim_hs_slot(w);
    uint64_t at = w->expires_at;
    if (w->dormant) {
        return SHIM_NEVER;
    }
    if (w->abandoned) {
        return shim_now() + 5000000; /* look whether the other process is done */
    }
    if (!shim_slot_has(s, SHIM_SF_LAZY | SHIM_SF_SERVER) && !w->answered && w->grace_at < at) {
        at = w->grace_at;
    }
    if (w->wake_at && w->wake_at < at) {
        at = w->wake_at;
    }
    uint64_t retry = shim_retry_deadline(w);
    at = retry < at ? retry : at;
    if (w->spoke && w->detect_at < at) {
        at = w->detect_at;
    }
    if (w->owned && w->linger_at < at) {
        at = w->linger_at;
    }
    return at;
}

void
shim_hs_spoke(struct shim_work *w)
{
    if (shim_hs_is_server(w) && !w->spoke && w->may_be_plain && !w->detected) {
        struct mesh_snap snap = shim_link_snapshot();
        struct mesh_snap_settings set;
        mesh_snap_settings(&snap, &set);
        w->spoke = true;
        w->detect_at = shim_now() + (uint64_t)set.detect_timeout_ms * 1000000;
        w->ask_until = w->detect_at + (uint64_t)set.handshake_timeout_ms * 1000000;
    }
}
