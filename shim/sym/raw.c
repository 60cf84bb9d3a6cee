/* SPDX-License-Identifier: Apache-2.0
 *
 * Exported symbol: syscall(2). A call by its number means the same as by its name; otherwise a
 * program that asks this way would speak plaintext on a connection of the mesh, or begin one
 * outside it. Numbers that have nothing to do with sockets pass.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "shim/core/env.h"
#include "shim/sym/sym.h"

#define INT(i)      ((int)a[i])
#define SIZE(i)     ((size_t)a[i])
#define PTR(i)      ((void *)a[i])
#define CALL(n, c)  \
    case SYS_##n:   \
        *r = (c);   \
        return true

static bool
connections(long n, const long a[6], long *r)
{
    switch (n) {
        CALL(socket, socket(INT(0), INT(1), INT(2)));
        CALL(socketpair, socketpair(INT(0), INT(1), INT(2), PTR(3)));
        CALL(listen, listen(INT(0), INT(1)));
        CALL(accept, accept(INT(0), PTR(1), PTR(2)));
        CALL(accept4, accept4(INT(0), PTR(1), PTR(2), INT(3)));
        CALL(connect, connect(INT(0), PTR(1), (socklen_t)a[2]));
        CALL(shutdown, shutdown(INT(0), INT(1)));
        CALL(getpeername, getpeername(INT(0), PTR(1), PTR(2)));
        CALL(getsockopt, getsockopt(INT(0), INT(1), INT(2), PTR(3), PTR(4)));
        CALL(setsockopt, setsockopt(INT(0), INT(1), INT(2), PTR(3), (socklen_t)a[4]));
        CALL(ioctl, ioctl(INT(0), (unsigned long)a[1], PTR(2)));
        CALL(fcntl, fcntl(INT(0), INT(1), a[2]));
        CALL(close, close(INT(0)));
        CALL(close_range, close_range((unsigned)a[0], (unsigned)a[1], INT(2)));
        CALL(dup, dup(INT(0)));
        CALL(pidfd_getfd, pidfd_getfd(INT(0), INT(1), (unsigned)a[2]));
        CALL(dup3, dup3(INT(0), INT(1), INT(2)));
#ifdef SYS_dup2
        CALL(dup2, dup2(INT(0), INT(1)));
#endif
    default:
        return false;
    }
}

static bool
data(long n, const long a[6], long *r)
{
    switch (n) {
        CALL(read, read(INT(0), PTR(1), SIZE(2)));
        CALL(readv, readv(INT(0), PTR(1), INT(2)));
        CALL(preadv2, preadv2(INT(0), PTR(1), INT(2), a[3], INT(5)));
        CALL(recvfrom, recvfrom(INT(0), PTR(1), SIZE(2), INT(3), PTR(4), PTR(5)));
        CALL(recvmsg, recvmsg(INT(0), PTR(1), INT(2)));
        CALL(recvmmsg, recvmmsg(INT(0), PTR(1), (unsigned)a[2], INT(3), PTR(4)));
        CALL(write, write(INT(0), PTR(1), SIZE(2)));
        CALL(writev, writev(INT(0), PTR(1), INT(2)));
        CALL(pwritev2, pwritev2(INT(0), PTR(1), INT(2), a[3], INT(5)));
        CALL(sendto, sendto(INT(0), PTR(1), SIZE(2), INT(3), PTR(4), (socklen_t)a[5]));
        CALL(sendmsg, sendmsg(INT(0), PTR(1), INT(2)));
        CALL(sendmmsg, sendmmsg(INT(0), PTR(1), (unsigned)a[2], INT(3)));
        CALL(sendfile, sendfile(INT(0), INT(1), PTR(2), SIZE(3)));
        CALL(splice, splice(INT(0), PTR(1), INT(2), PTR(3), SIZE(4), (unsigned)a[5]));
        CALL(copy_file_range,
             copy_file_range(INT(0), PTR(1), INT(2), PTR(3), SIZE(4), (unsigned)a[5]));
    default:
        return false;
    }
}

static bool
becoming(long n, const long a[6], long *r)
{
    switch (n) {
        CALL(execve, execve(PTR(0), PTR(1), PTR(2)));
        CALL(execveat, execveat(INT(0), PTR(1), PTR(2), PTR(3), INT(4)));
        CALL(exit_group, (_exit(INT(0)), 0));
    default:
        return false;
    }
}

static bool
confining(long n, const long a[6], long *r)
{
    switch (n) {
        CALL(prctl, prctl(INT(0), a[1], a[2], a[3], a[4]));
        CALL(seccomp, sym_seccomp((unsigned)a[0], (unsigned)a[1], PTR(2)));
        CALL(chroot, chroot(PTR(0)));
    default:
        return false;
    }
}

/* The kernel's epoll and poll calls take the size of the signal mask too: it has one value. */
static bool
waiting(long n, const long a[6], long *r)
{
    switch (n) {
        CALL(epoll_create1, epoll_create1(INT(0)));
        CALL(epoll_ctl, epoll_ctl(INT(0), INT(1), INT(2), PTR(3)));
        CALL(epoll_pwait, epoll_pwait(INT(0), PTR(1), INT(2), INT(3), PTR(4)));
        CALL(epoll_pwait2, epoll_pwait2(INT(0), PTR(1), INT(2), PTR(3), PTR(4)));
#ifdef SYS_epoll_create
        CALL(epoll_create, epoll_create(INT(0)));
        CALL(epoll_wait, epoll_wait(INT(0), PTR(1), INT(2), INT(3)));
        CALL(poll, poll(PTR(0), (nfds_t)a[1], INT(2)));
        CALL(select, select(INT(0), PTR(1), PTR(2), PTR(3), PTR(4)));
#endif
    default:
        return false;
    }
}

