/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_conn: see conn.h. Here: what accept() begins, and what the program may see of connections.
 */
#include "shim/flow/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>

#include "shim/core/fdtab.h"
#include "shim/core/stat.h"
#include "shim/flow/audit.h"
#include "shim/flow/carry.h"
#include "shim/flow/conn_int.h"
#include "shim/flow/ident.h"
#include "shim/flow/ktls.h"
#include "shim/flow/limit.h"
#include "shim/flow/listener.h"
#include "shim/flow/relay.h"
#include "shim/flow/retry.h"
#include "shim/flow/rx.h"
#include "shim/flow/service.h"
#include "shim/flow/sockopt.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/real.h"

/* Inherited through exec, or connected by another process, and used for the first time here. */
__attribute__((cold)) static struct shim_slot *
take_over(int fd, uint32_t word, struct shim_slot *s)
{
    shim_carry_take_over();
    if (atomic_load(&shim_tls)) {
        return s;
    }
    bool own = shim_fdtab_may_write(); /* else a child of vfork, with descriptors of its own */
    if (!own || shim_fdtab_clear_if(fd, word)) {
        (void)(own ? shim_slot_release(s, shim_fdtab_owner(), 1) : 0);
        shim_carry_dead_end(fd); /* nothing may pass that nobody can encrypt */
    }
    return NULL;
}

/* Another thread is in close(). The kernel may have given the number to somebody's file by now, and what the slot says,
 * an end or an error, is not that file's. */
__attribute__((cold)) static bool
is_still(int fd, const struct shim_slot *s)
{
    uint64_t cookie = shim_cookie(fd);
    return cookie && cookie == atomic_load(&s->cookie);
}

__attribute__((hot)) struct shim_slot *
shim_conn_slot(int fd)
{
    uint32_t word = shim_fd_word(fd);
    struct shim_slot *s = word >= SHIM_FD_WORD(SHIM_FD_CONN, 0)
                              ? shim_slot_current(SHIM_FD_INDEX(word))
                              : NULL;
    if (s) {
        if (__builtin_expect(word >= SHIM_FD_WORD(SHIM_FD_CLOSING, 0), 0) && !is_still(fd, s)) {
            return NULL;
        }
        if (__builtin_expect(shim_slot_phase(s) == SHIM_PHASE_FRESH, 0)) {
            return NULL;
        }
        bool known = atomic_load_explicit(&shim_tls, memory_order_relaxed);
        return __builtin_expect(known, 1) ? s : take_over(fd, word, s);
    }
    if (word >> SHIM_FD_KIND_SHIFT == SHIM_FD_CONN) {
        (void)shim_fdtab_clear_if(fd, word); /* another holder found it to be plain */
    }
    return NULL;
}

void
shim_conn_stale(int fd)
{
    uint32_t word = shim_fd_word(fd);
    if (word >> SHIM_FD_KIND_SHIFT == SHIM_FD_CONN) {
        shim_stat_add(MESH_STAT_STALE, 1);
        (void)shim_fdtab_clear_if(fd, word);
    }
}

void
shim_conn_over(struct shim_slot *s)
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
}

