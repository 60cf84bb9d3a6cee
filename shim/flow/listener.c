/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_listener: see listener.h.
 *
 * A server that forks for each connection has children that close its listeners, all of them, before they do
 * anything else. That is no news for meshd as long as the process that made them holds them: it is noted on the
 * statistics page, where meshd looks when that one leaves (shim_stat_let_go).
 */
#include "shim/flow/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "common/snap.h"
#include "shim/core/env.h"
#include "shim/core/fdtab.h"
#include "shim/core/lock.h"
#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/flow/conn.h"
#include "shim/flow/fresh.h"
#include "shim/flow/ident.h"
#include "shim/flow/limit.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/real.h"

#define LISTENERS 4096
#define TAKEN     UINT64_MAX

struct listener {
    _Atomic uint64_t cookie; /* 0: free; TAKEN: being filled, stored when the rest is */
    int32_t pid;             /* that called listen(): a child of fork only inherited it */
    uint16_t port;
    _Atomic uint8_t fresh; /* the kernel's listen() is still to come */
    _Atomic uint8_t mode; /* the last known: of the registration, then of the snapshot */
    _Atomic uint8_t polled;
    _Atomic uint8_t accepted; /* from, by this process */
    uint32_t children;        /* as the count below, when it was made */
};
static struct listener table[LISTENERS];
static _Atomic uint32_t children;
static _Atomic uint32_t used; /* entries beyond were never taken */

bool
shim_listener_is_own(uint64_t cookie)
{
    uint32_t n = cookie ? atomic_load(&used) : 0;
    for (unsigned i = 0; i < n; i++) {
        if (atomic_load_explicit(&table[i].cookie, memory_order_acquire) == cookie) {
            return table[i].pid == sys_getpid() &&
                   (table[i].accepted || table[i].children == atomic_load(&children));
        }
    }
    return false;
}

bool
shim_listener_has_port(uint16_t port)
{
    uint32_t n = atomic_load(&used);
    for (unsigned i = 0; i < n; i++) {
        if (atomic_load_explicit(&table[i].cookie, memory_order_acquire) && table[i].port == port) {
            return true;
        }
    }
    return false;
}

void
shim_listener_child(void)
{
    atomic_fetch_add_explicit(&children, 1, memory_order_relaxed);
}

void
shim_listener_accepted(uint32_t word)
{
    struct listener *l = &table[SHIM_FD_INDEX(word) % LISTENERS];
    if (!l->accepted) {
        l->accepted = 1;
    }
}

