/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_goodbye, see goodbye.h; and shim_conn, the part about shutdown.
 */
#include "shim/flow/goodbye.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include "shim/core/fdtab.h"
#include "shim/flow/audit.h"
#include "shim/flow/conn.h"
#include "shim/flow/hs.h"
#include "shim/flow/ktls.h"
#include "shim/flow/retry.h"
#include "shim/flow/rx.h"
#include "shim/flow/tx.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/real.h"
#include "shim/tls/tls.h"

#define NOTIFY_LEN (int)(SHIM_REC_OVERHEAD + 2u) /* of close_notify */

bool
shim_goodbye_clear(int fd, struct shim_slot *s, bool try)
{
    bool unread = false;
    if (shim_audit_rx(fd, s, try) == 0) {
        shim_rx_drain_control(fd, s);
        unread = s->rx_state != SHIM_RX_NONE || shim_slot_has(s, SHIM_SF_MARK);
        shim_lock_put(&s->rx_lock);
    }
    return !unread;
}

static int
say_goodbye(int fd, struct shim_slot *s, bool try)
{
    int r = 0;
    if (shim_slot_has(s, SHIM_SF_ABORT)) {
        return 0;
    }
    /* With data unread the kernel resets, and the peer must see that and no orderly end. */
    if (shim_goodbye_clear(fd, s, try) && shim_audit_tx(fd, s, try) == 0) {
        r = shim_tx_close_notify(fd, s);
        shim_lock_put(&s->tx_lock);
        if (r == 0 && sys_call(SYS_shutdown, fd, SHUT_WR, 0, 0) == 0) {
            (void)shim_goodbye_clear(fd, s, try);
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
 * the end. */
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

int
shim_goodbye(int fd, struct shim_slot *s, bool try)
{
    enum shim_phase phase = shim_slot_phase(s);
    return phase == SHIM_PHASE_OPEN     ? say_goodbye(fd, s, try)
           : phase == SHIM_PHASE_KERNEL ? say_goodbye_kernel(fd, s, try)
                                        : 0;
}

/* The peer's FIN has come; close_notify waits for ours, and for nothing of the program's. A reset before this is the
 * program's to see, and so is one that its own bytes may draw: those a cork or MSG_MORE holds go with our FIN. */
static bool
peer_ended(int fd)
{
    uint8_t state = 0;
    int out = 0;
    socklen_t len = sizeof(state); /* the first byte of struct tcp_info */
    return sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &len) == 0 && state == TCP_CLOSE_WAIT &&
           sys_call(SYS_ioctl, fd, SIOCOUTQ, &out, 0) == 0 && out <= NOTIFY_LEN;
}

static void
take_error(int fd)
{
    int e;
    socklen_t len = sizeof(e);
    (void)sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len);
}

void
shim_goodbye_fin(int fd)
{
    bool ended = peer_ended(fd);
    (void)sys_call(SYS_shutdown, fd, SHUT_WR, 0, 0);
    if (ended) {
        take_error(fd);
    }
}

/* To a FIN alone the peer would not have answered with a reset before it was out: the bare call succeeds. */
static int
shutdown_real(int fd, int how, bool said_goodbye)
{
    bool ended = said_goodbye && peer_ended(fd);
    int saved = errno, r = shim_real.shutdown(fd, how);
    if (r < 0 && errno == ENOTCONN && said_goodbye) {
        errno = saved;
        r = 0;
    }
    if (ended) {
        take_error(fd);
    }
    return r;
}

/* Under the work lock. */
static void
spoke(const struct shim_slot *s)
{
    struct shim_work *w = shim_work_of(s);
    if (w) {
        shim_hs_spoke(w);
    }
}

static void
note_spoke(const struct shim_slot *s)
{
    if (shim_work_enter()) {
        spoke(s);
        shim_work_leave();
    }
}

/* False: another thread has found it to be plain. */
static bool
owe_end(struct shim_slot *s)
{
    bool locked = shim_work_enter(), here = atomic_load(&s->cookie) != 0;
    if (here) {
        atomic_fetch_or(&s->flags, SHIM_SF_FIN_DUE);
    }
    if (locked) {
        if (here) {
            spoke(s);
        }
        shim_work_leave();
    }
    return here;
}

/* A client went away before there was TLS: nothing is written any more, and bare this is the first end of ours. */
static bool
end_failed(struct shim_slot *s)
{
    return shim_slot_has(s, SHIM_SF_SERVER) && atomic_load(&s->err) == MESH_OK &&
           !(atomic_fetch_or(&s->flags, SHIM_SF_TX_DEAD) & SHIM_SF_TX_DEAD);
}

/* Ends the send side: now, or as soon as what stands before it has gone. */
static int
shutdown_write(int fd, struct shim_slot *s, int how)
{
    int r = -EAGAIN;
    struct pollfd p = {fd, 0, 0};
    shim_work_drive_slot(s);
    if (shim_conn_slot(fd) != s) {
        return shim_real.shutdown(fd, how); /* its client turned out to be none of the mesh */
    }
    if (shim_slot_phase(s) >= SHIM_PHASE_OPEN && sys_poll(&p, 1, 0) > 0 && p.revents & POLLERR && p.revents & POLLHUP) {
        return shutdown_real(fd, how, false); /* reset: what is to be known of that is the next call's to tell */
    }
    if (shim_slot_phase(s) >= SHIM_PHASE_OPEN && !shim_slot_has(s, SHIM_SF_EARLY)) {
        r = shim_audit_tx(fd, s, false);
        if (r == 0) {
            r = shim_slot_phase(s) == SHIM_PHASE_OPEN     ? shim_tx_close_notify(fd, s)
                : shim_slot_phase(s) == SHIM_PHASE_KERNEL ? shim_ktls_close_notify(fd, s)
                                                          : -EAGAIN;
            shim_lock_put(&s->tx_lock);
        }
    }
    if (shim_slot_phase(s) == SHIM_PHASE_FAILED) {
        atomic_fetch_or(&s->flags, SHIM_SF_TX_SHUT);
    }
    if (r != -EAGAIN || shim_slot_phase(s) >= SHIM_PHASE_FAILED) {
        return shutdown_real(fd, how, r == 0 || end_failed(s));
    }
    if (!owe_end(s)) {
        return shim_real.shutdown(fd, how);
    }
    shim_work_tail(s, fd);
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
    if (s && shim_slot_phase(s) == SHIM_PHASE_CONNECTING) {
        shim_work_drive_slot(s); /* TCP may be up: then its peer is to hear who it was */
        s = shim_conn_slot(fd);  /* or it was refused */
    }
    if (s && shim_slot_phase(s) != SHIM_PHASE_OPEN && shim_conn_is_mute(s)) {
        shim_retry_disconnect(fd);
        return 0;
    }
    if (!s || shim_slot_phase(s) == SHIM_PHASE_CONNECTING) {
        return shim_real.shutdown(fd, how);
    }
    if (how == SHUT_RD && shim_slot_phase(s) == SHIM_PHASE_HANDSHAKE) {
        struct mesh_snap snap = shim_link_snapshot();
        struct mesh_snap_settings set;
        mesh_snap_settings(&snap, &set);
        (void)shim_work_wait(NULL, 0, shim_now() + (uint64_t)set.accept_grace_ms * 1000000, NULL, s);
        s = shim_conn_slot(fd);
        if (!s) {
            return shim_real.shutdown(fd, how); /* its client turned out to be none of the mesh */
        }
    }
    if (how == SHUT_RD || how == SHUT_RDWR) {
        atomic_fetch_or(&s->flags, SHIM_SF_RX_SHUT);
    }
    if (how == SHUT_WR || how == SHUT_RDWR) {
        return shutdown_write(fd, s, how);
    }
    if (how == SHUT_RD && shim_slot_phase(s) == SHIM_PHASE_HANDSHAKE) {
        note_spoke(s); /* who polls is to be told of the end, whether the client says something or not */
    }
    return how == SHUT_RD && shim_slot_phase(s) < SHIM_PHASE_OPEN ? 0
                                                                  : shim_real.shutdown(fd, how);
}
