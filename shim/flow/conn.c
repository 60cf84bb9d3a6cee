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
#include "shim/core/region.h"
#include "shim/core/stat.h"
#include "shim/flow/carry.h"
#include "shim/flow/conn_int.h"
#include "shim/flow/hs.h"
#include "shim/flow/ident.h"
#include "shim/flow/ktls.h"
#include "shim/flow/limit.h"
#include "shim/flow/listener.h"
#include "shim/flow/relay.h"
#include "shim/flow/retry.h"
#include "shim/flow/rx.h"
#include "shim/flow/service.h"
#include "shim/flow/shape.h"
#include "shim/flow/sockopt.h"
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

int
shim_conn_refuse(const struct mesh_addr *to, const char *service, enum mesh_err e)
{
    shim_stat_err(e);
    shim_stat_refused(to, service, e);
    shim_log_error("connect: %s (%s)", mesh_err_text(e), mesh_err_reason(e));
    return fail_with(mesh_err_errno(e));
}

__attribute__((hot)) struct shim_slot *
shim_conn_slot(int fd)
{
    uint32_t word = shim_fd_word(fd);
    struct shim_slot *s = word >= SHIM_FD_WORD(SHIM_FD_CONN, 0)
                              ? shim_slot_current(SHIM_FD_INDEX(word))
                              : NULL;
    if (s) {
        if (__builtin_expect(!atomic_load_explicit(&shim_tls, memory_order_relaxed), 0)) {
            shim_carry_take_over(); /* inherited through exec, and used for the first time */
        }
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
    if (shim_slot_phase(s) == SHIM_PHASE_OPEN || shim_slot_phase(s) == SHIM_PHASE_KERNEL) {
        shim_stat_add(MESH_STAT_CLOSED, 1);
        shim_stat_add(MESH_STAT_ACTIVE, (uint64_t)-1);
        shim_retry_ended(s);
    }
    shim_stat_conn_closed(s, (enum mesh_err)atomic_load(&s->err));
    shim_retry_leave(s);
    shim_limit_leave(s);
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    if (tls) { /* the engine drops the keys' schedules too */
        tls->wipe(s->rx_key, sizeof(s->rx_key));
        tls->wipe(s->tx_key, sizeof(s->tx_key));
    }
    shim_slot_free(s);
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
    struct shim_slot *s = fd < SHIM_FD_MAX && cookie ? shim_slot_alloc() : NULL;
    if (!s) {
        return NULL;
    }
    atomic_store(&s->cookie, cookie);
    atomic_store(&s->flags, flags);
    atomic_store(&s->phase, phase);
    atomic_store(&s->hs_pid, shim_fdtab_owner());
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

/* Whoever finds a CONN here did not find it before: what the word was then has been looked at, and gone. */
bool
shim_conn_enter(struct shim_work *w, int fd)
{
    if (shim_fd_kind(fd) == SHIM_FD_CONN) {
        return false;
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
        if (shim_fd_word(fd) == SHIM_FD_WORD(SHIM_FD_CONN, w->slot)) {
            (void)shim_fdtab_set(fd, SHIM_FD_FRESH, 0);
        }
        shim_work_drop(w);
        shim_retry_leave(s);
        shim_slot_free(s);
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
    return is_up || was_up ? 0 : fail_with(ECONNABORTED);
}

/* The handshake of a blocking connect: until it is done, failed, or the peer is just slow. */
static int
await_open(int fd, struct shim_slot *s)
{
    uint32_t handle = shim_slot_handle(s);
    while (shim_slot_current(handle) && shim_slot_phase(s) < SHIM_PHASE_OPEN &&
           !shim_slot_has(s, SHIM_SF_LAZY)) {
        int r = shim_work_wait(NULL, 0, SHIM_NEVER, NULL, s);
        if (r < 0 && r != -EINTR) {
            break;
        }
    }
    if (!shim_slot_current(handle)) {
        return shim_conn_ask_kernel(fd);
    }
    if (shim_slot_phase(s) != SHIM_PHASE_FAILED || shim_slot_has(s, SHIM_SF_LAZY)) {
        return 0;
    }
    int no = atomic_exchange(&s->so_error, 0);
    return fail_with(no ? no : ECONNRESET);
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
        if (may_wait(fd)) {
            return shim_slot_has(s, SHIM_SF_ROUTED) ? shim_service_await(fd, s, true, gated) : await_open(fd, s);
        }
        return fail_with(EALREADY);
    case SHIM_PHASE_FAILED: {
        int no = atomic_exchange(&s->so_error, 0);
        return fail_with(no ? no : ECONNABORTED);
    }
    case SHIM_PHASE_FREE:
    case SHIM_PHASE_OPEN:
    case SHIM_PHASE_KERNEL:
        break;
    }
    return shim_real.connect(fd, sa, len); /* 0 once, then EISCONN, as the kernel counts */
}

/* Shows the connection on the statistics page as soon as it has a local address. The server asks
 * meshd about a client that it does not hear from: a program that began to connect and then computes
 * must not be taken for one that is not of the mesh. */
static void
publish(int fd, struct shim_slot *s, const char *service)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    if (sys_call(SYS_getsockname, fd, &sa, &len, 0) == 0) {
        (void)mesh_addr_from(&s->local, (struct sockaddr *)&sa, len);
    }
    shim_stat_conn_new(s, service, 1);
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
    int r = shim_real.connect(fd, sa, len), no = errno;
    if (r < 0 && no != EINPROGRESS && no != EINTR) {
        shim_stat_conn_new(s, w->service, 1);
        shim_stat_conn_note(s, 0, no);
        shim_stat_conn_closed(s, MESH_E_CONNECT_FAILED);
        shim_conn_undo(w, fd); /* held still: no other thread can have dropped it */
        return fail_with(no);
    }
    publish(fd, s, w->service);
    w->held = false;
    if (r == 0 && !shim_conn_is_nonblocking(fd)) {
        return await_open(fd, s);
    }
    *gated = true;
    return fail_with(r == 0 ? EINPROGRESS : no);
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
        shim_work_drive();
        if (s && !shim_service_renew(fd, s)) {
            return connect_again(fd, s, sa, len, gated);
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

/* fd, which is s or nothing, becomes a socket that connects to nobody. */
static void
forget(int fd, struct shim_slot *s)
{
    struct shim_work *w = s ? shim_work_of(s) : NULL;
    if (w) {
        shim_work_drop(w);
    }
    if (s) {
        (void)shim_fdtab_set(fd, SHIM_FD_FRESH, 0);
        shim_conn_end(s);
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
    return r < 0 ? fail_with(-r) : 0;
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

/* With limits of each caller's, who it is says whether the program is to see it: then the hello of a slow one
 * is waited for as long as the rest. */
static void
await_accepted(struct shim_slot *s, uint64_t cookie, bool by_caller)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    mesh_snap_settings(&snap, &set);
    uint64_t now = shim_now(), until = now + (uint64_t)set.accept_grace_ms * 1000000;
    uint64_t hello = by_caller ? until : now + HELLO_NS;
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
shim_conn_accepted(int listener, uint32_t word, int fd)
{
    enum mesh_err e = shim_link_ready(); /* many servers make no other call that asks meshd */
    struct shim_limit_of limit;
    enum mesh_mode mode = shim_listener_mode(word, fd, &limit);
    struct shim_work *w = NULL;
    if (mode == MESH_MODE_OFF) {
        (void)shim_fdtab_set(fd, SHIM_FD_OTHER, 0);
        return 0;
    }
    if (e == MESH_OK) {
        e = shim_ident_ready();
    }
    if (e == MESH_OK && is_gone(fd)) {
        shim_stat_err(MESH_E_TRUNCATED);
        (void)sys_close(fd);
        return EAGAIN;
    }
    if (e == MESH_OK) {
        w = shim_conn_begin(fd, SHIM_SF_SERVER, SHIM_PHASE_HANDSHAKE);
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
    w->limit = limit;
    shim_stat_conn_new(s, "", 1);
    (void)shim_fdtab_set(fd, SHIM_FD_CONN, w->slot);
    uint64_t cookie = w->cookie;
    bool over = shim_limit_turns_away(w, mode);
    shim_work_leave();
    if (!over && !shim_conn_is_nonblocking(listener)) {
        await_accepted(s, cookie, shim_limit_by_caller(&limit));
    }
    if (shim_limit_refused(s) && atomic_load(&s->cookie) == cookie) {
        (void)shim_conn_close(fd);
        return EAGAIN;
    }
    return 0;
}

/* Its handshake can only go on in a process that is no more. */
bool
shim_conn_is_orphan(struct shim_slot *s)
{
    if (shim_slot_phase(s) != SHIM_PHASE_HANDSHAKE ||
        !shim_lock_is_gone(atomic_load(&s->hs_pid))) {
        return false;
    }
    uint32_t phase = SHIM_PHASE_HANDSHAKE;
    atomic_store(&s->err, MESH_E_HOLDER_DIED);
    atomic_store(&s->fail_errno, ECONNRESET);
    if (atomic_compare_exchange_strong(&s->phase, &phase, SHIM_PHASE_FAILED)) {
        shim_stat_err(MESH_E_HOLDER_DIED);
        shim_stat_conn_closed(s, MESH_E_HOLDER_DIED);
    }
    return true;
}

void
shim_conn_wake(int fd)
{
    if (shim_fd_kind(fd) == SHIM_FD_INHERITED && shim_fdtab_may_write()) {
        (void)shim_conn_listen_inherited(fd); /* accept() says what is wrong */
        return;
    }
    struct shim_slot *s = shim_conn_slot(fd);
    if (s && (shim_slot_phase(s) < SHIM_PHASE_OPEN || shim_slot_has(s, SHIM_SF_SHAPED))) {
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
    socklen_t room = len ? *len : 0;
    int r = shim_real.getpeername(fd, sa, len);
    if (s && r == 0 && shim_slot_has(s, SHIM_SF_ROUTED)) {
        shim_service_peername(s, sa, room, len);
    }
    return r;
}

int
shim_conn_getsockopt(int fd, int level, int opt, void *val, socklen_t *len)
{
    struct shim_slot *s = shim_conn_slot(fd);
    if (s && level == SHIM_RELAY_LEVEL && opt == SHIM_RELAY_OTHERS && *len == sizeof(int)) {
        int others = (int)(atomic_load(&s->refs) - shim_slot_share(s, shim_fdtab_owner()));
        memcpy(val, &others, sizeof(others));
        return 0;
    }
    int r = 0;
    if (s && shim_slot_has(s, SHIM_SF_TUNED) && shim_sockopt_get(fd, s, level, opt, val, len, &r)) {
        return r;
    }
    if (s && level == SOL_SOCKET && opt == SO_ERROR && val && len && *len >= sizeof(int)) {
        shim_work_drive();
        int no = atomic_exchange(&s->so_error, 0);
        bool pending = shim_slot_phase(s) == SHIM_PHASE_HANDSHAKE ||
                       (shim_slot_phase(s) == SHIM_PHASE_CONNECTING && shim_slot_has(s, SHIM_SF_ROUTED));
        if (no || pending) {
            memcpy(val, &no, sizeof(no));
            *len = sizeof(no);
            return 0;
        }
    }
    r = shim_real.getsockopt(fd, level, opt, val, len);
    if (s && r == 0 && level == SOL_SOCKET && opt == SO_ERROR && *len >= sizeof(int)) {
        if (*(int *)val == ECONNRESET) {
            shim_rx_reset(s);
        }
        if (shim_service_excuses(s, *(int *)val)) {
            *(int *)val = 0;
        }
        shim_ktls_told(s, -*(int *)val);
    }
    return r;
}

int
shim_conn_setsockopt(int fd, int level, int opt, const void *val, socklen_t len)
{
    struct shim_slot *s = shim_conn_slot(fd);
    if (!s) {
        return shim_real.setsockopt(fd, level, opt, val, len);
    }
    int r = 0;
    if (shim_slot_has(s, SHIM_SF_TUNED) && shim_sockopt_set(fd, s, level, opt, val, len, &r)) {
        return r;
    }
    if (level == IPPROTO_TCP && opt == 31 /* TCP_ULP */) {
        return fail_with(ENOENT); /* as a kernel without kernel TLS: the program's own falls back */
    }
    if (level == SOL_SOCKET && opt == 60 /* SO_ZEROCOPY */) {
        return fail_with(EOPNOTSUPP);
    }
    if (level == SOL_SOCKET && opt == SO_PEEK_OFF) {
        return fail_with(EOPNOTSUPP); /* as TCP before Linux 6.9: it would count bytes of records */
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
