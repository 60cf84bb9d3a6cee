/* SPDX-License-Identifier: Apache-2.0
 *
 * Exported symbols: waiting for readiness. With nothing under way each is one load and one branch
 * and then libc.
 */
#include <sys/time.h>

#include "shim/ready/ready.h"
#include "shim/sym/sym.h"

/* Work to drive, a sleeper that this very call wakes included. */
static bool
busy(struct pollfd *p, nfds_t n)
{
    for (nfds_t i = 0; shim_work_sleeps() && i < n; i++) {
        if (p[i].fd >= 0) {
            shim_conn_wake(p[i].fd);
        }
    }
    return shim_work_any();
}

static bool
busy_sets(int n, const fd_set *rd, const fd_set *wr)
{
    for (int fd = 0; shim_work_sleeps() && fd < n && fd < FD_SETSIZE; fd++) {
        if ((rd && FD_ISSET(fd, rd)) || (wr && FD_ISSET(fd, wr))) {
            shim_conn_wake(fd);
        }
    }
    return shim_work_any();
}

SHIM_EXPORT int
poll(struct pollfd *p, nfds_t n, int ms)
{
    if (busy(p, n)) {
        int saved = errno;
        return (int)sym_result(shim_ready_poll(p, n, shim_ready_deadline_ms(ms), NULL), saved);
    }
    return shim_real.poll(p, n, ms);
}

SHIM_EXPORT int
__poll_chk(struct pollfd *p, nfds_t n, int ms, size_t room)
{
    return n <= room / sizeof(*p) && busy(p, n) ? poll(p, n, ms)
                                                     : shim_real.__poll_chk(p, n, ms, room);
}

SHIM_EXPORT int
ppoll(struct pollfd *p, nfds_t n, const struct timespec *ts, const sigset_t *mask)
{
    if (busy(p, n)) {
        int saved = errno;
        return (int)sym_result(shim_ready_poll(p, n, shim_ready_deadline(ts), mask), saved);
    }
    return shim_real.ppoll(p, n, ts, mask);
}

SHIM_EXPORT int
__ppoll_chk(struct pollfd *p, nfds_t n, const struct timespec *ts, const sigset_t *mask,
            size_t room)
{
    return n <= room / sizeof(*p) && busy(p, n)
               ? ppoll(p, n, ts, mask)
               : shim_real.__ppoll_chk(p, n, ts, mask, room);
}

/* select(2) on Linux leaves the time that was left. */
SHIM_EXPORT int
select(int n, fd_set *rd, fd_set *wr, fd_set *ex, struct timeval *tv)
{
    if (!busy_sets(n, rd, wr)) {
        return shim_real.select(n, rd, wr, ex, tv);
    }
    int saved = errno;
    struct timespec ts;
    if (tv) {
        ts = (struct timespec){tv->tv_sec, tv->tv_usec * 1000};
    }
    uint64_t deadline = shim_ready_deadline(tv ? &ts : NULL);
    int r = shim_ready_select(n, rd, wr, ex, deadline, NULL);
    if (tv) {
        uint64_t now = shim_now(), left = deadline > now ? (deadline - now) / 1000 : 0;
        *tv = (struct timeval){(time_t)(left / 1000000), (suseconds_t)(left % 1000000)};
    }
    return (int)sym_result(r, saved);
}

SHIM_EXPORT int
pselect(int n, fd_set *rd, fd_set *wr, fd_set *ex, const struct timespec *ts, const sigset_t *mask)
{
    if (!busy_sets(n, rd, wr)) {
        return shim_real.pselect(n, rd, wr, ex, ts, mask);
    }
    int saved = errno;
    return (int)sym_result(shim_ready_select(n, rd, wr, ex, shim_ready_deadline(ts), mask), saved);
}

static int
remember_epoll(int fd)
{
    if (fd >= 0 && (shim_fd_is_light(shim_fd_word(fd)) || shim_fdtab_may_write())) {
        (void)shim_fdtab_set(fd, SHIM_FD_EPOLL, 0);
    }
    return fd;
}

SHIM_EXPORT int
epoll_create(int size)
{
    return remember_epoll(shim_real.epoll_create(size));
}

SHIM_EXPORT int
epoll_create1(int flags)
{
    return remember_epoll(shim_real.epoll_create1(flags));
}

SHIM_EXPORT int
epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
    enum shim_fd_kind kind = shim_fd_kind(fd);
    if (kind == SHIM_FD_FRESH || kind == SHIM_FD_CONN) {
        int saved = errno;
        return (int)sym_result(shim_gate_ctl(epfd, op, fd, ev), saved);
    }
    return shim_real.epoll_ctl(epfd, op, fd, ev);
}

static inline bool
involved(void)
{
    return shim_work_any() || shim_gate_any();
}

SHIM_EXPORT int
epoll_wait(int epfd, struct epoll_event *ev, int max, int ms)
{
    if (!involved()) {
        uint64_t start = ms > 0 ? shim_now() : 0;
        int n = shim_real.epoll_wait(epfd, ev, max, ms);
        if (n <= 0 || !involved()) {
            return n;
        }
        n = shim_gate_strip(epfd, ev, n, max); /* a connection began while we slept */
        uint64_t gone = ms > 0 ? (shim_now() - start) / 1000000 : 0;
        if (n > 0 || ms == 0 || (ms > 0 && gone >= (uint64_t)ms)) {
            return n;
        }
        ms = ms > 0 ? ms - (int)gone : ms;
    }
    int saved = errno;
    return (int)sym_result(shim_ready_epoll(epfd, ev, max, shim_ready_deadline_ms(ms), NULL),
                           saved);
}

SHIM_EXPORT int
epoll_pwait(int epfd, struct epoll_event *ev, int max, int ms, const sigset_t *mask)
{
    if (!involved()) {
        uint64_t start = ms > 0 ? shim_now() : 0;
        int n = shim_real.epoll_pwait(epfd, ev, max, ms, mask);
        if (n <= 0 || !involved()) {
            return n;
        }
        n = shim_gate_strip(epfd, ev, n, max);
        uint64_t gone = ms > 0 ? (shim_now() - start) / 1000000 : 0;
        if (n > 0 || ms == 0 || (ms > 0 && gone >= (uint64_t)ms)) {
            return n;
        }
        ms = ms > 0 ? ms - (int)gone : ms;
    }
    int saved = errno;
    return (int)sym_result(shim_ready_epoll(epfd, ev, max, shim_ready_deadline_ms(ms), mask),
                           saved);
}

SHIM_EXPORT int
epoll_pwait2(int epfd, struct epoll_event *ev, int max, const struct timespec *ts,
             const sigset_t *mask)
{
    int saved = errno;
    if (!involved()) {
        int n = shim_real.epoll_pwait2(epfd, ev, max, ts, mask);
        if (n <= 0 || !involved()) {
            return n;
        }
        n = shim_gate_strip(epfd, ev, n, max);
        if (n > 0) {
            return n;
        }
    }
    return (int)sym_result(shim_ready_epoll(epfd, ev, max, shim_ready_deadline(ts), mask), saved);
}
