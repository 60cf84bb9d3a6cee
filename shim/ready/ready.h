/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_ready: waiting calls while connections are under way [DESIGN D3, D11]. In steady state the
 * kernel tells the truth and none of this runs: sym/ asks shim_work_any() and shim_gate_any().
 *
 * Results as the system call's, with -errno. Timeouts: deadline in CLOCK_MONOTONIC ns, SHIM_NEVER.
 */
#ifndef SHIM_READY_READY_H
#define SHIM_READY_READY_H

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>

int shim_ready_poll(struct pollfd *p, nfds_t n, uint64_t deadline, const sigset_t *mask);
int shim_ready_select(int n, fd_set *rd, fd_set *wr, fd_set *ex, uint64_t deadline,
                      const sigset_t *mask);
int shim_ready_epoll(int epfd, struct epoll_event *ev, int max, uint64_t deadline,
                     const sigset_t *mask);
/* What the kernel found: what is readable only because of an urgent byte [flow/mark.h] is not. The count that is left. */
int shim_ready_quiet(struct pollfd *p, nfds_t n, int r);
int shim_ready_quiet_sets(int n, fd_set *rd, const fd_set *ex, int r);
uint64_t shim_ready_deadline_ms(int ms);
uint64_t shim_ready_deadline(const struct timespec *ts); /* NULL: never */

/* Registrations in epoll sets of sockets that are or may become gated. */
extern _Atomic int shim_gate_count;
static inline bool
shim_gate_any(void)
{
    return __builtin_expect(atomic_load_explicit(&shim_gate_count, memory_order_relaxed) > 0, 0);
}
/* How many there have ever been: the answer to a wait that began without any may hold events of ours if this has moved,
 * though there are none left. */
extern _Atomic uint32_t shim_gate_made;
static inline uint32_t
shim_gate_seen(void)
{
    return atomic_load_explicit(&shim_gate_made, memory_order_relaxed);
}
void shim_gate_init(void);
/* epoll_ctl() on a TCP socket; 0 or -errno. */
int shim_gate_ctl(int epfd, int op, int fd, struct epoll_event *ev);
/* fd may have become gated, or not: brings its registrations in line. */
void shim_gate_update(int fd);
/* fd (a socket or an epoll set) is closed. */
void shim_gate_forget(int fd);
/* Replaces our events by the program's, or takes them out; the new count, at most max. */
int shim_gate_strip(int epfd, struct epoll_event *ev, int n, int max);
void shim_gate_forked(void);

#endif
