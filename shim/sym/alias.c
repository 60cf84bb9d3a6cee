/* SPDX-License-Identifier: Apache-2.0
 *
 * Exported symbols: libc's second names for calls of ours, which it exports too (ABI of glibc 2.2.5).
 * What is linked against them means the same.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/sym/sym.h"

#define ALIAS(ret, name, params, target, args) \
    ret name params;                           \
    SHIM_EXPORT ret name params                \
    {                                          \
        return target args;                    \
    }

ALIAS(int, __connect, (int fd, const struct sockaddr *sa, socklen_t n), connect, (fd, sa, n))
ALIAS(ssize_t, __send, (int fd, const void *p, size_t n, int flags), send, (fd, p, n, flags))
ALIAS(ssize_t, __read, (int fd, void *p, size_t n), read, (fd, p, n))
ALIAS(ssize_t, __write, (int fd, const void *p, size_t n), write, (fd, p, n))
ALIAS(int, __close, (int fd), close, (fd))
ALIAS(int, __dup2, (int fd, int to), dup2, (fd, to))
ALIAS(int, __poll, (struct pollfd * p, nfds_t n, int ms), poll, (p, n, ms))
ALIAS(int, __select, (int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *tv), select, (n, r, w, e, tv))
ALIAS(pid_t, __wait, (int *status), wait, (status))
ALIAS(pid_t, __waitpid, (pid_t pid, int *status, int options), waitpid, (pid, status, options))
ALIAS(int, __nanosleep, (const struct timespec *t, struct timespec *left), nanosleep, (t, left))

int __fcntl(int fd, int cmd, ...);
SHIM_EXPORT int
__fcntl(int fd, int cmd, ...)
{
    va_list ap;
    va_start(ap, cmd);
    long arg = va_arg(ap, long);
    va_end(ap);
    return fcntl(fd, cmd, arg);
}
