/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_hs: see hs.h.
 */
#include "shim/flow/hs.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/core/fdtab.h"
#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/flow/conn.h"
#include "shim/flow/ident.h"
#include "shim/flow/tx.h"
#include "shim/flow/rx.h"
#include "shim/link/link.h"
#include "shim/real.h"

static struct shim_slot *
slot_of(const struct shim_work *w)
{
    return shim_slot_at(w->slot);
}

static bool
is_server(const struct shim_work *w)
{
    return shim_slot_has(slot_of(w), SHIM_SF_SERVER);
}

static void
changed(const struct shim_work *w)
{
    atomic_fetch_add(&shim_work_changes, 1);
    if (!w->owned && shim_work_on_change) {
        shim_work_on_change(w->fd);
    }
}

/* The connection is over; `no` overrides the table's errno. */
static bool
fail(struct shim_work *w, enum mesh_err e, int no)
{
    struct shim_slot *s = slot_of(w);
    char peer[MESH_ADDR_TEXT];
    shim_stat_err(e);
    shim_log_info("handshake with %s: %s (%s)", mesh_addr_text(&s->peer, peer), mesh_err_text(e),
                  mesh_err_reason(e));
    atomic_store(&s->err, e);
    no = no ? no : mesh_err_errno(e);
    atomic_store(&s->fail_errno, no == EACCES && shim_slot_has(s, SHIM_SF_LAZY) ? ECONNRESET : no);
    if (!is_server(w) && !shim_slot_has(s, SHIM_SF_LAZY)) {
        atomic_store(&s->so_error, no);
    }
    shim_stat_conn_closed(s, e);
    atomic_store_explicit(&s->phase, SHIM_PHASE_FAILED, memory_order_release);
    (void)sys_call(SYS_shutdown, w->fd, SHUT_RDWR, 0, 0);
    return true;
}

/* The socket is not ours any more: it is a plain one, open or not. */
static bool
forget(struct shim_work *w, enum shim_fd_kind kind)
{
    struct shim_slot *s = slot_of(w);
    uint32_t word = SHIM_FD_WORD(SHIM_FD_CONN, w->slot);
    for (int fd = 0, end = shim_fdtab_limit(); fd < end; fd++) {
        if (shim_fd_word(fd) == word) {
            (void)shim_fdtab_set(fd, kind, 0);
        }
    }
    shim_slot_free(s);
    return true;
}

/* Plaintext from or to a client that is not of the mesh, in mode permissive. */
static bool
go_plain(struct shim_work *w)
{
    while (w->early_off < w->early_len) {
        long r = sys_send(w->fd, w->early + w->early_off, w->early_len - w->early_off,
                          MSG_DONTWAIT);
        if (r == -EAGAIN) {
            return false; /* comes back here: nothing else can be decided any more */
        }
        if (r < 0) {
            break;
        }
        w->early_off += (size_t)r;
    }
    struct shim_slot *s = slot_of(w);
    shim_stat_add(MESH_STAT_PLAIN_IN, 1);
    shim_stat_conn_closed(s, MESH_OK);
    shim_stat_conn_new(s, true);
    if (shim_slot_has(s, SHIM_SF_FIN_DUE)) {
        (void)sys_call(SYS_shutdown, w->fd, SHUT_WR, 0, 0);
    }
    if (w->owned) {
        return true; /* dropped and closed */
    }
    return forget(w, SHIM_FD_OTHER);
}

enum look { LOOK_WAIT, LOOK_TLS, LOOK_PLAIN, LOOK_GONE };

