/* SPDX-License-Identifier: Apache-2.0
 *
 * Exported symbols: waiting for readiness. With nothing under way each is one load and one branch
 * and then libc.
 */
#include <sys/time.h>

#include "shim/flow/service.h"
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
    return shim_work_any() || shim_slot_any_whole();
}

static bool
busy_sets(int n, const fd_set *rd, const fd_set *wr)
{
    for (int fd = 0; shim_work_sleeps() && fd < n && fd < FD_SETSIZE; fd++) {
        if ((rd && FD_ISSET(fd, rd)) || (wr && FD_ISSET(fd, wr))) {
            shim_conn_wake(fd);
        }
    }
    return shim_work_any() || shim_slot_any_whole();
}

/* What was found, as the program is to see it. With an urgent byte what carries it came, too. */
static int
found(struct pollfd *p, nfds_t n, int r)
{
    for (nfds_t i = 0; r > 0 && i < n; i++) {
        if (__builtin_expect(p[i].revents & POLLPRI, 0)) {
            int saved = errno;
            r = shim_ready_quiet(p + i, n - i, r);
            errno = saved;
            break;
        }
    }
    if (r > 0 && atomic_load_explicit(&shim_service_used, memory_order_relaxed)) {
        shim_service_mend(p, n);
    }
    return r;
}

SHIM_EXPORT int
poll(struct pollfd *p, nfds_t n, int ms)
{
    if (busy(p, n)) {
        int saved = errno;
        return found(p, n, (int)sym_result(shim_ready_poll(p, n, shim_ready_deadline_ms(ms), NULL), saved));
    }
    return found(p, n, shim_real.poll(p, n, ms));
}

SHIM_EXPORT int
__poll_chk(struct pollfd *p, nfds_t n, int ms, size_t room)
{
    return n <= room / sizeof(*p) && busy(p, n)
               ? poll(p, n, ms)
               : found(p, n, shim_real.__poll_chk(p, n, ms, room));
}

SHIM_EXPORT int
ppoll(struct pollfd *p, nfds_t n, const struct timespec *ts, const sigset_t *mask)
{
    if (busy(p, n)) {
        int saved = errno;
        return found(p, n, (int)sym_result(shim_ready_poll(p, n, shim_ready_deadline(ts), mask), saved));
    }
    return found(p, n, shim_real.ppoll(p, n, ts, mask));
}

SHIM_EXPORT int
__ppoll_chk(struct pollfd *p, nfds_t n, const struct timespec *ts, const sigset_t *mask,
            size_t room)
{
    return n <= room / sizeof(*p) && busy(p, n)
               ? ppoll(p, n, ts, mask)
               : found(p, n, shim_real.__ppoll_chk(p, n, ts, mask, room));
}

static int
found_sets(int n, fd_set *rd, const fd_set *ex, int r)
{
    if (r <= 0 || !rd || !ex) {
        return r;
    }
    int saved = errno;
    r = shim_ready_quiet_sets(n, rd, ex, r);
    errno = saved;
    return r;
}

/* select(2) on Linux leaves the time that was left. */
SHIM_EXPORT int
select(int n, fd_set *rd, fd_set *wr, fd_set *ex, struct timeval *tv)
{
    if (!busy_sets(n, rd, wr)) {
        return found_sets(n, rd, ex, shim_real.select(n, rd, wr, ex, tv));
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
        return found_sets(n, rd, ex, shim_real.pselect(n, rd, wr, ex, ts, mask));
    }
    int saved = errno;
    return (int)sym_result(shim_ready_select(n, rd, wr, ex, shim_ready_deadline(ts), mask), saved);
}

static int
remember_epoll(int fd)
{
    static _Atomic uint32_t made; /* a set is known by its number: it may have several descriptors */
    if (fd >= 0 && (shim_fd_is_light(shim_fd_word(fd)) || shim_fdtab_may_write())) {
        (void)shim_fdtab_set(fd, SHIM_FD_EPOLL, SHIM_FD_INDEX(atomic_fetch_add(&made, 1)));
    }
    return fd;
}