static struct listener *
claim(void)
{
    for (unsigned i = 0; i < LISTENERS; i++) {
        uint64_t zero = 0;
        if (atomic_load_explicit(&table[i].cookie, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong(&table[i].cookie, &zero, TAKEN)) {
            uint32_t u = atomic_load(&used);
            while (u <= i && !atomic_compare_exchange_weak(&used, &u, i + 1)) {
            }
            return &table[i];
        }
    }
    return NULL;
}

void
shim_listener_polled(uint32_t word)
{
    atomic_store_explicit(&table[SHIM_FD_INDEX(word) % LISTENERS].polled, 1, memory_order_relaxed);
}

bool
shim_listener_is_polled(uint32_t word)
{
    return atomic_load_explicit(&table[SHIM_FD_INDEX(word) % LISTENERS].polled, memory_order_relaxed);
}

enum mesh_mode
shim_listener_mode(uint32_t word, int fd, struct shim_limit_of *limit)
{
    struct listener *l = &table[SHIM_FD_INDEX(word) % LISTENERS];
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_hit hit;
    limit->limits = 0;
    if (mesh_snap_listener(&snap, shim_link_netns(fd), atomic_load(&l->cookie), l->port, &hit)) {
        shim_limit_server(&hit.service, limit);
        if (limit->limits) {
            shim_work_look(); /* shim_listener_polled */
        }
        l->mode = hit.endpoint.mode; /* the last that is known, should the snapshot be lost */
        return (enum mesh_mode)hit.endpoint.mode;
    }
    return (enum mesh_mode)l->mode;
}

static int
close_real(int fd)
{
    (void)shim_fdtab_set(fd, SHIM_FD_NONE, 0); /* whoever accepts meanwhile: until now a listener's */
    return shim_real.close(fd);
}

/* A child's close while the one who made the listener has it: no matter for meshd. The maker's own leave, which
 * may overlap, is told on the page that somebody is under way until this one has closed. */
static bool
close_in_silence(int fd, const struct listener *l, uint64_t cookie, int *r)
{
    if (l->pid == sys_getpid()) {
        return shim_stat_let_go(cookie, l->pid);
    }
    struct shim_deciding d = shim_stat_decide();
    bool silent = shim_stat_let_go(cookie, l->pid);
    if (silent) {
        *r = close_real(fd);
    }
    shim_stat_decided(d);
    return silent;
}

int
shim_listener_close(int fd, uint32_t word)
{
    const struct listener *l = &table[SHIM_FD_INDEX(word) % LISTENERS];
    uint64_t cookie = atomic_load(&l->cookie);
    bool last = cookie && shim_fdtab_other(word, fd) < 0;
    int r = 0, saved = errno;
    if (!last || !close_in_silence(fd, l, cookie, &r)) {
        if (last) {
            shim_link_leave(cookie);
        }
        errno = saved;
        r = close_real(fd);
    }
    saved = errno;
    shim_listener_closed(fd, word);
    errno = saved;
    return r;
}

/* Children of fork end without having closed what they inherited; it is their parent's to leave. When that
 * one is dead, it is theirs. */
void
shim_listener_exit(void)
{
    int32_t me = sys_getpid();
    for (unsigned i = 0; i < atomic_load(&used); i++) {
        uint64_t cookie = atomic_load_explicit(&table[i].cookie, memory_order_relaxed);
        if (cookie == 0 || cookie == TAKEN) {
            continue;
        }
        if (table[i].pid == me || sys_call(SYS_kill, table[i].pid, 0, 0, 0) == -3 /* ESRCH */) {
            shim_link_leave(cookie);
        }
    }
}

void
shim_listener_closed(int fd, uint32_t word)
{
    struct listener *l = &table[SHIM_FD_INDEX(word) % LISTENERS];
    uint64_t cookie = atomic_load(&l->cookie);
    if (shim_fdtab_other(word, fd) < 0 && cookie) {
        atomic_store(&l->cookie, 0);
        if (shim_stat_let_go(cookie, l->pid)) {
            shim_link_listen_forget(cookie);
        } else {
            shim_link_unlisten(cookie);
        }
    }
}

static enum mesh_err
register_fd(int fd, const struct mesh_addr *at, int family, bool inherited)
{
    int v6only = 0;
    socklen_t len = sizeof(v6only);
    uint64_t cookie = shim_cookie(fd);
    uint8_t mode = MESH_MODE_PERMISSIVE;
    if (family == AF_INET6) {
        (void)sys_getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &len);
    }
    if (!cookie || fd >= SHIM_FD_MAX) {
        return MESH_E_NO_FD;
    }
    struct listener *l = claim();
    if (!l) {
        return MESH_E_NO_MEMORY;
    }
    /* Known as our own before any client of ours can find it registered. */
    l->port = at->port;
    l->pid = sys_getpid();
    l->mode = mode;
    l->accepted = 0;
    l->children = atomic_load(&children);
    atomic_store(&l->cookie, cookie);
    shim_stat_holds(cookie);
    unsigned how = (v6only ? SHIM_LISTEN_V6ONLY : 0) | (inherited ? SHIM_LISTEN_SHOW : 0);
    enum mesh_err e = shim_link_listen(fd, at, how, cookie, &mode);
    if (e != MESH_OK) {
        atomic_store(&l->cookie, 0);
        return e;
    }
    l->mode = mode;
    l->fresh = !inherited;
    l->polled = 0;
    bool locked = shim_work_enter(); /* no fork in between */
    shim_fresh_unshare(fd);
    (void)shim_fdtab_set(fd, SHIM_FD_LISTENER, (uint32_t)(l - table));
    (void)shim_conn_adopt_aliases(fd);
    if (locked) {
        shim_work_leave();
    }
    struct shim_limit_of limit;
    (void)shim_listener_mode(shim_fd_word(fd), fd, &limit);
    return mode == MESH_MODE_OFF ? MESH_OK : shim_ident_ready();
}

