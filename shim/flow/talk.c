/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_hs, the part that talks: takes the handshake's records from the socket, hands them to the
 * engine, and sends what the engine answers. Never sleeps: what does not fit now goes first the
 * next time. Reads single whole records, so that the first one after the handshake stays in the
 * kernel for shim_rx.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "shim/core/fdtab.h"
#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/flow/hs_int.h"
#include "shim/flow/ident.h"
#include "shim/flow/limit.h"
#include "shim/flow/resume.h"
#include "shim/flow/retry.h"
#include "shim/flow/shape.h"
#include "shim/flow/sockopt.h"
#include "shim/real.h"
#include "shim/route/route.h"

static int
send_out(struct shim_work *w)
{
    bool some = w->out_off < w->out_len;
    struct pollfd p = {w->fd, 0, 0};
    if (some && shim_hs_is_server(w) && sys_poll(&p, 1, 0) > 0 && p.revents & POLLHUP) {
        w->out_off = w->out_len; /* nobody gets it, and the kernel would tell us what the program is to hear */
    }
    while (w->out_off < w->out_len) {
        long r = sys_send(w->fd, w->out + w->out_off, w->out_len - w->out_off, MSG_DONTWAIT);
        if (r < 0) {
            return (int)r;
        }
        w->out_off += (uint32_t)r;
        shim_hs_slot(w)->tx_raw += (uint64_t)r;
    }
    w->out_len = w->out_off = 0;
    if (some) {
        shim_sockopt_push(w->fd);
    }
    return 0;
}

