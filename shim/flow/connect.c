/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_conn, the part about connect(): how connections begin, and how that is undone.
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
#include "shim/flow/conn_int.h"
#include "shim/flow/fresh.h"
#include "shim/flow/ident.h"
#include "shim/flow/limit.h"
#include "shim/flow/listener.h"
#include "shim/flow/retry.h"
#include "shim/flow/service.h"
#include "shim/flow/shape.h"
#include "shim/flow/sockopt.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/real.h"
#include "shim/route/route.h"

int
shim_conn_refuse(const struct mesh_addr *to, const char *service, enum mesh_err e)
{
    shim_stat_err(e);
    shim_stat_refused(to, service, e);
    shim_log_error("connect: %s (%s)", mesh_err_text(e), mesh_err_reason(e));
    return shim_fail(mesh_err_errno(e));
}

bool
shim_conn_is_nonblocking(int fd)
{
    long fl = sys_fcntl(fd, F_GETFL, 0);
    return fl >= 0 && (fl & O_NONBLOCK);
}

struct shim_work *
shim_conn_begin(int fd, uint32_t flags, enum shim_phase phase)
{
    uint64_t cookie = shim_cookie(fd);
    shim_slot_sweep(shim_conn_end);
    if (fd >= SHIM_FD_MAX || !cookie || !shim_work_enter()) {
        return NULL;
    }
    struct shim_slot *shared = shim_fresh_claim(fd, cookie, phase), *s = shared ? shared : shim_slot_alloc();
    struct shim_work *w = NULL;
    if (s) {
        atomic_store(&s->cookie, cookie);
        atomic_store(&s->flags, flags | (shared ? SHIM_SF_COMMON : 0u));
        atomic_store(&s->phase, phase);
        atomic_store(&s->hs_pid, shim_fdtab_owner());
        s->opened_ns = shim_now();
        w = shim_work_new(s, fd);
    }
    if (w) {
        return w;
    }
    if (shared) {
        shim_slot_renew(s);
    } else if (s) {
        shim_slot_free(s);
    }
    shim_work_leave();
    return NULL;
}

/* Whoever finds a CONN here did not find it before: what the word was then has been looked at, and gone. */
bool
shim_conn_enter(struct shim_work *w, int fd)
{
    if (shim_fd_kind(fd) == SHIM_FD_CONN) {
        return shim_fd_word(fd) == SHIM_FD_WORD(SHIM_FD_CONN, w->slot); /* it was shared, and claimed */
    }
    (void)shim_fdtab_set(fd, SHIM_FD_CONN, w->slot);
    shim_slot_hold(shim_slot_at(w->slot), shim_fdtab_owner(), shim_conn_adopt_aliases(fd));
    return true;
}

void
shim_conn_undo(struct shim_work *w, int fd)
{
    struct shim_slot *s = shim_slot_at(w->slot);
    if (shim_work_enter()) {
        shim_sockopt_fast_open_again(fd, s);
        bool mine = shim_fd_word(fd) == SHIM_FD_WORD(SHIM_FD_CONN, w->slot) || shim_slot_has(s, SHIM_SF_COMMON);
        shim_work_drop(w);
        shim_retry_leave(s);
        if (!mine || !shim_fresh_again(s)) {
            shim_fdtab_turn(SHIM_FD_WORD(SHIM_FD_CONN, shim_slot_handle(s)), SHIM_FD_FRESH);
            shim_slot_free(s);
        }
        shim_work_leave();
    }
}

int
shim_conn_ask_kernel(int fd)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    struct pollfd p = {fd, 0, 0};
    bool is_up = sys_call(SYS_getpeername, fd, &sa, &len, 0) == 0;
    bool was_up = sys_poll(&p, 1, 0) > 0 && p.revents & POLLERR; /* reset: the next call says so, as bare */
    return is_up || was_up ? 0 : shim_fail(ECONNABORTED);
}

/* The handshake of a blocking connect: until it is done, failed, or the peer is just slow. */
static int
await_open(int fd, struct shim_slot *s)
{
    uint32_t handle = shim_slot_handle(s);
    int r = 0;
    while (shim_slot_current(handle) && (r >= 0 || r == -EINTR)) {
        struct shim_work_seen seen = shim_work_see(s);
        if (seen.phase >= SHIM_PHASE_OPEN || seen.lazy) {
            break;
        }
        r = shim_work_wait_since(&seen, NULL, 0, SHIM_NEVER, NULL, s);
    }
    if (!shim_slot_current(handle) || shim_slot_phase(s) == SHIM_PHASE_FRESH) {
        return shim_conn_ask_kernel(fd);
    }
    if (shim_slot_phase(s) != SHIM_PHASE_FAILED || shim_slot_has(s, SHIM_SF_LAZY)) {
        return 0;
    }
    int no = atomic_exchange(&s->so_error, 0);
    return shim_fail(no ? no : ECONNRESET);
}

/* Whether connect() may wait. An attempt at a blocking socket's next endpoint has it say O_NONBLOCK for a moment, under
 * this lock. */
