/* SPDX-License-Identifier: Apache-2.0
 *
 * Exported symbols: the life of descriptors; and the constructor.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "shim/core/env.h"
#include "shim/core/nouring.h"
#include "shim/core/lock.h"
#include "shim/core/region.h"
#include "shim/core/stdio.h"
#include "shim/flow/ident.h"
#include "shim/flow/urgent.h"
#include "shim/ready/ready.h"
#include "shim/sym/sym.h"

/* Our own descriptor: as far as the program knows, the number is not open. */
static bool
is_private(int fd)
{
    return shim_fd_kind(fd) == SHIM_FD_PRIVATE && shim_region_fd() == fd;
}

/* A cancellation point before anything is done, as close() is; not in the middle, where its set of epoll has let go of it,
 * the peer has been told the end, or meshd of a close, and this thread may count as deciding. */
SHIM_EXPORT int
close(int fd)
{
    int old;
    if (shim_fd_word(fd) == 0) {
        return shim_real.close(fd);
    }
    if (is_private(fd)) {
        errno = EBADF;
        return -1;
    }
    pthread_testcancel();
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    if (shim_gate_any() && shim_fdtab_may_write()) {
        shim_gate_forget(fd);
    }
    int r = shim_conn_close(fd);
    (void)pthread_setcancelstate(old, NULL);
    return r;
}

/* Only numbers that we know of need more than the kernel does by itself. Unlike close(), no cancellation point. */
static void
close_known(unsigned first, unsigned last)
{
    int end = shim_fdtab_limit(), old;
    if (!shim_fdtab_may_write()) {
        return;
    }
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    for (unsigned fd = first; fd <= last && fd < (unsigned)end; fd++) {
        if (shim_fd_word((int)fd)) {
            (void)close((int)fd);
        }
    }
    (void)pthread_setcancelstate(old, NULL);
}

/* Around our own descriptor. */
static int
close_range_real(unsigned first, unsigned last, int flags)
{
    int own = shim_region_fd();
    if (own < 0 || (unsigned)own < first || (unsigned)own > last) {
        return shim_real.close_range(first, last, flags);
    }
    int r = first < (unsigned)own ? shim_real.close_range(first, (unsigned)own - 1, flags) : 0;
    return r == 0 && (unsigned)own < last ? shim_real.close_range((unsigned)own + 1, last, flags) : r;
}

SHIM_EXPORT int
close_range(unsigned first, unsigned last, int flags)
{
    if (first <= last && !(flags & CLOSE_RANGE_CLOEXEC)) {
        int saved = errno;
        close_known(first, last);
        errno = saved;
        return close_range_real(first, last, flags);
    }
    return shim_real.close_range(first, last, flags);
}

SHIM_EXPORT void
closefrom(int low)
{
    unsigned first = low < 0 ? 0 : (unsigned)low;
    int saved = errno;
    close_known(first, ~0u);
    if (close_range_real(first, ~0u, 0) != 0) { /* a kernel without it [close_range(2)] */
        int own = shim_region_fd();
        for (unsigned fd = first; own >= 0 && fd < (unsigned)own; fd++) {
            (void)sys_close((int)fd);
        }
        shim_real.closefrom(own >= (int)first ? own + 1 : (int)first);
    }
    errno = saved;
}

/* Streams that the program has already lie on the three standard numbers; others come by fdopen. */
static bool
is_refused(int from, int to)
{
    return shim_stdio_refused() && to >= 0 && to <= 2 && shim_fd_is_mesh(from);
}

static int
duplicated(int from, int to)
{
    if (is_refused(from, to)) {
        (void)sys_close(to);
        return sym_stdio_refuse();
    }
    if (to >= 0) {
        shim_conn_dup(from, to);
    }
    return to;
}

SHIM_EXPORT int
dup(int fd)
{
    int to;
    if (is_private(fd)) {
        errno = EBADF;
        return -1;
    }
    SYM_NUMBER(to, shim_real.dup(fd));
    return duplicated(fd, to);
}

