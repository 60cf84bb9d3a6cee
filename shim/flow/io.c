/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_io: see io.h.
 *
 * Sleeping: always in the kernel and without a lock. A reader sleeps in a one-byte MSG_PEEK, which
 * has exactly the bare call's rules (O_NONBLOCK, SO_RCVTIMEO, SA_RESTART, cancellation). For a
 * writer there is no such call; it polls, and decides after a signal by what handlers there are.
 */
#include "shim/flow/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "shim/core/fdtab.h"
#include "shim/core/stat.h"
#include "shim/flow/hs.h"
#include "shim/flow/ident.h"
#include "shim/flow/rx.h"
#include "shim/flow/tx.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/real.h"

static bool
is_nonblocking(int fd, int flags)
{
    long fl = flags & MSG_DONTWAIT ? O_NONBLOCK : sys_fcntl(fd, F_GETFL, 0);
    return fl >= 0 && (fl & O_NONBLOCK);
}

/* The kernel's layout, for asking about handlers without libc's sigaction (it may be hooked). */
struct kernel_sigaction {
    void *handler;
    unsigned long flags;
    void *restorer;
    unsigned long mask;
};

bool
shim_io_restarts(void)
{
    for (int sig = 1; sig < 65; sig++) {
        struct kernel_sigaction sa = {0};
        if (sys_call(SYS_rt_sigaction, sig, 0, &sa, 8) == 0 && (uintptr_t)sa.handler > 1 &&
            !(sa.flags & SA_RESTART)) {
            return false;
        }
    }
    return true;
}

/* When a call on fd must give up: SO_RCVTIMEO or SO_SNDTIMEO from now. */
static uint64_t
timeout_of(int fd, int opt)
{
    struct timeval tv = {0};
    socklen_t len = sizeof(tv);
    if (sys_getsockopt(fd, SOL_SOCKET, opt, &tv, &len) != 0 || (!tv.tv_sec && !tv.tv_usec)) {
        return SHIM_NEVER;
    }
    return shim_now() + (uint64_t)tv.tv_sec * 1000000000 + (uint64_t)tv.tv_usec * 1000;
}

/* Sleeps until fd has events, driving our work. 0, -EAGAIN (timeout), -EINTR, -errno. */
static int
wait_events(int fd, short events, uint64_t deadline, const struct shim_slot *until)
{
    struct pollfd p = {fd, events, 0};
    for (;;) {
        int r = shim_work_wait(&p, events ? 1 : 0, deadline, NULL, until);
        if (r == -EINTR && shim_io_restarts()) {
            continue;
        }
        if (r == 0) {
            return deadline != SHIM_NEVER && shim_now() >= deadline ? -EAGAIN : 0;
        }
        return r < 0 ? r : 0;
    }
}

static int
wait_readable(int fd)
{
    if (shim_work_any()) {
        return is_nonblocking(fd, 0)
                   ? -EAGAIN
                   : wait_events(fd, POLLIN, timeout_of(fd, SO_RCVTIMEO), NULL);
    }
    uint8_t b;
    ssize_t r = shim_real.recv(fd, &b, 1, MSG_PEEK);
    return r < 0 ? -errno : 0;
}

/* A call that needs TLS waits for it. 0: the phase has changed, look again. */
static int
await_open(int fd, struct shim_slot *s, int flags, int timeo)
{
    shim_work_wake(s);
    shim_work_drive();
    if (shim_slot_phase(s) >= SHIM_PHASE_OPEN || atomic_load(&s->cookie) == 0) {
        return 0;
    }
    return is_nonblocking(fd, flags) ? -EAGAIN : wait_events(fd, 0, timeout_of(fd, timeo), s);
}

static ssize_t
read_failed(struct shim_slot *s)
{
    return -atomic_exchange(&s->fail_errno, 0); /* told once, then the end, as TCP does */
}

static ssize_t
take(int fd, struct shim_slot *s, struct shim_iov *room, int flags)
{
    bool died = false;
    if (!shim_lock_get(&s->rx_lock, &died)) {
        return -EAGAIN;
    }
    ssize_t r = -EAGAIN;
    if (died) { /* what it consumed may not be recorded: never guess */
        atomic_store(&s->err, MESH_E_HOLDER_DIED);
        atomic_fetch_or(&s->flags, SHIM_SF_RX_DEAD);
        shim_stat_err(MESH_E_HOLDER_DIED);
    }
    if (shim_slot_phase(s) == SHIM_PHASE_OPEN) { /* still, now that the lock is ours */
        r = flags & MSG_PEEK ? shim_rx_peek(fd, s, room) : shim_rx_take(fd, s, room);
    }
    shim_lock_put(&s->rx_lock);
    return r;
}

