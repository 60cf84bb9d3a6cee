/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_urgent: see urgent.h.
 */
#include "shim/flow/urgent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include "shim/core/fdtab.h"
#include "shim/flow/audit.h"
#include "shim/flow/conn.h"
#include "shim/flow/io.h"
#include "shim/flow/io_int.h"
#include "shim/flow/mark.h"
#include "shim/flow/work.h"
#include "shim/real.h"

/* Under rx_lock, if it is open and encrypted by us. */
static int
enter(int fd, struct shim_slot *s, bool try)
{
    if (shim_slot_phase(s) < SHIM_PHASE_OPEN) {
        shim_conn_wake(fd);
        shim_work_drive_slot(s);
    }
    int r = shim_slot_phase(s) == SHIM_PHASE_OPEN ? shim_audit_rx(fd, s, try) : -EINVAL;
    if (r == 0 && shim_slot_phase(s) != SHIM_PHASE_OPEN) {
        shim_lock_put(&s->rx_lock);
        r = -EINVAL;
    }
    return r;
}

/* Never as a read, which is what a filter would make of it. */
static long
ask_kernel(int fd, int flags)
{
    uint8_t dummy;
    return sys_call6(SYS_recvfrom, fd, (long)&dummy, 1, flags, 0, 0);
}

/* The kernel says whether there is one, and which; then it is told that it was read. */
static ssize_t
read_locked(int fd, struct shim_slot *s, int flags, uint8_t *byte)
{
    shim_slot_ask(s);
    ssize_t r = ask_kernel(fd, MSG_OOB | MSG_PEEK | MSG_DONTWAIT);
    if (r == 1) {
        (void)shim_mark_settle(fd, s);
        r = shim_mark_byte(fd, s, byte) ? 1 : -EAGAIN;
    }
    if (r == 1 && !(flags & MSG_PEEK)) {
        (void)ask_kernel(fd, MSG_OOB | MSG_DONTWAIT);
    }
    return r;
}

ssize_t
shim_urgent_read(int fd, struct shim_iov *room, int flags)
{
    struct shim_slot *s = shim_conn_slot(fd);
    uint8_t byte = 0;
    if (!s) {
        return SHIM_PASS;
    }
    ssize_t r = enter(fd, s, false);
    if (r < 0) {
        return r;
    }
    r = read_locked(fd, s, flags, &byte);
    shim_lock_put(&s->rx_lock);
    if (r == -ENOTSOCK) {
        shim_conn_stale(fd);
        return SHIM_PASS;
    }
    if (r == 1 && room->left > 0) {
        shim_iov_put(room, &byte, 1);
        return 1;
    }
    return r < 0 ? r : 0;
}

/* What comes before the last byte is data as any other. */
ssize_t
shim_urgent_write(int fd, const struct iovec *iov, int cnt, int flags)
{
    const struct shim_slot *s = shim_conn_slot(fd);
    ssize_t done = 0;
    flags &= ~MSG_OOB;
    while (cnt > 0 && iov[cnt - 1].iov_len == 0) {
        cnt--;
    }
    if (cnt == 0) {
        return shim_io_write(fd, iov, 0, flags);
    }
    if (s && shim_slot_phase(s) == SHIM_PHASE_KERNEL) {
        return -EOPNOTSUPP; /* as the kernel's TLS says */
    }
    for (int i = 0; i < cnt; i++) {
        struct iovec part = {iov[i].iov_base, iov[i].iov_len - (i == cnt - 1)};
        ssize_t r = part.iov_len ? shim_io_write(fd, &part, 1, flags | MSG_MORE) : 0;
        done += r > 0 ? r : 0;
        if (r < 0 || (size_t)r < part.iov_len) {
            return done ? done : r;
        }
    }
    struct iovec last = {(uint8_t *)iov[cnt - 1].iov_base + iov[cnt - 1].iov_len - 1, 1};
    ssize_t r = shim_io_write(fd, &last, 1, flags | SHIM_IO_URGENT);
    done += r > 0 ? r : 0;
    return done ? done : r;
}

int
shim_urgent_at_mark(int fd)
{
    struct shim_slot *s = shim_conn_slot(fd);
    if (!s) {
        return SHIM_PASS;
    }
    if (enter(fd, s, false) != 0) {
        return 0;
    }
    bool at = shim_mark_settle(fd, s) && shim_mark_is_here(fd, s);
    shim_lock_put(&s->rx_lock);
    return at;
}

void
shim_urgent_ask(int fd)
{
    struct shim_slot *s = shim_fd_is_mesh(fd) ? shim_conn_slot(fd) : NULL;
    if (s) {
        shim_slot_ask(s);
    }
}

bool
shim_urgent_hides(int fd)
{
    struct shim_slot *s = shim_fd_kind(fd) == SHIM_FD_CONN ? shim_conn_slot(fd) : NULL;
    struct pollfd p = {fd, POLLIN, 0};
    if (!s || enter(fd, s, true) != 0) {
        return false; /* whoever reads there finds out */
    }
    bool ours = shim_mark_settle(fd, s);
    shim_lock_put(&s->rx_lock);
    return ours && sys_poll(&p, 1, 0) == 0;
}

bool
shim_urgent_interrupts(int fd, struct shim_slot *s)
{
    uint64_t blocked = 0;
    return atomic_load(&s->urgent) & SHIM_URGENT_ASKED && !shim_io_restarts_after(SIGURG) &&
           sys_fcntl(fd, F_GETOWN, 0) != 0 &&
           sys_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, &blocked, sizeof(blocked)) == 0 &&
           !(blocked & UINT64_C(1) << (SIGURG - 1)) && shim_urgent_hides(fd);
}
