/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_conn: see conn.h. Here: how connections begin, and what the program may see of them.
 */
#include "shim/flow/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>

#include "shim/core/env.h"
#include "shim/core/fdtab.h"
#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/flow/hs.h"
#include "shim/flow/ident.h"
#include "shim/flow/listener.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/real.h"
#include "shim/route/route.h"

static int
fail_with(int no)
{
    errno = no;
    return -1;
}

static int
refuse(enum mesh_err e)
{
    shim_stat_err(e);
    return fail_with(mesh_err_errno(e));
}

struct shim_slot *
shim_conn_slot(int fd)
{
    uint32_t word = shim_fd_word(fd);
    struct shim_slot *s = word >= SHIM_FD_WORD(SHIM_FD_CONN, 0)
                              ? shim_slot_current(SHIM_FD_INDEX(word))
                              : NULL;
    if (s) {
        return s;
    }
    if (word >> SHIM_FD_KIND_SHIFT == SHIM_FD_CONN) {
        shim_fdtab_clear_if(fd, word); /* another holder found it to be plain */
    }
    return NULL;
}

void
shim_conn_stale(int fd)
{
    uint32_t word = shim_fd_word(fd);
    if (word >> SHIM_FD_KIND_SHIFT == SHIM_FD_CONN) {
        shim_stat_add(MESH_STAT_STALE, 1);
        shim_fdtab_clear_if(fd, word);
    }
}

void
shim_conn_end(struct shim_slot *s)
{
    if (shim_slot_phase(s) == SHIM_PHASE_OPEN) {
        shim_stat_add(MESH_STAT_CLOSED, 1);
        shim_stat_add(MESH_STAT_ACTIVE, (uint64_t)-1);
    }
    shim_stat_conn_closed(s, (enum mesh_err)atomic_load(&s->err));
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    if (tls) { /* the engine drops the keys' schedules too */
        tls->wipe(s->rx_key, sizeof(s->rx_key));
        tls->wipe(s->tx_key, sizeof(s->tx_key));
    }
    shim_slot_free(s);
}

static bool
is_nonblocking(int fd)
{
    long fl = sys_fcntl(fd, F_GETFL, 0);
    return fl >= 0 && (fl & O_NONBLOCK);
}

/* A slot and an item for fd; the item is returned with the work lock held. */
static struct shim_work *
begin(int fd, uint32_t flags, enum shim_phase phase)
{
    uint64_t cookie = shim_cookie(fd);
    struct shim_slot *s = fd < SHIM_FD_MAX && cookie ? shim_slot_alloc() : NULL;
    if (!s) {
        return NULL;
    }
    atomic_store(&s->cookie, cookie);
    atomic_store(&s->flags, flags);
    atomic_store(&s->phase, phase);
    s->pid = sys_getpid();
    s->opened_ns = shim_now();
    struct shim_work *w = NULL;
    if (shim_work_enter()) {
        w = shim_work_new(s, fd);
        if (w) {
            return w;
        }
        shim_work_leave();
    }
    shim_slot_free(s);
    return NULL;
}

static void
undo(struct shim_work *w, int fd)
{
    struct shim_slot *s = shim_slot_at(w->slot);
    if (shim_work_enter()) {
        (void)shim_fdtab_set(fd, SHIM_FD_FRESH, 0);
        shim_work_drop(w);
        shim_slot_free(s);
        shim_work_leave();
    }
}

/* The handshake of a blocking connect: until it is done, failed, or the peer is just slow. */
static int
await_open(struct shim_slot *s)
{
    while (shim_slot_phase(s) < SHIM_PHASE_OPEN && !shim_slot_has(s, SHIM_SF_LAZY)) {
        int r = shim_work_wait(NULL, 0, SHIM_NEVER, NULL, s);
        if (r < 0 && r != -EINTR) {
            break;
        }
    }
    if (shim_slot_phase(s) != SHIM_PHASE_FAILED) {
        return 0;
    }
    int no = atomic_exchange(&s->so_error, 0);
    return fail_with(no ? no : ECONNRESET);
}

/* connect() on a socket that is ours already. */
static int
connect_again(int fd, struct shim_slot *s, const struct sockaddr *sa, socklen_t len)
{
    shim_work_drive();
    switch (shim_slot_phase(s)) {
    case SHIM_PHASE_CONNECTING:
    case SHIM_PHASE_HANDSHAKE:
        if (shim_slot_has(s, SHIM_SF_LAZY)) {
            break;
        }
        return is_nonblocking(fd) ? fail_with(EALREADY) : await_open(s);
    case SHIM_PHASE_FAILED: {
        int no = atomic_exchange(&s->so_error, 0);
        return fail_with(no ? no : ECONNABORTED);
    }
    case SHIM_PHASE_FREE:
    case SHIM_PHASE_OPEN:
        break;
    }
    return shim_real.connect(fd, sa, len); /* 0 once, then EISCONN, as the kernel counts */
}