/* recv() of no bytes: waits for some, takes none. */
static ssize_t
read_nothing(int fd, int flags)
{
    uint8_t b;
    struct iovec v = {&b, 1};
    ssize_t r = shim_io_read(fd, &v, 1, (flags & ~MSG_TRUNC) | MSG_PEEK);
    return r > 0 ? 0 : r;
}

/* The kernel said readable, and it was only the head of a record. From a peer on this host the rest
 * is on its way already; programs that never expect EAGAIN after an event deserve that moment. */
#define REST_MS 2
static bool
rest_is_near(int fd, const struct shim_slot *s)
{
    struct pollfd p = {fd, POLLIN, 0};
    return s->rx_state == SHIM_RX_PARTIAL && mesh_addr_is_loopback(&s->peer) &&
           sys_poll(&p, 1, REST_MS) > 0;
}

static size_t
sum(const struct iovec *iov, int cnt)
{
    size_t n = 0;
    for (int i = 0; i < cnt; i++) {
        n += iov[i].iov_len;
    }
    return n;
}

ssize_t
shim_io_read(int fd, const struct iovec *iov, int cnt, int flags)
{
    struct shim_iov room;
    size_t got = 0;
    int r = shim_iov_init(&room, iov, cnt);
    bool drop = flags & MSG_TRUNC; /* counted, not copied; the buffer may be NULL [tcp(7)] */
    if (r < 0 && !(drop && r == -EFAULT)) {
        return r;
    }
    if (flags & MSG_OOB) {
        return -EINVAL; /* as TCP says when there is no urgent data */
    }
    if (drop) {
        room = (struct shim_iov){NULL, 0, 0, sum(iov, cnt)};
    }
    if (room.left == 0 && !(flags & SHIM_IO_FILE)) {
        return read_nothing(fd, flags);
    }
    flags &= ~SHIM_IO_FILE;
    for (;;) {
        struct shim_slot *s = shim_conn_slot(fd);
        if (!s) {
            return got ? (ssize_t)got : SHIM_PASS;
        }
        enum shim_phase phase = shim_slot_phase(s);
        ssize_t n;
        if (phase < SHIM_PHASE_OPEN && shim_slot_has(s, SHIM_SF_RX_SHUT)) {
            n = 0;
        } else if (phase < SHIM_PHASE_OPEN) {
            n = await_open(fd, s, flags, SO_RCVTIMEO);
            if (n == 0) {
                continue;
            }
        } else if (phase == SHIM_PHASE_FAILED) {
            n = read_failed(s);
        } else if (room.left == 0) {
            return (ssize_t)got;
        } else {
            n = take(fd, s, &room, flags);
            got += n > 0 ? (size_t)n : 0;
            if (n == -ENOTSOCK) {
                shim_conn_stale(fd);
                return SHIM_PASS;
            }
        }
        if (n == -EAGAIN && phase == SHIM_PHASE_OPEN && rest_is_near(fd, s)) {
            n = take(fd, s, &room, flags);
            got += n > 0 ? (size_t)n : 0;
        }
        bool enough = n > 0 && (room.left == 0 || !(flags & MSG_WAITALL) || flags & MSG_PEEK);
        if (n == 0 || enough || (n < 0 && n != -EAGAIN)) {
            return got ? (ssize_t)got : n;
        }
        if (phase < SHIM_PHASE_OPEN || flags & MSG_DONTWAIT) {
            return got ? (ssize_t)got : -EAGAIN;
        }
        r = wait_readable(fd);
        if (r < 0) {
            return got ? (ssize_t)got : r;
        }
    }
}

/* How long a blocking write may wait for TLS before its bytes are buffered [DESIGN D11]. */
static uint64_t
early_wait(const struct shim_slot *s)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    if (shim_slot_has(s, SHIM_SF_OWN)) {
        return 0;
    }
    mesh_snap_settings(&snap, &set);
    return shim_now() + (uint64_t)set.accept_grace_ms * 1000000;
}