/* ppoll and pselect6 leave in their timeout what is left of it, unlike libc's; with nothing of ours
 * under way they are the kernel's. */
static bool
waiting_with_rest(long n, const long a[6], long *r)
{
    struct timespec *ts = PTR(n == SYS_ppoll ? 2 : 4);
    const void *const *mask = n == SYS_pselect6 ? PTR(5) : NULL;
    if ((n != SYS_ppoll && n != SYS_pselect6) || !(shim_work_any() || shim_work_sleeps())) {
        return false;
    }
    uint64_t start = shim_now();
    *r = n == SYS_ppoll ? ppoll(PTR(0), (nfds_t)a[1], ts, PTR(3))
                        : pselect(INT(0), PTR(1), PTR(2), PTR(3), ts, mask ? mask[0] : NULL);
    if (ts) {
        uint64_t all = (uint64_t)ts->tv_sec * 1000000000 + (uint64_t)ts->tv_nsec;
        uint64_t gone = shim_now() - start, left = all > gone ? all - gone : 0;
        *ts = (struct timespec){(time_t)(left / 1000000000), (long)(left % 1000000000)};
    }
    return true;
}

SHIM_EXPORT long
syscall(long n, ...)
{
    long a[6], r = 0;
    va_list ap;
    va_start(ap, n);
    for (int i = 0; i < 6; i++) {
        a[i] = va_arg(ap, long);
    }
    va_end(ap);
    if (shim_env.on) {
        if (n == SYS_io_uring_setup) { /* its reads and writes would pass us by */
            errno = ENOSYS;
            return -1;
        }
        if (n == SYS_io_submit) {
            return sym_result(sym_io_submit((unsigned long)a[0], a[1], PTR(2)), errno);
        }
        if (data(n, a, &r) || connections(n, a, &r) || waiting(n, a, &r) ||
            waiting_with_rest(n, a, &r) || confining(n, a, &r) || becoming(n, a, &r) ||
            sym_fork_by_number(n, a, &r)) {
            return r;
        }
    }
    return shim_real.syscall(n, a[0], a[1], a[2], a[3], a[4], a[5]);
}