static int
connect_mesh(int fd, const struct sockaddr *sa, socklen_t len, const struct mesh_addr *to,
             const struct mesh_snap_hit *hit, bool *gated)
{
    uint32_t flags = shim_listener_is_own(hit->endpoint.cookie) ? SHIM_SF_OWN : 0;
    flags |= hit->service.strict_close ? SHIM_SF_STRICT_CLOSE : 0;
    struct shim_work *w = begin(fd, flags, SHIM_PHASE_CONNECTING);
    if (!w) {
        return refuse(MESH_E_NO_MEMORY);
    }
    struct shim_slot *s = shim_slot_at(w->slot);
    s->peer = *to;
    w->to = *to;
    memcpy(w->expect_id, hit->service.id, sizeof(w->expect_id));
    (void)shim_fdtab_set(fd, SHIM_FD_CONN, w->slot);
    w->held = true;
    shim_work_leave();

    int r = shim_real.connect(fd, sa, len), no = errno;
    w->held = false;
    if (r < 0 && no != EINPROGRESS && no != EINTR) {
        undo(w, fd);
        return fail_with(no);
    }
    if (r == 0 && !is_nonblocking(fd)) {
        return await_open(s);
    }
    *gated = true;
    return fail_with(r == 0 ? EINPROGRESS : no);
}

int
shim_conn_connect(int fd, const struct sockaddr *sa, socklen_t len, bool *gated)
{
    struct mesh_addr to;
    struct mesh_snap_hit hit;
    enum shim_verdict verdict = SHIM_ROUTE_PASS;
    *gated = false;
    if (shim_fd_kind(fd) == SHIM_FD_CONN) {
        struct shim_slot *s = shim_conn_slot(fd);
        if (s) {
            return connect_again(fd, s, sa, len);
        }
    }
    if (!mesh_addr_from(&to, sa, len)) {
        return shim_real.connect(fd, sa, len);
    }
    enum mesh_err e = shim_link_ready();
    if (e == MESH_OK) {
        e = shim_route_decide(&to, &hit, &verdict);
    } else if (shim_env.fallback_pass) {
        e = MESH_OK;
    }
    if (e != MESH_OK) {
        return refuse(e);
    }
    if (verdict == SHIM_ROUTE_DENY) {
        return refuse(MESH_E_DENIED);
    }
    if (verdict == SHIM_ROUTE_PASS) {
        shim_stat_add(MESH_STAT_PLAIN_OUT, 1);
        return shim_real.connect(fd, sa, len);
    }
    e = shim_ident_ready();
    return e == MESH_OK ? connect_mesh(fd, sa, len, &to, &hit, gated) : refuse(e);
}

void
shim_conn_reset(int fd)
{
    struct shim_slot *s = shim_conn_slot(fd);
    if (s && shim_work_enter()) {
        struct shim_work *w = shim_work_of(s);
        if (w) {
            shim_work_drop(w);
        }
        (void)shim_fdtab_set(fd, SHIM_FD_FRESH, 0);
        shim_conn_end(s);
        shim_work_leave();
    }
}

/* A client that sent its hello and then its end cannot finish a handshake. One that reset the
 * connection is another matter: the program is to see that. */
static bool
is_gone(int fd)
{
    struct pollfd p = {fd, POLLIN | POLLRDHUP, 0};
    uint8_t b = 0;
    return sys_poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP) && !(p.revents & POLLERR) &&
           sys_recv(fd, &b, 1, MSG_PEEK | MSG_DONTWAIT) == 1 && b == 22;
}

/* The hello of a client in connect() is here within this time or the client is not waiting. */
#define HELLO_NS UINT64_C(2000000)

static void
await_accepted(struct shim_slot *s, uint64_t cookie)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    mesh_snap_settings(&snap, &set);
    uint64_t now = shim_now(), hello = now + HELLO_NS;
    uint64_t until = now + (uint64_t)set.accept_grace_ms * 1000000;
    while (now < until && atomic_load(&s->cookie) == cookie &&
           shim_slot_phase(s) == SHIM_PHASE_HANDSHAKE) {
        bool begun = atomic_load(&s->hs_step) > 0;
        if (!begun && now >= hello) {
            return;
        }
        uint64_t tick = now + (begun ? UINT64_C(5000000) : UINT64_C(500000));
        (void)shim_work_wait(NULL, 0, tick < until ? tick : until, NULL, s);
        now = shim_now();
    }
}