/* A record in, what the engine answers out. */
static enum shim_hs_state
engine_step(struct shim_work *w, const uint8_t *rec, size_t len, int *err)
{
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    enum shim_hs_state st;
    size_t n;
    w->step = atomic_fetch_add(&shim_hs_slot(w)->hs_step, 1) + 1;
    atomic_store(&shim_hs_slot(w)->hs_pid, shim_fdtab_owner());
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

/* The caller is who it says, and has more than its share: a reset, which it can tell from an end. */
static bool
turn_away(struct shim_work *w, struct shim_hs_result *res, enum mesh_err e)
{
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    shim_log_info("refused: %s (%s)", res->peer_id, mesh_err_reason(e));
    shim_stat_conn_peer(shim_hs_slot(w), res->peer_id, res->tx.suite);
    tls->wipe(res, sizeof(*res));
    tls->hs_free(w->hs);
    w->hs = NULL;
    w->tls_done = false;
    shim_retry_disconnect(w->fd);
    return shim_hs_fail(w, e, 0);
}

static bool
finish(struct shim_work *w)
{
    static struct shim_hs_result res; /* under the work lock; too big for a small stack */
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    struct shim_slot *s = shim_hs_slot(w);
    tls->hs_result(w->hs, &res);
    enum mesh_err e = shim_hs_is_server(w) ? shim_limit_admit(w, res.peer_id) : MESH_OK;
    if (e != MESH_OK) {
        return turn_away(w, &res, e);
    }
    shim_resume_done(w, shim_hs_is_server(w), &res);
    memcpy(s->rx_key, &res.rx, sizeof(res.rx));
    memcpy(s->tx_key, &res.tx, sizeof(res.tx));
    shim_stat_conn_open(s, res.peer_id, res.tx.suite, (shim_now() - w->started) / 1000);
    shim_log_debug("open: fd %d peer %s", w->fd, res.peer_id);
    if (!shim_hs_is_server(w) && !shim_slot_has(s, SHIM_SF_LAZY)) {
        shim_stat_connected(s);
    }
    shim_retry_won(w);
    tls->wipe(&res, sizeof(res));
    tls->hs_free(w->hs);
    w->hs = NULL;
    w->tls_done = false; /* whatever the phase says later: there is nothing more to take from it */
    atomic_store_explicit(&s->phase, SHIM_PHASE_OPEN, memory_order_release);
    /* Acknowledge the last flight now: the peer's first small write waits for that [RFC896]. */
    static const int one = 1;
    (void)sys_setsockopt(w->fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
    if (shim_slot_has(s, SHIM_SF_RX_SHUT)) {
        (void)sys_call(SYS_shutdown, w->fd, SHUT_RD, 0, 0); /* it would have cut the handshake */
    }
    shim_limit_opened(w);
    if (shim_slot_has(s, SHIM_SF_SHAPED)) {
        (void)shim_shape_opened(w->fd, s);
    }
    shim_hs_changed(w);
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
        w->answered = w->moved = true;
        w->in_len += (uint32_t)r;
        shim_hs_slot(w)->rx_raw += (uint64_t)r;
    }
}

static bool
system_failed(struct shim_work *w, int no)
{
    bool gone = no == ECONNRESET || no == EPIPE, told = shim_slot_has(shim_hs_slot(w), SHIM_SF_LAZY);
    enum mesh_err e = gone ? MESH_E_PEER_GONE : MESH_E_SYSTEM;
    if (shim_retry_after(w, e, no)) {
        return true;
    }
    if (gone && !shim_hs_is_server(w) && !w->answered) {
        /* Nobody accepted, and the listener was closed: connect had succeeded [tcp(7)], the next call
         * says what became of it; SO_ERROR, too, if the program had been told that. */
        atomic_fetch_or(&shim_hs_slot(w)->flags, told ? SHIM_SF_ASKED : SHIM_SF_LAZY);
        no = ECONNRESET;
    }
    return shim_hs_fail(w, e, no);
}

static bool
read_failed(struct shim_work *w, int r)
{
    if (r == -EPROTO) {
        return shim_hs_fail(w, shim_hs_is_server(w) ? MESH_E_PLAINTEXT_REFUSED : MESH_E_NOT_TLS, 0);
    }
    if (r == -EPIPE) {
        enum mesh_err e = w->in_len ? MESH_E_TRUNCATED : MESH_E_PEER_GONE;
        /* To a server this is a client that connected and went away: an end like any other. */
        if (shim_hs_is_server(w) && w->answered) {
            shim_stat_err(e);
        }
        return shim_hs_fail(w, shim_hs_is_server(w) ? MESH_OK : e, 0);
    }
    return system_failed(w, -r);
}

/* A server's is made when the client has spoken: one that says nothing costs little. */
static bool
new_engine(struct shim_work *w)
{
    w->hs = atomic_load(&shim_tls)->hs_new(shim_hs_is_server(w),
                                           shim_hs_is_server(w) ? NULL : w->expect_id);
    return w->hs != NULL;
}

static bool
engine_failed(struct shim_work *w)
{
    struct shim_hs_result res;
    atomic_load(&shim_tls)->hs_result(w->hs, &res);
    return shim_hs_fail(w, res.err ? res.err : MESH_E_HANDSHAKE, 0);
}

/* At the first answer: while we waited to be accepted the listener may have gone to another program, which registered it
 * before it accepted: it is the registry's word of now that counts. */
static void
look_up_again(struct shim_work *w)
{
    struct mesh_snap_hit hit;
    enum shim_verdict verdict = SHIM_ROUTE_PASS;
    if (!w->expect_id[0] || shim_slot_has(shim_hs_slot(w), SHIM_SF_ROUTED) || /* the service's, always */
        shim_route_decide(w->fd, &w->to, &hit, &verdict) != MESH_OK ||
        verdict != SHIM_ROUTE_MESH || strcmp(hit.service.id, w->expect_id) == 0) {
        return;
    }
    memcpy(w->expect_id, hit.service.id, sizeof(w->expect_id));
    atomic_load(&shim_tls)->hs_expect(w->hs, w->expect_id);
}

bool
shim_hs_talk(struct shim_work *w)
{
    int err = send_out(w);
    if (w->tls_done && err == 0) { /* the last flight went before any data */
        return finish(w);
    }
    if (!w->hs && !shim_hs_is_server(w)) {
        if (!new_engine(w)) {
            return shim_hs_fail(w, MESH_E_NO_MEMORY, 0);
        }
        shim_resume_offer(w);
        if (engine_step(w, NULL, 0, &err) == SHIM_HS_FAILED) {
            return engine_failed(w);
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
        if (!w->hs && !new_engine(w)) {
            return shim_hs_fail(w, MESH_E_NO_MEMORY, 0);
        }
        size_t len = w->in_len;
        w->in_len = 0;
        if (!shim_hs_is_server(w) && !w->looked_up) {
            look_up_again(w);
            w->looked_up = true;
        }
        enum shim_hs_state st = engine_step(w, w->in, len, &err);
        if (st == SHIM_HS_FAILED) {
            return engine_failed(w);
        }
        w->tls_done = st == SHIM_HS_DONE;
        if (w->tls_done && err == 0) {
            return finish(w);
        }
    }
    return err == -EAGAIN ? false : system_failed(w, -err);
}