static bool
may_wait(int fd)
{
    bool locked = shim_work_enter(), waits = !shim_conn_is_nonblocking(fd);
    if (locked) {
        shim_work_leave();
    }
    return waits;
}

/* Has a connect(2) returned 0 on it? The kernel remembers, whatever came of it; to no address of another family does
 * it begin anything. */
static bool
was_told(int fd)
{
    struct sockaddr none = {.sa_family = AF_UNIX};
    return sys_call(SYS_connect, fd, &none, sizeof(none), 0) == -EISCONN;
}

/* connect() on a socket that is ours already. */
static int
connect_again(int fd, struct shim_slot *s, const struct sockaddr *sa, socklen_t len, bool *gated)
{
    switch (shim_slot_phase(s)) {
    case SHIM_PHASE_CONNECTING:
    case SHIM_PHASE_HANDSHAKE:
        if (shim_slot_has(s, SHIM_SF_LAZY)) {
            break;
        }
        shim_conn_wake(fd);
        if (may_wait(fd)) {
            return shim_slot_has(s, SHIM_SF_ROUTED) ? shim_service_await(fd, s, true, gated) : await_open(fd, s);
        }
        return shim_fail(EALREADY);
    case SHIM_PHASE_FAILED: {
        bool lazy = shim_slot_has(s, SHIM_SF_LAZY);
        if (lazy && was_told(fd)) {
            return shim_fail(EISCONN);
        }
        uint32_t word = SHIM_FD_WORD(SHIM_FD_CONN, shim_slot_handle(s));
        int no = shim_slot_errno(atomic_exchange(lazy ? &s->fail_errno : &s->so_error, 0));
        (void)shim_conn_reset(fd, word); /* told once; the next one begins anew, as bare */
        return shim_fail(no ? no : ECONNABORTED);
    }
    case SHIM_PHASE_FREE:
    case SHIM_PHASE_OPEN:
    case SHIM_PHASE_KERNEL:
    case SHIM_PHASE_FRESH:
        break;
    }
    int r = shim_real.connect(fd, sa, len); /* 0 once, then EISCONN, as the kernel counts */
    if (r < 0 && errno == ECONNABORTED) { /* reset, and the error is not the kernel's any more */
        int no = shim_slot_errno(atomic_exchange(&s->so_error, 0));
        errno = no ? no : errno;
    }
    return r;
}

/* Shows the connection's local address on the statistics page as soon as it has one. The server asks
 * meshd about a client that it does not hear from: a program that began to connect and then computes
 * must not be taken for one that is not of the mesh. Nor one that is stopped, or waits for a processor, between
 * the kernel's handshake and here: so it has been listed, without that address, before it began. */
static void
publish(int fd, struct shim_slot *s)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    if (sys_call(SYS_getsockname, fd, &sa, &len, 0) == 0) {
        (void)mesh_addr_from(&s->local, (struct sockaddr *)&sa, len);
    }
    shim_stat_conn_local(s);
}

static int
connect_mesh(int fd, const struct sockaddr *sa, socklen_t len, const struct mesh_addr *to,
             const struct mesh_snap_hit *hit, const struct shim_faults *f, bool *gated)
{
    uint32_t flags = shim_listener_is_own(hit->endpoint.cookie) ? SHIM_SF_OWN : 0;
    flags |= hit->service.strict_close ? SHIM_SF_STRICT_CLOSE : 0;
    struct shim_work *w = shim_conn_begin(fd, flags, SHIM_PHASE_CONNECTING);
    if (!w) {
        return shim_conn_refuse(to, hit->service.name, MESH_E_NO_MEMORY);
    }
    struct shim_slot *s = shim_slot_at(w->slot);
    shim_shape_begin(s, f);
    shim_limit_note(&hit->service, &w->limit);
    s->peer = *to;
    w->to = *to;
    memcpy(w->expect_id, hit->service.id, sizeof(w->expect_id));
    memcpy(w->service, hit->service.name, sizeof(w->service));
    w->held = true;
    bool entered = shim_conn_enter(w, fd);
    shim_work_leave();
    if (!entered) {
        shim_conn_undo(w, fd);
        return SHIM_CONN_TAKEN;
    }
    s->local = (struct mesh_addr){0};
    shim_stat_conn_new(s, w->service, 1);
    shim_sockopt_fast_open(fd, s);
    int r = shim_real.connect(fd, sa, len), no = errno;
    if (r < 0 && no != EINPROGRESS && no != EINTR) {
        shim_stat_conn_note(s, 0, no);
        shim_stat_conn_closed(s, MESH_E_CONNECT_FAILED);
        shim_conn_undo(w, fd); /* held still: no other thread can have dropped it */
        return shim_fail(no);
    }
    publish(fd, s);
    w->held = false;
    if (r == 0 && !shim_conn_is_nonblocking(fd)) {
        return await_open(fd, s);
    }
    *gated = true;
    return shim_fail(r == 0 ? EINPROGRESS : no);
}

static uint32_t
scope_of(const struct sockaddr *sa, socklen_t len)
{
    struct sockaddr_in6 in6 = {0};
    if (sa->sa_family == AF_INET6 && len >= sizeof(in6)) { /* RFC 2133's shorter form has none */
        memcpy(&in6, sa, sizeof(in6));
    }
    return in6.sin6_scope_id;
}