int
shim_conn_accepted(int listener, int fd)
{
    enum mesh_mode mode = shim_listener_mode(listener);
    enum mesh_err e = mode == MESH_MODE_OFF ? MESH_OK : shim_ident_ready();
    struct shim_work *w = NULL;
    if (mode == MESH_MODE_OFF) {
        (void)shim_fdtab_set(fd, SHIM_FD_OTHER, 0);
        return 0;
    }
    if (e == MESH_OK && is_gone(fd)) {
        shim_stat_err(MESH_E_TRUNCATED);
        (void)sys_close(fd);
        return EAGAIN;
    }
    if (e == MESH_OK) {
        w = begin(fd, SHIM_SF_SERVER, SHIM_PHASE_HANDSHAKE);
        e = w ? MESH_OK : MESH_E_NO_MEMORY;
    }
    if (e != MESH_OK) {
        shim_stat_err(e);
        (void)sys_close(fd);
        return ECONNABORTED;
    }
    struct shim_slot *s = shim_slot_at(w->slot);
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    if (sys_call(SYS_getpeername, fd, &sa, &len, 0) == 0) {
        (void)mesh_addr_from(&s->peer, (struct sockaddr *)&sa, len);
    }
    len = sizeof(sa);
    if (sys_call(SYS_getsockname, fd, &sa, &len, 0) == 0) {
        (void)mesh_addr_from(&s->local, (struct sockaddr *)&sa, len);
    }
    w->may_be_plain = mode == MESH_MODE_PERMISSIVE;
    shim_stat_conn_new(s, false);
    (void)shim_fdtab_set(fd, SHIM_FD_CONN, w->slot);
    uint64_t cookie = w->cookie;
    shim_work_leave();
    if (!is_nonblocking(listener)) {
        await_accepted(s, cookie);
    }
    return 0;
}

void
shim_conn_wake(int fd)
{
    struct shim_slot *s = shim_conn_slot(fd);
    if (s && shim_slot_phase(s) < SHIM_PHASE_OPEN) {
        shim_work_wake(s);
    }
}

short
shim_conn_visible(int fd)
{
    uint32_t word = shim_fd_word(fd);
    struct shim_slot *s = word >> SHIM_FD_KIND_SHIFT == SHIM_FD_CONN
                              ? shim_slot_current(SHIM_FD_INDEX(word))
                              : NULL;
    if (!s) {
        return ~0;
    }
    enum shim_phase phase = shim_slot_phase(s);
    if (phase == SHIM_PHASE_CONNECTING) {
        return 0;
    }
    if (phase == SHIM_PHASE_HANDSHAKE) {
        return shim_slot_has(s, SHIM_SF_SERVER | SHIM_SF_LAZY) &&
                       !shim_slot_has(s, SHIM_SF_EARLY_FULL)
                   ? POLLOUT
                   : 0;
    }
    return ~0;
}

int
shim_conn_getpeername(int fd, struct sockaddr *sa, socklen_t *len)
{
    struct shim_slot *s = shim_conn_slot(fd);
    if (s) {
        shim_work_drive();
        enum shim_phase phase = shim_slot_phase(s);
        bool told = shim_slot_has(s, SHIM_SF_SERVER | SHIM_SF_LAZY);
        if (phase == SHIM_PHASE_CONNECTING || (phase == SHIM_PHASE_HANDSHAKE && !told)) {
            return fail_with(ENOTCONN);
        }
    }
    return shim_real.getpeername(fd, sa, len);
}

int
shim_conn_getsockopt(int fd, int level, int opt, void *val, socklen_t *len)
{
    struct shim_slot *s = shim_conn_slot(fd);
    if (s && level == SOL_SOCKET && opt == SO_ERROR && val && len && *len >= sizeof(int)) {
        shim_work_drive();
        int no = atomic_exchange(&s->so_error, 0);
        bool pending = shim_slot_phase(s) == SHIM_PHASE_HANDSHAKE;
        if (no || pending) {
            memcpy(val, &no, sizeof(no));
            *len = sizeof(no);
            return 0;
        }
    }
    return shim_real.getsockopt(fd, level, opt, val, len);
}

int
shim_conn_setsockopt(int fd, int level, int opt, const void *val, socklen_t len)
{
    struct shim_slot *s = shim_conn_slot(fd);
    if (!s) {
        return shim_real.setsockopt(fd, level, opt, val, len);
    }
    if (level == IPPROTO_TCP && opt == 31 /* TCP_ULP */) {
        return fail_with(ENOENT); /* as a kernel without kernel TLS: the program's own falls back */
    }
    if (level == SOL_SOCKET && opt == 60 /* SO_ZEROCOPY */) {
        return fail_with(EOPNOTSUPP);
    }
    if (level == SOL_SOCKET && opt == SO_LINGER && len >= sizeof(struct linger)) {
        struct linger l;
        memcpy(&l, val, sizeof(l));
        if (l.l_onoff && l.l_linger == 0) {
            atomic_fetch_or(&s->flags, SHIM_SF_ABORT);
        } else {
            atomic_fetch_and(&s->flags, ~(uint32_t)SHIM_SF_ABORT);
        }
    }
    return shim_real.setsockopt(fd, level, opt, val, len);
}
