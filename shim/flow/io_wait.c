/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_io, the part about blocking: may a call on a connection sleep, for how long, and what ends it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/time.h>

#include "shim/core/fdtab.h"
#include "shim/flow/io.h"
#include "shim/flow/io_int.h"
#include "shim/flow/work.h"
#include "shim/real.h"

bool
shim_io_is_nonblocking(int fd, int flags)
{
    long fl = flags & MSG_DONTWAIT ? O_NONBLOCK : sys_fcntl(fd, F_GETFL, 0);
    if (fl < 0 && shim_filter_any()) {
        struct shim_slot *s = shim_conn_slot(fd);
        return s && shim_slot_has(s, SHIM_SF_NONBLOCK);
    }
    return fl >= 0 && (fl & O_NONBLOCK);
}

static uint16_t
name_of(int epfd)
{
    return epfd < UINT16_MAX ? (uint16_t)(epfd + 1) : 0;
}

void
shim_io_watched(int fd, int epfd, bool edge)
{
    struct shim_slot *s = shim_fd_kind(fd) == SHIM_FD_CONN ? shim_conn_slot(fd) : NULL;
    if (s) {
        atomic_fetch_or(&s->watched, edge ? SHIM_WATCHED_EDGE : SHIM_WATCHED_LEVEL);
        atomic_store_explicit(&s->set, name_of(epfd), memory_order_relaxed);
    }
}

void
shim_io_unwatched(int fd, int epfd)
{
    struct shim_slot *s = shim_fd_kind(fd) == SHIM_FD_CONN ? shim_conn_slot(fd) : NULL;
    uint16_t its = name_of(epfd);
    if (s) {
        (void)atomic_compare_exchange_strong(&s->set, &its, 0);
    }
}

/* By fd's own number, and its file's end is near: should that descriptor lead to another set by now, nothing is lost. */
void
shim_io_leave_sets(int fd, struct shim_slot *s)
{
    int its = atomic_load_explicit(&s->set, memory_order_relaxed);
    if (its && !shim_slot_has(s, SHIM_SF_FOREIGN)) {
        (void)sys_call(SYS_epoll_ctl, its - 1, EPOLL_CTL_DEL, fd, NULL);
    }
}

bool
shim_io_is_sliced(int fd, int flags)
{
    const struct shim_slot *s = shim_conn_slot(fd);
    unsigned how = s ? atomic_load(&s->watched) & (SHIM_WATCHED_LEVEL | SHIM_WATCHED_EDGE) : 0;
    return how == SHIM_WATCHED_LEVEL && shim_io_is_nonblocking(fd, flags);
}

/* The kernel's layout, for asking about handlers without libc's sigaction (it may be hooked). */
struct kernel_sigaction {
    void *handler;
    unsigned long flags;
    void *restorer;
    unsigned long mask;
};

/* A fault of the program's own code does not interrupt a wait; many have handlers for that. */
static bool
is_fault(int sig)
{
    return sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGFPE || sig == SIGTRAP ||
           sig == SIGSYS || sig == SIGABRT;
}

bool
shim_io_restarts_after(int sig)
{
    struct kernel_sigaction sa = {0};
    return sys_call(SYS_rt_sigaction, sig, 0, &sa, 8) != 0 || (uintptr_t)sa.handler <= 1 || sa.flags & SA_RESTART;
}

bool
shim_io_restarts(void)
{
    for (int sig = 1; sig < 65; sig++) {
        if (!is_fault(sig) && !shim_io_restarts_after(sig)) {
            return false;
        }
    }
    return true;
}

uint64_t
shim_io_timeout_of(int fd, int opt)
{
    struct timeval tv = {0};
    socklen_t len = sizeof(tv);
    if (sys_getsockopt(fd, SOL_SOCKET, opt, &tv, &len) != 0 || (!tv.tv_sec && !tv.tv_usec)) {
        return SHIM_NEVER;
    }
    return shim_now() + (uint64_t)tv.tv_sec * 1000000000 + (uint64_t)tv.tv_usec * 1000;
}

int
shim_io_wait(int fd, short events, uint64_t deadline, struct shim_slot *until)
{
    struct pollfd p = {fd, events, 0};
    for (;;) {
        int r = shim_work_wait(&p, events ? 1 : 0, deadline, NULL, until);
        if (r == -EINTR && shim_io_restarts()) {
            continue;
        }
        if (r == -EINVAL && events) { /* a program with RLIMIT_NOFILE 0 cannot poll at all */
            r = (int)sys_poll(NULL, 0, 1);
        }
        if (r == 0) {
            return deadline != SHIM_NEVER && shim_now() >= deadline ? -EAGAIN : 0;
        }
        return r < 0 ? r : 0;
    }
}