/* A damaged snapshot leaves no answer: the address may be an endpoint, to which no plaintext goes.
 * meshd may have mended it, or have another one. */
static enum mesh_err
decide(int fd, const struct mesh_addr *to, struct mesh_snap_hit *hit, enum shim_verdict *verdict)
{
    enum mesh_err e = shim_link_ready();
    if (e == MESH_OK) {
        e = shim_route_decide(fd, to, hit, verdict);
    }
    if (e == MESH_E_SNAPSHOT) {
        shim_link_damaged();
        e = shim_link_ready();
        if (e == MESH_OK) {
            e = shim_route_decide(fd, to, hit, verdict);
        }
    }
    return e;
}

static int
connect_once(int fd, const struct sockaddr *sa, socklen_t len, bool *gated)
{
    struct mesh_addr to;
    struct mesh_snap_hit hit;
    enum shim_verdict verdict = SHIM_ROUTE_PASS;
    *gated = false;
    if (shim_fd_kind(fd) == SHIM_FD_CONN) {
        struct shim_slot *s = shim_conn_slot(fd);
        if (s) {
            shim_work_drive_slot(s);
            if (!shim_service_renew(fd, s)) {
                return connect_again(fd, s, sa, len, gated);
            }
        }
    }
    if (!mesh_addr_from(&to, sa, len)) {
        return shim_real.connect(fd, sa, len);
    }
    enum mesh_err e = decide(fd, &to, &hit, &verdict);
    if (e != MESH_OK && shim_env.fallback_pass && shim_link_id()[0] == '\0') {
        e = MESH_OK; /* it never was in the mesh */
    }
    if (e != MESH_OK) {
        return shim_conn_refuse(&to, "", e);
    }
    if (verdict == SHIM_ROUTE_DENY) {
        return shim_conn_refuse(&to, "", MESH_E_DENIED);
    }
    if (verdict == SHIM_ROUTE_ABSENT) {
        return shim_conn_refuse(&to, "", MESH_E_NOT_LISTED);
    }
    if (verdict == SHIM_ROUTE_NO_PORT || verdict == SHIM_ROUTE_NO_SERVICE) {
        return shim_conn_refuse(&to, "", verdict == SHIM_ROUTE_NO_PORT ? MESH_E_NO_PORT : MESH_E_NO_SERVICE);
    }
    if (verdict == SHIM_ROUTE_PASS) {
        shim_stat_add(MESH_STAT_PLAIN_OUT, 1);
        return shim_real.connect(fd, sa, len);
    }
    e = shim_ident_ready();
    struct shim_faults f;
    shim_limit_client(&hit, to.port, &f);
    if (e == MESH_OK && f.connect == MESH_FAULT_REFUSE) {
        e = MESH_E_FAULT_REFUSE;
    }
    if (e == MESH_OK && (verdict == SHIM_ROUTE_SERVICE || f.connect != MESH_FAULT_NONE)) {
        return shim_service_connect(fd, &(struct shim_asked){to, scope_of(sa, len)}, &hit, &f, gated);
    }
    return e == MESH_OK ? connect_mesh(fd, sa, len, &to, &hit, &f, gated)
                        : shim_conn_refuse(&to, hit.service.name, e);
}

int
shim_conn_connect(int fd, const struct sockaddr *sa, socklen_t len, bool *gated)
{
    int r;
    do {
        r = connect_once(fd, sa, len, gated);
    } while (r == SHIM_CONN_TAKEN);
    return r;
}

/* The connection s, if there is one, is a socket that connects to nobody. */
static void
forget(int fd, struct shim_slot *s)
{
    struct shim_work *w = s ? shim_work_of(s) : NULL;
    if (w) {
        shim_work_drop(w);
    }
    if (s) {
        shim_sockopt_fast_open_again(fd, s);
        if (!shim_fresh_after(s)) {
            (void)shim_fdtab_turn(SHIM_FD_WORD(SHIM_FD_CONN, shim_slot_handle(s)), SHIM_FD_FRESH);
            shim_conn_end(s);
        }
    }
}

/* The kernel first in both: what another thread sends meanwhile goes nowhere, and not in the clear. */
bool
shim_conn_reset(int fd, uint32_t word)
{
    bool was = false;
    if (shim_work_enter()) {
        struct shim_slot *s = shim_fd_word(fd) == word ? shim_conn_slot(fd) : NULL;
        was = s != NULL;
        if (was) {
            shim_retry_disconnect(fd);
        }
        forget(fd, s);
        shim_work_leave();
    }
    return was;
}

int
shim_conn_unspec(int fd, const struct sockaddr *sa, socklen_t len)
{
    if (!shim_work_enter()) {
        return shim_real.connect(fd, sa, len);
    }
    int r = (int)sys_call(SYS_connect, fd, sa, len, 0);
    if (r == 0) {
        forget(fd, shim_conn_slot(fd));
    }
    shim_work_leave();
    return r < 0 ? shim_fail(-r) : 0;
}