static ssize_t
buffer_early(struct shim_slot *s, const struct shim_iov *data)
{
    ssize_t n = 0;
    if (!shim_work_enter()) {
        return -EAGAIN;
    }
    struct shim_work *w = shim_work_of(s);
    if (!w || w->abandoned) {
        n = -EAGAIN;
    } else if (shim_slot_phase(s) == SHIM_PHASE_HANDSHAKE) {
        n = (ssize_t)shim_hs_early(w, data);
        n = n ? n : -EAGAIN;
    }
    shim_work_leave();
    return n;
}

/* A write before TLS is up. Bytes taken, 0: look again, -EAGAIN, -errno. */
static ssize_t
write_early(int fd, struct shim_slot *s, const struct shim_iov *data, int flags)
{
    bool nonblock = is_nonblocking(fd, flags);
    shim_work_wake(s);
    shim_work_drive();
    enum shim_phase phase = shim_slot_phase(s);
    if (phase >= SHIM_PHASE_OPEN || atomic_load(&s->cookie) == 0) {
        return 0;
    }
    if (phase == SHIM_PHASE_CONNECTING) {
        return nonblock ? -EAGAIN : wait_events(fd, 0, timeout_of(fd, SO_SNDTIMEO), s);
    }
    if (!nonblock && !shim_slot_has(s, SHIM_SF_EARLY)) {
        int r = wait_events(fd, 0, early_wait(s), s);
        if (r != -EAGAIN) {
            return r;
        }
    }
    ssize_t n = buffer_early(s, data);
    if (n == -EAGAIN && !nonblock) {
        return wait_events(fd, 0, timeout_of(fd, SO_SNDTIMEO), s);
    }
    return n;
}

static ssize_t
put(int fd, struct shim_slot *s, struct shim_iov *data, int flags)
{
    bool died = false, tail;
    ssize_t r = -EAGAIN;
    if (shim_slot_has(s, SHIM_SF_EARLY)) {
        shim_work_drive();
        if (shim_slot_has(s, SHIM_SF_EARLY)) {
            return -EAGAIN; /* what was written first goes first */
        }
    }
    if (!shim_lock_get(&s->tx_lock, &died)) {
        return -EAGAIN;
    }
    if (died) {
        atomic_fetch_or(&s->flags, SHIM_SF_TX_DEAD);
        shim_stat_err(MESH_E_HOLDER_DIED);
    }
    if (shim_slot_phase(s) == SHIM_PHASE_OPEN) {
        r = shim_tx_put(fd, s, data, flags & MSG_MORE);
    }
    tail = s->tx_spill != 0;
    shim_lock_put(&s->tx_lock);
    if (tail) {
        shim_work_tail(s, fd);
    }
    return r;
}

static ssize_t
broken_pipe(int flags)
{
    if (!(flags & MSG_NOSIGNAL)) {
        (void)sys_call(SYS_tgkill, sys_getpid(), sys_gettid(), SIGPIPE, 0);
    }
    return -EPIPE;
}

/* One attempt: bytes taken, 0: look again, -EAGAIN, -errno. */
static ssize_t
write_some(int fd, struct shim_slot *s, struct shim_iov *data, int flags)
{
    if (shim_slot_has(s, SHIM_SF_TX_SHUT | SHIM_SF_FIN_DUE)) {
        return broken_pipe(flags);
    }
    switch (shim_slot_phase(s)) {
    case SHIM_PHASE_FAILED: {
        ssize_t r = read_failed(s);
        return r ? r : broken_pipe(flags);
    }
    case SHIM_PHASE_OPEN: {
        ssize_t r = data->left ? put(fd, s, data, flags) : sys_send(fd, "", 0, MSG_DONTWAIT);
        return r == -EPIPE ? broken_pipe(flags) : r;
    }
    case SHIM_PHASE_FREE:
    case SHIM_PHASE_CONNECTING:
    case SHIM_PHASE_HANDSHAKE:
        break;
    }
    ssize_t r = write_early(fd, s, data, flags);
    if (r > 0) {
        shim_iov_skip(data, (size_t)r);
    }
    return r;
}

static bool
tail_pending(const struct shim_slot *s)
{
    return s->tx_spill != 0 && shim_slot_phase(s) == SHIM_PHASE_OPEN;
}

