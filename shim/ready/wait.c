/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_ready: poll, select and epoll_wait while something is under way; see ready.h. Each loop
 * drives, asks the kernel about what the program may see now, and starts over when a connection
 * has changed its state.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/core/fdtab.h"
#include "shim/flow/conn.h"
#include "shim/flow/urgent.h"
#include "shim/flow/work.h"
#include "shim/ready/ready.h"
#include "shim/real.h"

#define WRITE_EVENTS (POLLOUT | POLLWRNORM | POLLWRBAND)

uint64_t
shim_ready_deadline_ms(int ms)
{
    return ms < 0 ? SHIM_NEVER : shim_now() + (uint64_t)ms * 1000000;
}

uint64_t
shim_ready_deadline(const struct timespec *ts)
{
    if (!ts) {
        return SHIM_NEVER;
    }
    return shim_now() + (uint64_t)ts->tv_sec * 1000000000 + (uint64_t)ts->tv_nsec;
}

/* The program's entries without what is hidden from it: a negative fd is skipped by the kernel, and its complement
 * tells shim_work_wait which one is waited for. */
static void
hide(struct pollfd *to, const struct pollfd *from, nfds_t n)
{
    for (nfds_t i = 0; i < n; i++) {
        short visible = from[i].fd < 0 ? (short)~0 : shim_conn_visible(from[i].fd);
        to[i] = from[i];
        to[i].revents = 0;
        if (visible != (short)~0) {
            to[i].events &= visible & POLLOUT ? WRITE_EVENTS : 0;
            to[i].fd = to[i].events ? to[i].fd : ~from[i].fd;
        }
    }
}

/* Marks what is readable though the kernel does not know: plaintext whose record we took as a whole. */
static int
mark_stored(struct pollfd *copy, const struct pollfd *p, nfds_t n)
{
    int fresh = 0;
    for (nfds_t i = 0; i < n && shim_slot_any_whole(); i++) {
        short in = p[i].events & (POLLIN | POLLRDNORM);
        const struct shim_slot *s = in && p[i].fd >= 0 ? shim_conn_slot(p[i].fd) : NULL;
        if (s && shim_slot_has(s, SHIM_SF_RX_WHOLE)) {
            fresh += copy[i].revents == 0;
            copy[i].revents |= in;
        }
    }
    return fresh;
}

#define READ_EVENTS (POLLIN | POLLRDNORM)

/* Whose urgent data is waited for, or who had some already. */
static bool
knows_urgent(const struct pollfd *p)
{
    const struct shim_slot *s = NULL;
    if (p->revents & READ_EVENTS && shim_fd_is_mesh(p->fd) && !(p->revents & POLLPRI)) {
        s = shim_conn_slot(p->fd);
    }
    return p->revents & POLLPRI || (s && atomic_load(&s->urgent) & SHIM_URGENT_ASKED);
}

int
shim_ready_quiet(struct pollfd *p, nfds_t n, int r)
{
    for (nfds_t i = 0; r > 0 && i < n; i++) {
        if (p[i].revents & READ_EVENTS && knows_urgent(&p[i]) && shim_urgent_hides(p[i].fd)) {
            p[i].revents &= (short)~READ_EVENTS;
            r -= p[i].revents == 0;
        }
    }
    return r;
}

int
shim_ready_quiet_sets(int n, fd_set *rd, const fd_set *ex, int r)
{
    for (int fd = 0; r > 0 && fd < n && fd < FD_SETSIZE; fd++) {
        if (FD_ISSET(fd, ex) && FD_ISSET(fd, rd) && shim_urgent_hides(fd)) {
            FD_CLR(fd, rd);
            r--;
        }
    }
    return r;
}