void
shim_conn_end(struct shim_slot *s)
{
    shim_conn_over(s);
    shim_slot_free(s);
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

/* Where accept() may sleep the program is not to sleep for a client that it does not get: poll may have told it of
 * just this one. What meshd repeats is in the backlog before its client is gone. */
static bool
may_skip(int listener)
{
    struct pollfd p = {listener, POLLIN, 0};
    return shim_conn_is_nonblocking(listener) || sys_poll(&p, 1, (int)(HELLO_NS / 1000000)) > 0;
}

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
    shim_listener_accepted(word);
    if (mode == MESH_MODE_OFF) {
        (void)shim_fdtab_set(fd, SHIM_FD_OTHER, 0);
        return 0;
    }
    if (e == MESH_OK) {
        e = shim_ident_ready();
    }
    if (e == MESH_OK && is_gone(fd) && may_skip(listener)) {
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
    if (shim_limit_refused(s) && atomic_load(&s->cookie) == cookie &&
        (!shim_listener_is_polled(word) || may_skip(listener))) {
        (void)shim_conn_close(fd);
        return EAGAIN;
    }
    return 0;
}

/* By the process that began to connect, or drove the handshake last. */
static bool
is_left(struct shim_slot *s)
{
    int pid = atomic_load(&s->hs_pid);
    return pid ? shim_lock_is_gone_since(pid, UINT32_MAX) : shim_slot_is_only(s, shim_fdtab_owner());
}

/* Its handshake can only go on in a process that is no more, which may have finished it before it left. */
bool
shim_conn_is_orphan(struct shim_slot *s)
{
    uint32_t phase = (uint32_t)shim_slot_phase(s);
    if ((phase != SHIM_PHASE_HANDSHAKE && (phase != SHIM_PHASE_CONNECTING || shim_work_has(s))) || !is_left(s) ||
        (uint32_t)shim_slot_phase(s) != phase) {
        return false;
    }
    if (phase == SHIM_PHASE_HANDSHAKE && shim_work_goes_on(s)) {
        atomic_store(&s->hs_pid, shim_fdtab_owner()); /* ours is a copy from before fork, and nothing was said since */
        return false;
    }
    atomic_store(&s->err, MESH_E_HOLDER_DIED);
    atomic_store(&s->fail_errno, ECONNRESET);
    if (atomic_compare_exchange_strong(&s->phase, &phase, SHIM_PHASE_FAILED)) {
        shim_stat_err(MESH_E_HOLDER_DIED);
        shim_stat_conn_closed(s, MESH_E_HOLDER_DIED);
    }
    return true;
}

bool
shim_conn_is_mute(struct shim_slot *s)
{
    bool left = shim_conn_is_orphan(s) || (shim_slot_phase(s) == SHIM_PHASE_FAILED && atomic_load(&s->err) == MESH_E_HOLDER_DIED);
    return left && !shim_slot_has(s, SHIM_SF_SERVER) && atomic_load(&s->hs_step) == 0;
}

void
shim_conn_wake(int fd)
{
    if (shim_fd_kind(fd) == SHIM_FD_INHERITED && shim_fdtab_may_write()) {
        (void)shim_conn_listen_inherited(fd); /* accept() says what is wrong */
        return;
    }
    if (shim_fd_kind(fd) == SHIM_FD_LISTENER) {
        shim_listener_polled(shim_fd_word(fd));
        return;
    }
    struct shim_slot *s = shim_conn_slot(fd);
    if (s && (shim_slot_phase(s) < SHIM_PHASE_OPEN || shim_slot_has(s, SHIM_SF_SHAPED))) {
        shim_work_wake(s);
        shim_work_watch(s, fd);
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
        bool takes = !shim_slot_has(s, SHIM_SF_EARLY_FULL) &&
                     (!shim_slot_has(s, SHIM_SF_COMMON) || atomic_load(&s->hs_pid) == shim_fdtab_owner());
        return shim_slot_has(s, SHIM_SF_SERVER | SHIM_SF_LAZY) && takes ? POLLOUT : 0;
    }
    return ~0;
}

int
shim_conn_getpeername(int fd, struct sockaddr *sa, socklen_t *len)
{
    struct shim_slot *s = shim_conn_slot(fd);
    if (s) {
        shim_work_drive_slot(s);
        enum shim_phase phase = shim_slot_phase(s);
        bool told = shim_slot_has(s, SHIM_SF_SERVER | SHIM_SF_LAZY);
        if (phase == SHIM_PHASE_CONNECTING || (phase == SHIM_PHASE_HANDSHAKE && !told)) {
            return shim_fail(ENOTCONN);
        }
    }
    socklen_t room = len ? *len : 0;
    int r = shim_real.getpeername(fd, sa, len);
    if (s && r == 0 && shim_slot_has(s, SHIM_SF_ROUTED)) {
        shim_service_peername(s, sa, room, len);
    }
    return r;
}

/* A reset of a connection that the program had been told of is an error like any other: who asks first has it. */
static int
pending_error(struct shim_slot *s)
{
    int no = atomic_exchange(&s->so_error, 0);
    bool known = shim_slot_has(s, SHIM_SF_SERVER) || (shim_slot_has(s, SHIM_SF_LAZY) && shim_slot_has(s, SHIM_SF_ASKED));
    bool told = known && shim_slot_phase(s) == SHIM_PHASE_FAILED;
    return no || !told ? no : shim_slot_errno(atomic_exchange(&s->fail_errno, 0));
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
        shim_work_drive_slot(s);
        int no = pending_error(s);
        bool pending = shim_slot_phase(s) == SHIM_PHASE_HANDSHAKE ||
                       (shim_slot_phase(s) == SHIM_PHASE_CONNECTING && shim_slot_has(s, SHIM_SF_ROUTED));
        if (no || pending) {
            memcpy(val, &no, sizeof(no));
            *len = sizeof(no);
            return 0;
        }
    }
    r = shim_real.getsockopt(fd, level, opt, val, len);
    if (s && r == 0) {
        shim_sockopt_segment(s, level, opt, val, *len);
    }
    if (s && r == 0 && shim_sockopt_was_fast_open(s, level, opt) && *len > 0) {
        memcpy(val, &(int){1}, *len < sizeof(int) ? *len : sizeof(int));
    }
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
        return shim_fail(ENOENT); /* as a kernel without kernel TLS: the program's own falls back */
    }
    if (level == SOL_SOCKET && opt == 60 /* SO_ZEROCOPY */) {
        return shim_fail(EOPNOTSUPP);
    }
    if (level == SOL_SOCKET && opt == SO_PEEK_OFF) {
        return shim_fail(EOPNOTSUPP); /* as TCP before Linux 6.9: it would count bytes of records */
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
    bool locked = level == IPPROTO_TCP && opt == TCP_NODELAY && shim_slot_phase(s) == SHIM_PHASE_OPEN &&
                  shim_audit_tx(fd, s, false) == 0; /* not while a writer pushes its first data by it, and sets it back */
    r = shim_real.setsockopt(fd, level, opt, val, len);
    if (locked) {
        int saved = errno;
        shim_lock_put(&s->tx_lock);
        errno = saved;
    }
    return r;
}