SHIM_EXPORT int
epoll_create(int size)
{
    int fd;
    SYM_NUMBER(fd, shim_real.epoll_create(size));
    return remember_epoll(fd);
}

SHIM_EXPORT int
epoll_create1(int flags)
{
    int fd;
    SYM_NUMBER(fd, shim_real.epoll_create1(flags));
    return remember_epoll(fd);
}

SHIM_EXPORT int
epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
    enum shim_fd_kind kind = shim_fd_kind(fd);
    if (kind == SHIM_FD_INHERITED || kind == SHIM_FD_LISTENER) {
        shim_conn_wake(fd);
    }
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

/* Not inlined, so that a wait which is no matter of ours saves nothing for it. */
static __attribute__((noinline)) int
epoll_involved(int epfd, struct epoll_event *ev, int max, int ms, const sigset_t *mask)
{
    int saved = errno;
    return (int)sym_result(shim_ready_epoll(epfd, ev, max, shim_ready_deadline_ms(ms), mask), saved);
}

/* A connection began in another thread while the call slept, since the tick `start`: what is hidden goes, and if
 * that was all, the rest of the time is waited. Not less than was asked for; two ticks more at most, so
 * that the calls to which this does not happen need not ask for the exact time. */
static __attribute__((noinline)) int
epoll_slept(int epfd, struct epoll_event *ev, int n, int max, int ms, uint64_t start, const sigset_t *mask)
{
    n = shim_gate_strip(epfd, ev, n, max);
    uint64_t now = shim_tick(), gone = now > start + SHIM_TICK ? (now - start - SHIM_TICK) / 1000000 : 0;
    if (n > 0 || ms == 0 || (ms > 0 && gone >= (uint64_t)ms)) {
        return n;
    }
    return epoll_involved(epfd, ev, max, ms > 0 ? ms - (int)gone : ms, mask);
}

SHIM_EXPORT int
epoll_wait(int epfd, struct epoll_event *ev, int max, int ms)
{
    uint32_t seen = shim_gate_seen();
    if (involved()) {
        return epoll_involved(epfd, ev, max, ms, NULL);
    }
    uint64_t start = ms > 0 ? shim_tick() : 0;
    int n = shim_real.epoll_wait(epfd, ev, max, ms);
    return n <= 0 || (!involved() && shim_gate_seen() == seen) ? n : epoll_slept(epfd, ev, n, max, ms, start, NULL);
}

SHIM_EXPORT int
epoll_pwait(int epfd, struct epoll_event *ev, int max, int ms, const sigset_t *mask)
{
    uint32_t seen = shim_gate_seen();
    if (involved()) {
        return epoll_involved(epfd, ev, max, ms, mask);
    }
    uint64_t start = ms > 0 ? shim_tick() : 0;
    int n = shim_real.epoll_pwait(epfd, ev, max, ms, mask);
    return n <= 0 || (!involved() && shim_gate_seen() == seen) ? n : epoll_slept(epfd, ev, n, max, ms, start, mask);
}

SHIM_EXPORT int
epoll_pwait2(int epfd, struct epoll_event *ev, int max, const struct timespec *ts,
             const sigset_t *mask)
{
    int saved = errno;
    uint32_t seen = shim_gate_seen();
    if (!involved()) {
        int n = shim_real.epoll_pwait2(epfd, ev, max, ts, mask);
        if (n <= 0 || (!involved() && shim_gate_seen() == seen)) {
            return n;
        }
        n = shim_gate_strip(epfd, ev, n, max);
        if (n > 0) {
            return n;
        }
    }
    return (int)sym_result(shim_ready_epoll(epfd, ev, max, shim_ready_deadline(ts), mask), saved);
}