int
shim_ready_poll(struct pollfd *p, nfds_t n, uint64_t deadline, const sigset_t *mask)
{
    struct pollfd few[64], *copy = few;
    size_t bytes = 0;
    int r;
    if (n > 64) {
        bytes = n * sizeof(*p);
        copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (copy == MAP_FAILED) {
            return -ENOMEM;
        }
    }
    hide(copy, p, n);
    deadline = mark_stored(copy, p, n) > 0 ? 0 : deadline;
    do {
        struct shim_work_seen before = shim_work_see(NULL);
        hide(copy, p, n);
        r = shim_ready_quiet(copy, n, shim_work_wait_since(&before, copy, n, deadline, mask, NULL));
    } while (r == 0 && (deadline == SHIM_NEVER || shim_now() < deadline));
    if (r == 0) { /* a handshake may have ended with the time: one honest look */
        hide(copy, p, n);
        r = shim_ready_quiet(copy, n, (int)sys_poll(copy, n, 0));
    }
    r += r >= 0 ? mark_stored(copy, p, n) : 0;
    for (nfds_t i = 0; r >= 0 && i < n; i++) {
        p[i].revents = copy[i].revents;
    }
    if (bytes) {
        munmap(copy, bytes);
    }
    return r;
}

static nfds_t
from_sets(struct pollfd *p, int n, const fd_set *rd, const fd_set *wr, const fd_set *ex)
{
    nfds_t count = 0;
    for (int fd = 0; fd < n; fd++) {
        short ev = 0;
        ev |= rd && FD_ISSET(fd, rd) ? POLLIN : 0;
        ev |= wr && FD_ISSET(fd, wr) ? POLLOUT : 0;
        ev |= ex && FD_ISSET(fd, ex) ? POLLPRI : 0;
        if (ev) {
            p[count++] = (struct pollfd){fd, ev, 0};
        }
    }
    return count;
}

/* The kernel's own translation of events into sets [fs/select.c: POLLIN_SET and friends]. */
static int
to_sets(const struct pollfd *p, nfds_t count, fd_set *rd, fd_set *wr, fd_set *ex)
{
    static const struct { short want, got; } rule[3] = {
        {POLLIN, POLLIN | POLLHUP | POLLERR}, {POLLOUT, POLLOUT | POLLERR}, {POLLPRI, POLLPRI}};
    fd_set *set[3] = {rd, wr, ex};
    int bits = 0;
    for (nfds_t i = 0; i < count; i++) {
        if (p[i].revents & POLLNVAL) {
            return -EBADF;
        }
    }
    for (int k = 0; k < 3; k++) {
        for (nfds_t i = 0; set[k] && i < count; i++) {
            if (p[i].events & rule[k].want && p[i].revents & rule[k].got) {
                bits++;
            } else if (p[i].events & rule[k].want) {
                FD_CLR(p[i].fd, set[k]);
            }
        }
    }
    return bits;
}

int
shim_ready_select(int n, fd_set *rd, fd_set *wr, fd_set *ex, uint64_t deadline,
                  const sigset_t *mask)
{
    struct pollfd p[FD_SETSIZE];
    if (n < 0) {
        return -EINVAL;
    }
    nfds_t count = from_sets(p, n < FD_SETSIZE ? n : FD_SETSIZE, rd, wr, ex);
    int r = shim_ready_poll(p, count, deadline, mask);
    return r < 0 ? r : to_sets(p, count, rd, wr, ex);
}

/* Rounded up, so that a wait never ends early. */
static int
milliseconds_to(uint64_t deadline)
{
    uint64_t now = shim_now();
    if (deadline == SHIM_NEVER) {
        return -1;
    }
    return deadline > now ? (int)((deadline - now + 999999) / 1000000) : 0;
}

int
shim_ready_epoll(int epfd, struct epoll_event *ev, int max, uint64_t deadline, const sigset_t *mask)
{
    for (;;) {
        int n;
        if (shim_work_any()) {
            struct pollfd p = {epfd, POLLIN, 0};
            int r = shim_work_wait(&p, 1, deadline, mask, NULL);
            if (r < 0) {
                return r;
            }
            n = shim_real.epoll_wait(epfd, ev, max, 0);
        } else {
            n = shim_real.epoll_pwait(epfd, ev, max, milliseconds_to(deadline), mask);
        }
        if (n < 0) {
            return -errno;
        }
        n = shim_gate_strip(epfd, ev, n, max);
        if (n > 0 || (deadline != SHIM_NEVER && shim_now() >= deadline)) {
            return n;
        }
    }
}
