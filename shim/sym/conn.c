/* SPDX-License-Identifier: Apache-2.0
 *
 * Exported symbols: how connections begin, end, and are asked about.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>

#include "shim/core/env.h"
#include "shim/flow/fresh.h"
#include "shim/flow/listener.h"
#include "shim/flow/sockopt.h"
#include "shim/flow/urgent.h"
#include "shim/ready/ready.h"
#include "shim/route/names.h"
#include "shim/sym/sym.h"

SHIM_EXPORT int
socket(int domain, int type, int protocol)
{
    int fd;
    SYM_NUMBER(fd, shim_real.socket(domain, type, protocol));
    if (fd >= 0 && shim_env.on && (shim_fd_is_light(shim_fd_word(fd)) || shim_fdtab_may_write())) {
        bool tcp = (domain == AF_INET || domain == AF_INET6) && (type & 0xf) == SOCK_STREAM &&
                   (protocol == 0 || protocol == IPPROTO_TCP || protocol == 262 /* MPTCP */);
        (void)shim_fdtab_set(fd, tcp ? SHIM_FD_FRESH : SHIM_FD_OTHER, 0);
    }
    return fd;
}

SHIM_EXPORT int
socketpair(int domain, int type, int protocol, int fd[2])
{
    int r;
    SYM_NUMBER(r, shim_real.socketpair(domain, type, protocol, fd));
    for (int i = 0; r == 0 && i < 2; i++) {
        if (shim_fd_is_light(shim_fd_word(fd[i])) || shim_fdtab_may_write()) {
            (void)shim_fdtab_set(fd[i], SHIM_FD_NONE, 0);
        }
    }
    return r;
}

static void
look_again(int fd, bool listens)
{
    if (shim_fd_kind(fd) == SHIM_FD_LISTENER) {
        int saved = errno;
        shim_listener_look(fd, listens);
        errno = saved;
    }
}

SHIM_EXPORT int
listen(int fd, int backlog)
{
    look_again(fd, true);
    if (!shim_fresh_is(fd) || !shim_fdtab_may_write()) {
        return shim_real.listen(fd, backlog);
    }
    int saved = errno;
    int no = shim_conn_listen(fd);
    errno = no ? no : saved;
    if (no) {
        return -1;
    }
    int r = shim_real.listen(fd, backlog);
    saved = errno;
    if (r != 0) {
        shim_conn_listen_failed(fd);
    } else {
        shim_conn_listens(fd);
    }
    errno = saved;
    return r;
}

/* A listener that was inherited or received registers itself at its first accept: before it, if
 * somebody told us that it was inherited, or another process made it one. */
static bool
is_known(int fd, enum shim_fd_kind unknown)
{
    bool shared = unknown == SHIM_FD_INHERITED && shim_fresh_slot(fd);
    if ((shim_fd_kind(fd) != unknown && !shared) || !shim_env.on || !shim_fdtab_may_write()) {
        return true;
    }
    int saved = errno, no = shim_conn_listen_inherited(fd);
    errno = no ? no : saved;
    return no == 0;
}

/* `word`: what the listener was when the call began. A signal handler or another thread may have closed
 * it since, but whom the kernel accepted came to what was registered. */
static int
accepted(int listener, uint32_t word, int fd)
{
    if (fd < 0 || !shim_env.on) {
        return fd;
    }
    if (word == 0) {
        if (!is_known(listener, SHIM_FD_NONE)) {
            (void)sys_close(fd);
            return -1;
        }
        word = shim_fd_word(listener);
    }
    if (word >> SHIM_FD_KIND_SHIFT != SHIM_FD_LISTENER) {
        if (shim_fd_is_light(shim_fd_word(fd)) || shim_fdtab_may_write()) {
            (void)shim_fdtab_set(fd, SHIM_FD_NONE, 0);
        }
        return fd;
    }
    if (!shim_fdtab_may_write()) {
        return fd;
    }
    int saved = errno, old;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old); /* whom the kernel accepted is the program's */
    int no = shim_conn_accepted(listener, word, fd);
    (void)pthread_setcancelstate(old, NULL);
    errno = no ? no : saved;
    return no ? -1 : fd;
}

/* Again for clients that were gone before they were heard. */
SHIM_EXPORT int
accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
    socklen_t room = len ? *len : 0;
    if (!is_known(fd, SHIM_FD_INHERITED)) {
        return -1;
    }
    for (;;) {
        SYM_BEFORE(fd, POLLIN);
        uint32_t word = shim_fd_word(fd);
        int got;
        SYM_NUMBER(got, shim_real.accept4(fd, sa, len, flags));
        int r = accepted(fd, word, got);
        if (got < 0 || r >= 0 || errno != EAGAIN) {
            return r;
        }
        if (len) {
            *len = room;
        }
    }
}