/* [RFC8446 5.1] a client's first record is a handshake: 22, version 3.x. */
static enum look
look_at_first_bytes(struct shim_work *w)
{
    uint8_t b[3];
    long r = sys_recv(w->fd, b, sizeof(b), MSG_PEEK | MSG_DONTWAIT);
    if (r > 0) {
        return b[0] == 22 && (r < 2 || b[1] == 3) ? LOOK_TLS : LOOK_PLAIN;
    }
    if (r == 0 || r != -EAGAIN) {
        return LOOK_GONE;
    }
    if (w->spoke && shim_now() >= w->detect_at) {
        struct shim_slot *s = slot_of(w);
        w->detect_at = SHIM_NEVER;
        if (!shim_link_peer_known(&s->peer)) {
            return LOOK_PLAIN;
        }
        w->may_be_plain = false;
    }
    return LOOK_WAIT;
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

static int
send_out(struct shim_work *w)
{
    while (w->out_off < w->out_len) {
        long r = sys_send(w->fd, w->out + w->out_off, w->out_len - w->out_off, MSG_DONTWAIT);
        if (r < 0) {
            return (int)r;
        }
        w->out_off += (uint32_t)r;
    }
    w->out_len = w->out_off = 0;
    return 0;
}

/* A record in, what the engine answers out. */
static enum shim_hs_state
engine_step(struct shim_work *w, const uint8_t *rec, size_t len, int *err)
{
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    enum shim_hs_state st;
    size_t n;
    w->step = atomic_fetch_add(&slot_of(w)->hs_step, 1) + 1;
    do {
        n = 0;
        st = tls->hs_step(w->hs, rec, len, w->out, sizeof(w->out), &n);
        w->out_len = (uint32_t)n;
        w->out_off = 0;
        len = 0;
        *err = send_out(w);
    } while (n == sizeof(w->out) && *err == 0);
    return st;
}

static bool
finish(struct shim_work *w)
{
    static struct shim_hs_result res; /* under the work lock; too big for a small stack */
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    struct shim_slot *s = slot_of(w);
    tls->hs_result(w->hs, &res);
    memcpy(s->rx_key, &res.rx, sizeof(res.rx));
    memcpy(s->tx_key, &res.tx, sizeof(res.tx));
    shim_stat_conn_open(s, res.peer_id, res.tx.suite, (shim_now() - w->started) / 1000);
    shim_log_debug("open: fd %d peer %s", w->fd, res.peer_id);
    tls->wipe(&res, sizeof(res));
    tls->hs_free(w->hs);
    w->hs = NULL;
    atomic_store_explicit(&s->phase, SHIM_PHASE_OPEN, memory_order_release);
    /* Acknowledge the last flight now: the peer's first small write waits for that [RFC896]. */
    static const int one = 1;
    (void)sys_setsockopt(w->fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
    if (shim_slot_has(s, SHIM_SF_RX_SHUT)) {
        (void)sys_call(SYS_shutdown, w->fd, SHUT_RD, 0, 0); /* it would have cut the handshake */
    }
    changed(w);
    return true;
}

/* The next whole record of the handshake into w->in: 1, 0 (not yet), or -errno; -EPIPE at EOF. */
static int
read_record(struct shim_work *w)
{
    for (;;) {
        size_t want = SHIM_REC_HEAD;
        if (w->in_len >= SHIM_REC_HEAD) {
            want += (size_t)w->in[3] << 8 | w->in[4];
            if (w->in[0] < 20 || w->in[0] > 23 || w->in[1] != 3 || want > sizeof(w->in)) {
                return -EPROTO;
            }
            if (w->in_len == want) {
                return 1;
            }
        }
        long r = sys_recv(w->fd, w->in + w->in_len, want - w->in_len, MSG_DONTWAIT);
        if (r <= 0) {
            return r == -EAGAIN ? 0 : (r == 0 ? -EPIPE : (int)r);
        }
        w->answered = true;
        w->in_len += (uint32_t)r;
    }
}

static bool
read_failed(struct shim_work *w, int r)
{
    if (r == -EPROTO) {
        return fail(w, is_server(w) ? MESH_E_PLAINTEXT_REFUSED : MESH_E_NOT_TLS, 0);
    }
    if (r == -EPIPE) {
        /* To a server this is a client that connected and went away: an end like any other. */
        if (is_server(w) && w->answered) {
            shim_stat_err(MESH_E_TRUNCATED);
        }
        return fail(w, is_server(w) ? MESH_OK : MESH_E_TRUNCATED, 0);
    }
    return fail(w, MESH_E_SYSTEM, -r);
}

/* True when the phase has changed. */
static bool
handshake(struct shim_work *w)
{
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    int err = send_out(w);
    if (w->tls_done && err == 0) { /* the last flight went before any data */
        return finish(w);
    }
    if (!w->hs) {
        w->hs = tls->hs_new(is_server(w), w->expect_id[0] ? w->expect_id : NULL);
        if (!w->hs) {
            return fail(w, MESH_E_NO_IDENTITY, 0);
        }
        if (!is_server(w) && engine_step(w, NULL, 0, &err) == SHIM_HS_FAILED) {
            return fail(w, MESH_E_HANDSHAKE, 0);
        }
    }
    while (err == 0) {
        int r = read_record(w);
        if (r < 0) {
            return read_failed(w, r);
        }
        if (r == 0) {
            return false;
        }
        size_t len = w->in_len;
        w->in_len = 0;
        enum shim_hs_state st = engine_step(w, w->in, len, &err);
        if (st == SHIM_HS_FAILED) {
            struct shim_hs_result res;
            tls->hs_result(w->hs, &res);
            return fail(w, res.err ? res.err : MESH_E_HANDSHAKE, 0);
        }
        w->tls_done = st == SHIM_HS_DONE;
        if (w->tls_done && err == 0) {
            return finish(w);
        }
    }
    return err == -EAGAIN ? false : fail(w, MESH_E_SYSTEM, -err);
}

static bool
start_tls(struct shim_work *w)
{
    struct shim_slot *s = slot_of(w);
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    mesh_snap_settings(&snap, &set);
    if (sys_call(SYS_getsockname, w->fd, &sa, &len, 0) == 0) {
        (void)mesh_addr_from(&s->local, (struct sockaddr *)&sa, len);
    }
    shim_stat_conn_new(s, false);
    atomic_store_explicit(&s->phase, SHIM_PHASE_HANDSHAKE, memory_order_release);
    w->started = shim_now();
    w->grace_at = w->started + (uint64_t)set.accept_grace_ms * 1000000;
    if (shim_slot_has(s, SHIM_SF_OWN)) {
        w->grace_at = w->started;
    }
    return handshake(w);
}

/* A peer that has begun must go on. A server that has sent its flight grants more time: the client
 * may be a program that does not come back to its socket for a while [DESIGN D11]. */
#define PATIENCE 12
static void
set_expiry(struct shim_work *w, uint64_t now)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    bool flight = is_server(w) && w->step > 0;
    if (w->expires_at != SHIM_NEVER && (!flight || w->patient)) {
        return;
    }
    if (!w->answered && (!is_server(w) || w->may_be_plain)) {
        return;
    }
    mesh_snap_settings(&snap, &set);
    w->patient = flight;
    w->expires_at = now + (uint64_t)set.handshake_timeout_ms * 1000000 * (flight ? PATIENCE : 1);
}

static bool
drive_handshake(struct shim_work *w)
{
    struct shim_slot *s = slot_of(w);
    uint64_t now;
    if (w->may_be_plain && !w->detected) {
        switch (look_at_first_bytes(w)) {
        case LOOK_PLAIN:
            return go_plain(w);
        case LOOK_GONE:
            shim_stat_err(w->spoke ? MESH_E_TRUNCATED : MESH_OK);
            return fail(w, MESH_OK, 0);
        case LOOK_TLS:
            w->detected = true;
            break;
        case LOOK_WAIT:
            break;
        }
    }
    if (!is_server(w) || w->detected || !w->may_be_plain) {
        if (!shim_lock_try(&s->rx_lock)) {
            return false; /* another process is at it */
        }
        bool mine = w->step == atomic_load(&s->hs_step);
        bool moved = mine && handshake(w);
        shim_lock_put(&s->rx_lock);
        if (moved || !mine) {
            return false; /* look again in the new phase */
        }
    }
    if (shim_slot_phase(s) != SHIM_PHASE_HANDSHAKE) {
        return shim_slot_phase(s) == SHIM_PHASE_FAILED;
    }
    now = shim_now();
    if (!is_server(w) && !w->answered && now >= w->grace_at && !shim_slot_has(s, SHIM_SF_LAZY)) {
        atomic_fetch_or(&s->flags, SHIM_SF_LAZY);
        shim_stat_add(MESH_STAT_HS_LAZY, 1);
        changed(w);
    }
    set_expiry(w, now);
    return now >= w->expires_at ? fail(w, MESH_E_HANDSHAKE_TIMEOUT, 0) : false;
}

/* Bytes that were accepted early, in order, then the tail, then what close or shutdown asked. */
static bool
drive_open(struct shim_work *w)
{
    struct shim_slot *s = slot_of(w);
    bool done = false;
    if (!shim_lock_try(&s->tx_lock)) {
        return false; /* whoever holds it flushes */
    }
    ssize_t r = 0;
    if (w->early_off < w->early_len) {
        struct iovec v = {w->early + w->early_off, w->early_len - w->early_off};
        struct shim_iov c;
        (void)shim_iov_init(&c, &v, 1);
        r = shim_tx_put(w->fd, s, &c, 0);
        w->early_off += r > 0 ? (size_t)r : 0;
    }
    if (r >= 0 && w->early_off == w->early_len) {
        r = shim_tx_flush(w->fd, s);
        if (r == 0) {
            atomic_fetch_and(&s->flags, ~(uint32_t)(SHIM_SF_EARLY | SHIM_SF_EARLY_FULL));
        }
        if (r == 0 && (w->owned || shim_slot_has(s, SHIM_SF_FIN_DUE))) {
            r = shim_tx_close_notify(w->fd, s);
            if (r == 0 && !w->owned) {
                (void)sys_call(SYS_shutdown, w->fd, SHUT_WR, 0, 0);
                atomic_fetch_and(&s->flags, ~(uint32_t)SHIM_SF_FIN_DUE);
            }
        }
        done = r == 0;
    }
    shim_lock_put(&s->tx_lock);
    if (done && w->owned) {
        shim_rx_drain_control(w->fd, s);
    }
    return done || (r < 0 && r != -EAGAIN);
}

bool
shim_hs_drive(struct shim_work *w)
{
    struct shim_slot *s = slot_of(w);
    if (atomic_load(&s->cookie) != w->cookie) {
        return true;
    }
    if (w->held || w->dormant) {
        return false;
    }
    if (w->owned && shim_now() >= w->linger_at) {
        return true;
    }
    enum shim_phase phase = shim_slot_phase(s);
    if (phase < SHIM_PHASE_OPEN && w->step != atomic_load(&s->hs_step)) {
        w->abandoned = true;
        return false;
    }
    if (phase == SHIM_PHASE_CONNECTING) {
        bool failed;
        if (!tcp_is_up(w, &failed)) {
            return failed ? forget(w, SHIM_FD_FRESH) : false;
        }
        (void)start_tls(w);
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
    if (w->helper && phase != SHIM_PHASE_HANDSHAKE) {
        return true;
    }
    return phase == SHIM_PHASE_OPEN ? drive_open(w) : phase == SHIM_PHASE_FAILED;
}

short
shim_hs_events(const struct shim_work *w)
{
    struct shim_slot *s = slot_of(w);
    enum shim_phase phase = shim_slot_phase(s);
    if (w->abandoned || w->held || w->dormant) {
        return 0;
    }
    if (phase == SHIM_PHASE_HANDSHAKE) {
        return w->out_off < w->out_len ? POLLOUT : POLLIN;
    }
    return phase == SHIM_PHASE_CONNECTING || phase == SHIM_PHASE_OPEN ? POLLOUT : 0;
}

uint64_t
shim_hs_deadline(const struct shim_work *w)
{
    struct shim_slot *s = slot_of(w);
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
    if (w->spoke && w->detect_at < at) {
        at = w->detect_at;
    }
    if (w->owned && w->linger_at < at) {
        at = w->linger_at;
    }
    return at;
}

size_t
shim_hs_early(struct shim_work *w, const struct shim_iov *data)
{
    struct shim_iov c = *data;
    struct shim_slot *s = slot_of(w);
    if (!w->early) {
        void *p = mmap(NULL, SHIM_EARLY_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                       -1, 0);
        if (p == MAP_FAILED) {
            return 0;
        }
        w->early = p;
    }
    size_t n = SHIM_EARLY_MAX - w->early_len;
    n = n < c.left ? n : c.left;
    shim_iov_get(&c, w->early + w->early_len, n);
    w->early_len += n;
    atomic_fetch_or(&s->flags,
                    SHIM_SF_EARLY | (w->early_len == SHIM_EARLY_MAX ? SHIM_SF_EARLY_FULL : 0));
    if (is_server(w) && !w->spoke && w->may_be_plain && !w->detected) {
        struct mesh_snap snap = shim_link_snapshot();
        struct mesh_snap_settings set;
        mesh_snap_settings(&snap, &set);
        w->spoke = true;
        w->detect_at = shim_now() + (uint64_t)set.detect_timeout_ms * 1000000;
    }
    return n;
}