ssize_t
shim_io_write(int fd, const struct iovec *iov, int cnt, int flags)
{
    struct shim_iov data;
    int r = shim_iov_init(&data, iov, cnt);
    size_t total = data.left;
    uint64_t deadline = 0;
    if (r < 0) {
        return r;
    }
    if (flags & MSG_OOB) {
        return -EOPNOTSUPP; /* an urgent byte would tear the TLS stream */
    }
    for (;;) {
        struct shim_slot *s = shim_conn_slot(fd);
        if (!s) {
            return data.left < total ? (ssize_t)(total - data.left) : SHIM_PASS;
        }
        ssize_t n = write_some(fd, s, &data, flags);
        size_t done = total - data.left;
        if (n == -ENOTSOCK) {
            shim_conn_stale(fd);
            return SHIM_PASS;
        }
        if (n < 0 && n != -EAGAIN) {
            return done ? (ssize_t)done : n;
        }
        if (data.left == 0 && !tail_pending(s)) {
            return (ssize_t)done;
        }
        if (n >= 0 && data.left && !tail_pending(s)) {
            continue;
        }
        if (is_nonblocking(fd, flags)) {
            return done ? (ssize_t)done : -EAGAIN;
        }
        deadline = deadline ? deadline : timeout_of(fd, SO_SNDTIMEO);
        r = wait_events(fd, POLLOUT, deadline, NULL);
        if (r < 0) {
            done = total - data.left;
            return done ? (ssize_t)done : r;
        }
    }
}

/* sendfile: in chunks through a scratch buffer; the file's position or *off moves by what went. */
ssize_t
shim_io_sendfile(int fd, int in, off_t *off, size_t n)
{
    size_t total = 0;
    off_t pos = off ? *off : 0;
    struct stat st;
    if (sys_call(SYS_fstat, in, &st, 0, 0) != 0) {
        return -EBADF;
    }
    if (off && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode))) {
        return -ESPIPE;
    }
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        return -EINVAL; /* as for what cannot be mapped [sendfile(2)] */
    }
    uint8_t *buf = shim_scratch_get();
    ssize_t r = buf ? 0 : -ENOMEM;
    while (r >= 0 && total < n) {
        size_t want = n - total < 4 * SHIM_REC_PLAIN_MAX ? n - total : 4 * SHIM_REC_PLAIN_MAX;
        long got = off ? sys_call(SYS_pread64, in, buf, want, pos)
                       : sys_call(SYS_read, in, buf, want, 0);
        if (got <= 0) {
            r = total ? 0 : got;
            break;
        }
        struct iovec v = {buf, (size_t)got};
        r = shim_io_write(fd, &v, 1, 0);
        size_t went = r > 0 ? (size_t)r : 0;
        if (!off && went < (size_t)got) { /* give back what was read and not sent */
            (void)sys_call(SYS_lseek, in, (long)went - got, SEEK_CUR, 0);
        }
        pos += (off_t)went;
        total += went;
        if (went < (size_t)got) {
            break;
        }
    }
    if (buf) {
        shim_scratch_put(buf);
    }
    if (off && total) {
        *off = pos;
    }
    return total ? (ssize_t)total : r;
}

int
shim_io_available(int fd)
{
    struct shim_slot *s = shim_conn_slot(fd);
    if (!s) {
        return SHIM_PASS;
    }
    shim_work_drive();
    if (shim_slot_phase(s) != SHIM_PHASE_OPEN || !shim_lock_get(&s->rx_lock, NULL)) {
        return 0;
    }
    ssize_t n = shim_rx_available(fd, s);
    shim_lock_put(&s->rx_lock);
    return n > INT_MAX ? INT_MAX : (int)n;
}

int
shim_io_before(int fd, short events)
{
    if (is_nonblocking(fd, 0)) {
        shim_work_drive();
        return 0;
    }
    while (shim_work_any()) {
        struct pollfd p = {fd, events, 0};
        int r = shim_work_wait(&p, 1, shim_now() + 100000000, NULL, NULL);
        if (r > 0 || (r < 0 && r != -EINTR)) {
            return 0;
        }
        if (r == -EINTR && !shim_io_restarts()) {
            return r;
        }
    }
    return 0;
}