/* The address that fd will listen on; an unbound socket is bound as listen() would [ip(7)]. */
static bool
address_of(int fd, struct mesh_addr *at, int *family)
{
    struct sockaddr_storage sa;
    for (int tries = 0; tries < 2; tries++) {
        socklen_t len = sizeof(sa);
        if (sys_call(SYS_getsockname, fd, &sa, &len, 0) != 0 ||
            !mesh_addr_from(at, (struct sockaddr *)&sa, len)) {
            return false;
        }
        *family = sa.ss_family;
        if (at->port != 0) {
            return true;
        }
        if (sys_call(SYS_bind, fd, &sa, len, 0) != 0) {
            return false; /* listen() will say why */
        }
    }
    return false;
}

void
shim_conn_listen_failed(int fd)
{
    uint32_t word = shim_fd_word(fd);
    if (word >> SHIM_FD_KIND_SHIFT == SHIM_FD_LISTENER) {
        (void)shim_fdtab_set(fd, SHIM_FD_FRESH, 0);
        shim_listener_closed(fd, word);
        shim_fresh_join(fd);
    }
}

void
shim_conn_listens(int fd)
{
    uint32_t word = shim_fd_word(fd);
    struct listener *l = &table[SHIM_FD_INDEX(word) % LISTENERS];
    if (word >> SHIM_FD_KIND_SHIFT == SHIM_FD_LISTENER && atomic_exchange(&l->fresh, 0)) {
        shim_link_listens(atomic_load(&l->cookie));
    }
}

static int
listen_on(int fd, bool inherited)
{
    struct mesh_addr at;
    int family = AF_UNSPEC;
    if (shim_fd_kind(fd) == SHIM_FD_LISTENER || !address_of(fd, &at, &family)) {
        return 0; /* listen() again only changes the backlog */
    }
    enum mesh_err e = shim_link_ready();
    if (e == MESH_OK) {
        e = register_fd(fd, &at, family, inherited);
    }
    if (e == MESH_OK || shim_env.fallback_pass) {
        return 0;
    }
    shim_stat_err(e);
    shim_log_error("listen: %s (%s)", mesh_err_text(e), mesh_err_reason(e));
    return mesh_err_errno(e);
}

int
shim_conn_listen(int fd)
{
    return listen_on(fd, false);
}

static bool
is_listener(int fd)
{
    int listens = 0, proto = 0;
    socklen_t len = sizeof(int);
    return sys_getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens &&
           sys_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &proto, &len) == 0 && proto == IPPROTO_TCP;
}

/* A port that bind() did not give is gone, though getsockname() still says it; listen() takes another one
 * [net/ipv4/inet_hashtables.c: __inet_put_port]. EINVAL: it is still bound. */
static void
bind_again(int fd)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    if (sys_call(SYS_getsockname, fd, &sa, &len, 0) == 0) {
        ((struct sockaddr_in *)&sa)->sin_port = 0; /* where sin6_port is, too */
        (void)sys_call(SYS_bind, fd, &sa, len, 0);
    }
}

void
shim_listener_look(int fd, bool listens)
{
    uint32_t word = shim_fd_word(fd);
    struct listener *l = &table[SHIM_FD_INDEX(word) % LISTENERS];
    if (word >> SHIM_FD_KIND_SHIFT == SHIM_FD_LISTENER && !l->fresh && shim_fdtab_may_write() && !is_listener(fd) &&
        shim_fdtab_turn(word, SHIM_FD_FRESH)) {
        shim_listener_closed(fd, word);
        if (listens) {
            bind_again(fd);
        }
    }
}

void
shim_conn_inherited(int fd)
{
    if (shim_fd_kind(fd) != SHIM_FD_NONE) {
        return;
    }
    if (is_listener(fd)) {
        shim_work_expect(shim_fdtab_set(fd, SHIM_FD_INHERITED, 0));
    } else if (shim_fresh_is_idle(fd)) {
        (void)shim_fdtab_set(fd, SHIM_FD_FRESH, 0);
    }
}

int
shim_conn_listen_inherited(int fd)
{
    bool expected = shim_fd_kind(fd) == SHIM_FD_INHERITED;
    if (!is_listener(fd) && shim_fresh_slot(fd)) {
        return 0; /* not yet */
    }
    if (!is_listener(fd)) {
        (void)shim_fdtab_set(fd, SHIM_FD_OTHER, 0);
        shim_work_expect(expected ? -1 : 0);
        return 0;
    }
    int no = listen_on(fd, true);
    if (no == 0 && shim_fd_kind(fd) != SHIM_FD_INHERITED) {
        shim_work_expect(expected ? -1 : 0);
    }
    return no;
}