/* What the kernel looks at before it touches `to` [fs/file.c: ksys_dup3]. */
static bool
will_replace(int from, int to, int flags)
{
    struct rlimit most = {0, 0};
    return from != to && !(flags & ~O_CLOEXEC) && sys_fcntl(from, F_GETFD, 0) >= 0 &&
           (sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &most) != 0 || (rlim_t)to < most.rlim_cur);
}

/* The target's connection ends only if the call will succeed. */
static void
before_replace(int from, int to, int flags)
{
    if (shim_fd_word(to) && will_replace(from, to, flags)) {
        if (is_private(to)) {
            if (shim_fdtab_may_write()) {
                shim_region_yield(to);
            }
            return;
        }
        if (shim_gate_any() && shim_fdtab_may_write()) {
            shim_gate_forget(to);
        }
        shim_conn_replaced(to);
    }
}

SHIM_EXPORT int
dup2(int from, int to)
{
    if (is_refused(from, to)) {
        return sym_stdio_refuse();
    }
    before_replace(from, to, 0);
    int r = shim_real.dup2(from, to);
    if (r >= 0 && (shim_fd_word(from) || shim_fd_word(to))) {
        shim_conn_dup(from, to);
    }
    return r;
}

SHIM_EXPORT int
dup3(int from, int to, int flags)
{
    if (is_refused(from, to)) {
        return sym_stdio_refuse();
    }
    before_replace(from, to, flags);
    int r = shim_real.dup3(from, to, flags);
    if (r >= 0 && (shim_fd_word(from) || shim_fd_word(to))) {
        shim_conn_dup(from, to);
    }
    return r;
}

/* What comes behind F_SETLKW: a new descriptor, an owner, or nothing of ours. */
static __attribute__((noinline)) int
fcntl_other(int (*real)(int, int, ...), int fd, int cmd, void *arg)
{
    int r;
    if (cmd == F_SETOWN || cmd == F_SETOWN_EX) {
        shim_urgent_ask(fd);
    }
    if (cmd != F_DUPFD && cmd != F_DUPFD_CLOEXEC) {
        return real(fd, cmd, arg);
    }
    SYM_NUMBER(r, real(fd, cmd, arg));
    return duplicated(fd, r);
}

/* Only what makes a descriptor, what asks for signals, and one of our own, is any matter of ours. */
static inline int
fcntl_common(int (*real)(int, int, ...), int fd, int cmd, void *arg)
{
    if (is_private(fd)) {
        errno = EBADF;
        return -1;
    }
    return __builtin_expect(cmd > F_DUPFD && cmd <= F_SETLKW, 1) ? real(fd, cmd, arg) : fcntl_other(real, fd, cmd, arg);
}

SHIM_EXPORT int
fcntl(int fd, int cmd, ...)
{
    va_list ap;
    va_start(ap, cmd);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    return fcntl_common(shim_real.fcntl, fd, cmd, arg);
}

SHIM_EXPORT int
fcntl64(int fd, int cmd, ...)
{
    va_list ap;
    va_start(ap, cmd);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    return fcntl_common(shim_real.fcntl64, fd, cmd, arg);
}

/* A program that was built with ThreadSanitizer has a runtime that sees each memcpy of ours and none of
 * our locks; what it would take for races is no business of the program's. Asked before anything runs;
 * one that the program has itself comes first. Ours built so reports for us. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define OWN_REPORTS
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(OWN_REPORTS)
#define UNSEEN ""
#else
#define UNSEEN "called_from_lib:libmesh.so\ncalled_from_lib:libmesh-engine.so\n"
#endif

SHIM_EXPORT const char *
__tsan_default_suppressions(void)
{
    return UNSEEN;
}

__attribute__((constructor)) static void
start(void)
{
    shim_real_init();
    shim_env_init();
    if (!shim_env.on) {
        return;
    }
    shim_nouring_start();
    shim_fdtab_forked();
    shim_gate_init();
    sym_stdio_init();
    sym_fork_start();
    shim_ident_start();
    sym_exit_start();
    sym_exec_start();
}