SHIM_EXPORT int
accept(int fd, struct sockaddr *sa, socklen_t *len)
{
    if (!is_known(fd, SHIM_FD_INHERITED)) {
        return -1;
    }
    if (shim_fd_kind(fd) == SHIM_FD_LISTENER) {
        return accept4(fd, sa, len, 0);
    }
    SYM_BEFORE(fd, POLLIN);
    uint32_t word = shim_fd_word(fd);
    int got;
    SYM_NUMBER(got, shim_real.accept(fd, sa, len));
    return accepted(fd, word, got);
}

/* A TCP socket that we did not see being made (inherited, received) counts too, and one that was a listener. */
bool
sym_is_tcp(int fd)
{
    int type = 0, proto = 0;
    socklen_t len = sizeof(type);
    look_again(fd, false);
    if (shim_fd_kind(fd) == SHIM_FD_FRESH || shim_fd_kind(fd) == SHIM_FD_CONN) {
        return true;
    }
    if (shim_fd_kind(fd) != SHIM_FD_NONE ||
        sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0 || type != SOCK_STREAM) {
        return false;
    }
    len = sizeof(proto);
    return sys_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &proto, &len) == 0 && proto == IPPROTO_TCP;
}

/* Behind a virtual address there is nothing but what connect() on TCP makes of it. */
static int
connect_bare(int fd, const struct sockaddr *sa, socklen_t len, bool inet)
{
    if (inet && shim_names_forbid(sa, len)) {
        errno = EHOSTUNREACH;
        return -1;
    }
    return shim_real.connect(fd, sa, len);
}

SHIM_EXPORT int
connect(int fd, const struct sockaddr *sa, socklen_t len)
{
    bool inet = sa && len >= sizeof(sa->sa_family) &&
                (sa->sa_family == AF_INET || sa->sa_family == AF_INET6);
    bool gated = false;
    if (!shim_env.on) {
        return shim_real.connect(fd, sa, len);
    }
    pthread_testcancel(); /* before anything is done */
    if (!inet || !sym_is_tcp(fd)) {
        if (shim_fd_kind(fd) == SHIM_FD_CONN && sa && len >= sizeof(sa->sa_family) && sa->sa_family == AF_UNSPEC) {
            return shim_conn_unspec(fd, sa, len);
        }
        return connect_bare(fd, sa, len, inet);
    }
    if (!shim_fdtab_may_write()) {
        return connect_bare(fd, sa, len, inet);
    }
    int saved = errno;
    int r = shim_conn_connect(fd, sa, len, &gated);
    if (gated) {
        int no = errno;
        shim_gate_update(fd);
        errno = no;
    } else if (r == 0) {
        errno = saved;
    }
    return r;
}

SHIM_EXPORT int
shutdown(int fd, int how)
{
    bool known = shim_fd_is_mesh(fd) || shim_fd_kind(fd) == SHIM_FD_LISTENER;
    return known ? shim_conn_shutdown(fd, how) : shim_real.shutdown(fd, how);
}

SHIM_EXPORT int
getpeername(int fd, struct sockaddr *sa, socklen_t *len)
{
    return shim_fd_is_mesh(fd) ? shim_conn_getpeername(fd, sa, len)
                               : shim_real.getpeername(fd, sa, len);
}

SHIM_EXPORT int
getsockname(int fd, struct sockaddr *sa, socklen_t *len)
{
    return shim_real.getsockname(fd, sa, len);
}

SHIM_EXPORT int
getsockopt(int fd, int level, int opt, void *val, socklen_t *len)
{
    return shim_fd_is_mesh(fd) ? shim_conn_getsockopt(fd, level, opt, val, len)
                               : shim_real.getsockopt(fd, level, opt, val, len);
}

SHIM_EXPORT int
setsockopt(int fd, int level, int opt, const void *val, socklen_t len)
{
    if (level == IPPROTO_TCP && opt == TCP_CORK) {
        shim_sockopt_cork();
    }
    if (shim_fd_is_mesh(fd)) {
        return shim_conn_setsockopt(fd, level, opt, val, len);
    }
    return shim_real.setsockopt(fd, level, opt, val, len);
}

SHIM_EXPORT int
sockatmark(int fd)
{
    if (shim_fd_is_mesh(fd)) {
        int saved = errno, at = shim_urgent_at_mark(fd);
        errno = saved;
        if (at != SHIM_PASS) {
            return at;
        }
    }
    return shim_real.sockatmark(fd);
}

SHIM_EXPORT int
ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    va_start(ap, request);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    if (shim_fd_is_mesh(fd) && (request == FIONREAD || request == SIOCATMARK) && arg) {
        int saved = errno;
        int n = request == FIONREAD ? shim_io_available(fd) : shim_urgent_at_mark(fd);
        errno = saved;
        if (n != SHIM_PASS) {
            *(int *)arg = n;
            return 0;
        }
    }
    if (shim_fd_is_mesh(fd) && (request == FIOSETOWN || request == SIOCSPGRP)) {
        shim_urgent_ask(fd);
    }
    return shim_real.ioctl(fd, request, arg);
}
