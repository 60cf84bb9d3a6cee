/* SPDX-License-Identifier: Apache-2.0
 *
 * Exported symbols: the life of descriptors and of the process; and the constructor.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <unistd.h>

#include "shim/core/env.h"
#include "shim/core/lock.h"
#include "shim/core/stat.h"
#include "shim/flow/ident.h"
#include "shim/link/link.h"
#include "shim/ready/ready.h"
#include "shim/sym/sym.h"

SHIM_EXPORT int
close(int fd)
{
    if (shim_fd_word(fd) == 0) {
        return shim_real.close(fd);
    }
    if (shim_gate_any() && shim_fdtab_may_write()) {
        shim_gate_forget(fd);
    }
    return shim_conn_close(fd);
}

/* Only numbers that we know of need more than the kernel does by itself. */
static void
close_known(unsigned first, unsigned last)
{
    int end = shim_fdtab_limit();
    if (!shim_fdtab_may_write()) {
        return;
    }
    for (unsigned fd = first; fd <= last && fd < (unsigned)end; fd++) {
        if (shim_fd_word((int)fd)) {
            (void)close((int)fd);
        }
    }
}

SHIM_EXPORT int
close_range(unsigned first, unsigned last, int flags)
{
    if (first <= last && !(flags & CLOSE_RANGE_CLOEXEC)) {
        close_known(first, last);
    }
    return shim_real.close_range(first, last, flags);
}

SHIM_EXPORT void
closefrom(int low)
{
    close_known(low < 0 ? 0 : (unsigned)low, ~0u);
    shim_real.closefrom(low);
}

SHIM_EXPORT int
dup(int fd)
{
    int r = shim_real.dup(fd);
    if (r >= 0) {
        shim_conn_dup(fd, r);
    }
    return r;
}

/* The target's connection ends only if the call will succeed. */
static void
before_replace(int from, int to)
{
    if (from != to && shim_fd_word(to) && sys_fcntl(from, F_GETFD, 0) >= 0) {
        if (shim_gate_any() && shim_fdtab_may_write()) {
            shim_gate_forget(to);
        }
        shim_conn_replaced(to);
    }
}

SHIM_EXPORT int
dup2(int from, int to)
{
    before_replace(from, to);
    int r = shim_real.dup2(from, to);
    if (r >= 0 && (shim_fd_word(from) || shim_fd_word(to))) {
        shim_conn_dup(from, to);
    }
    return r;
}

SHIM_EXPORT int
dup3(int from, int to, int flags)
{
    before_replace(from, to);
    int r = shim_real.dup3(from, to, flags);
    if (r >= 0 && (shim_fd_word(from) || shim_fd_word(to))) {
        shim_conn_dup(from, to);
    }
    return r;
}

static int
fcntl_common(int (*real)(int, int, ...), int fd, int cmd, void *arg)
{
    int r = real(fd, cmd, arg);
    if (r >= 0 && (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC)) {
        shim_conn_dup(fd, r);
    }
    return r;
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

static void
before_fork(void)
{
    shim_work_before_fork();
    shim_conn_before_fork();
}

static void
in_parent(void)
{
    shim_work_after_fork(false);
}

static void
in_child(void)
{
    shim_lock_forked();
    shim_fdtab_forked();
    shim_work_after_fork(true);
    shim_link_forked();
    shim_ident_forked();
    shim_gate_forked();
    shim_stat_forked();
}

/* fork() runs the handlers that the constructor left with libc; _Fork() runs none [_Fork(3)]. */
SHIM_EXPORT pid_t
_Fork(void)
{
    if (!shim_env.on) {
        return shim_real._Fork();
    }
    before_fork();
    pid_t pid = shim_real._Fork();
    if (pid == 0) {
        in_child();
    } else {
        in_parent();
        if (pid < 0) {
            shim_conn_fork_failed();
        }
    }
    return pid;
}

/* What was written must not be lost because the program ends; a vfork child has no say. */
static void
finish(void)
{
    if (shim_env.on && shim_work_any() && shim_fdtab_may_write()) {
        shim_work_finish();
    }
}

SHIM_EXPORT void
_exit(int status)
{
    finish();
    shim_real._exit(status);
    __builtin_unreachable();
}

SHIM_EXPORT void
_Exit(int status)
{
    finish();
    shim_real._Exit(status);
    __builtin_unreachable();
}

SHIM_EXPORT long
syscall(long n, ...)
{
    long a[6];
    va_list ap;
    va_start(ap, n);
    for (int i = 0; i < 6; i++) {
        a[i] = va_arg(ap, long);
    }
    va_end(ap);
    switch (n) {
    case SYS_io_uring_setup: /* its reads and writes would pass us by */
        if (shim_env.on) {
            errno = ENOSYS;
            return -1;
        }
        break;
    case SYS_read:
        return read((int)a[0], (void *)a[1], (size_t)a[2]);
    case SYS_write:
        return write((int)a[0], (const void *)a[1], (size_t)a[2]);
    case SYS_close:
        return close((int)a[0]);
    case SYS_sendto:
        return sendto((int)a[0], (const void *)a[1], (size_t)a[2], (int)a[3],
                      (const struct sockaddr *)a[4], (socklen_t)a[5]);
    case SYS_recvfrom:
        return recvfrom((int)a[0], (void *)a[1], (size_t)a[2], (int)a[3], (struct sockaddr *)a[4],
                        (socklen_t *)a[5]);
    default:
        break;
    }
    return shim_real.syscall(n, a[0], a[1], a[2], a[3], a[4], a[5]);
}

__attribute__((constructor)) static void
start(void)
{
    shim_real_init();
    shim_env_init();
    if (!shim_env.on) {
        return;
    }
    shim_fdtab_forked();
    shim_gate_init();
    pthread_atfork(before_fork, in_parent, in_child);
}

__attribute__((destructor)) static void
stop(void)
{
    finish();
}
