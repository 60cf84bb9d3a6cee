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
#include <limits.h>

#include "shim/core/fdtab.h"
#include "shim/core/stat.h"
#include "shim/flow/audit.h"
#include "shim/flow/early.h"
#include "shim/flow/ident.h"
#include "shim/flow/io_int.h"
#include "shim/flow/ktls.h"
#include "shim/flow/plain.h"
#include "shim/flow/rx.h"
#include "shim/flow/shape.h"
#include "shim/flow/tx.h"
#include "shim/flow/urgent.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/real.h"

/* [count.c] Announced first; then, if SO_PEEK_OFF may be set, through the lock of who set it. Not
 * otherwise: it may be held by a close() that means to wake this very reader. */
static void
sleeper_add(int fd, struct shim_slot *s)
{
    atomic_fetch_add(&s->rx_sleepers, 1);
    if (atomic_load(&s->rx_offset) && shim_audit_rx(fd, s, false) == 0) {
        shim_lock_put(&s->rx_lock);
    }
}

/* Unless the slot has become another connection's meanwhile. */
static void
sleeper_drop(struct shim_slot *s, uint32_t generation)
{
    uint32_t seen = atomic_load(&s->rx_sleepers);
    while (seen > 0 && atomic_load(&s->generation) == generation &&
           !atomic_compare_exchange_weak(&s->rx_sleepers, &seen, seen - 1)) {
    }
}

__attribute__((cold)) static int
wait_readable(int fd, struct shim_slot *s)
{
    if (shim_work_any() || shim_filter_any()) {
        if (shim_io_is_nonblocking(fd, 0)) {
            return -EAGAIN;
        }
        int r = shim_io_wait(fd, POLLIN, shim_io_timeout_of(fd, SO_RCVTIMEO), NULL);
        return r == -EPERM ? 0 : r; /* the program may not poll: then the reading itself waits */
    }
    uint8_t b;
    uint32_t generation = atomic_load(&s->generation);
    sleeper_add(fd, s);
    ssize_t r = shim_real.recv(fd, &b, 1, MSG_PEEK);
    int e = r < 0 && errno != EIO ? -errno : 0; /* EIO: the kernel holds a control record */
    sleeper_drop(s, generation);
    return e == 0 && atomic_load(&s->urgent) && shim_urgent_interrupts(fd, s) ? -EINTR : e;
}

/* A call that needs TLS waits for it. 0: the phase has changed, look again. */
__attribute__((cold)) static int
await_open(int fd, struct shim_slot *s, int flags, int timeo)
{
    shim_conn_wake(fd);
    shim_work_drive_slot(s);
    if (shim_slot_phase(s) >= SHIM_PHASE_OPEN || atomic_load(&s->cookie) == 0 ||
        shim_conn_is_orphan(s)) {
        return 0;
    }
    return shim_io_is_nonblocking(fd, flags)
               ? -EAGAIN
               : shim_io_wait(fd, 0, shim_io_timeout_of(fd, timeo), s);
}

__attribute__((cold)) static ssize_t
read_failed(struct shim_slot *s)
{
    return -shim_slot_errno(atomic_exchange(&s->fail_errno, 0)); /* told once, then the end, as TCP does */
}

/* While the process ends: a peer that has got our close_notify may end, too. Bare TCP's FIN comes after
 * the last instruction of any thread; none may see the answer to it, and end by itself. */
#define NAP_MS 10 /* until then; it may call again at once */
static ssize_t
unless_over(ssize_t r)
{
    if (r > 0 || r == -EAGAIN || !shim_conn_is_over()) {
        return r;
    }
    (void)sys_poll(NULL, 0, NAP_MS);
    return -EAGAIN;
}

/* The end, or an error of which work in the background heard first [flow/early.h]. */
__attribute__((cold)) static ssize_t
ended(struct shim_slot *s, ssize_t r)
{
    int no = shim_slot_errno(atomic_exchange(&s->so_error, 0));
    return no ? -no : r;
}

__attribute__((hot)) static ssize_t
take(int fd, struct shim_slot *s, struct shim_iov *room, int flags)
{
    ssize_t r = shim_audit_rx(fd, s, false);
    if (r < 0) {
        return r;
    }
    r = -EAGAIN;
    if (shim_slot_phase(s) == SHIM_PHASE_OPEN) { /* still, now that the lock is ours */
        r = flags & MSG_PEEK ? shim_rx_peek(fd, s, room) : shim_rx_take(fd, s, room);
    } else if (shim_slot_phase(s) == SHIM_PHASE_KERNEL) {
        r = flags & MSG_PEEK ? shim_ktls_peek(fd, s, room) : shim_ktls_take(fd, s, room);
    }
    shim_lock_put(&s->rx_lock);
    return unless_over(r ? r : ended(s, r));
}

/* recv() of no bytes: waits for some, takes none. */
__attribute__((cold)) static ssize_t
read_nothing(int fd, int flags)
{
    uint8_t b;
    struct iovec v = {&b, 1};
    ssize_t r = shim_io_read(fd, &v, 1, (flags & ~MSG_TRUNC) | MSG_PEEK, NULL);
    return r > 0 ? 0 : r;
}

/* The kernel said readable, and it was only the head of a record. From a peer on this host the rest
 * is on its way already, or comes as soon as the sender runs; programs that never expect EAGAIN after an
 * event (wrk) deserve that moment. On a busy machine it takes some turns of the scheduler: with 2 ms there,
 * 4 of some thousand transfers failed. */
#define REST_MS 20
__attribute__((cold)) static bool
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

/* Where the bytes go; -errno when the call cannot be; 1: an urgent one. */
static int
read_room(struct shim_iov *room, const struct iovec *iov, int cnt, int flags, struct shim_beside *beside)
{
    int r = shim_iov_init(room, iov, cnt);
    bool drop = flags & MSG_TRUNC; /* counted, not copied; the buffer may be NULL [tcp(7)] */
    if (r < 0 && !(drop && r == -EFAULT)) {
        return r;
    }
    if (drop) {
        *room = (struct shim_iov){.left = sum(iov, cnt)};
    }
    room->beside = beside;
    return flags & MSG_OOB ? 1 : 0;
}

__attribute__((hot)) ssize_t
shim_io_read(int fd, const struct iovec *iov, int cnt, int flags, struct shim_beside *beside)
{
    struct shim_iov room;
    size_t got = 0;
    int r = read_room(&room, iov, cnt, flags, beside);
    if (r != 0) {
        return r < 0 ? r : shim_urgent_read(fd, &room, flags);
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
        bool enough = n > 0 && (room.left == 0 || !(flags & MSG_WAITALL) || flags & MSG_PEEK ||
                                shim_slot_has(s, SHIM_SF_MARK)); /* where reading stops */
        if (n == 0 || enough || (n < 0 && n != -EAGAIN)) {
            return got ? (ssize_t)got : n;
        }
        if (phase < SHIM_PHASE_OPEN || flags & MSG_DONTWAIT) {
            return got ? (ssize_t)got : -EAGAIN;
        }
        r = wait_readable(fd, s);
        if (r < 0) {
            shim_stat_conn_broke(s, r);
            if (r == -ECONNRESET && shim_conn_slot(fd) == s) {
                shim_rx_reset(s);
            }
            r = (int)shim_ktls_failed(fd, s, r);
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
buffer_early(struct shim_slot *s, const struct shim_iov *data, int flags)
{
    ssize_t n = 0;
    if (!shim_work_enter()) {
        return -EAGAIN;
    }
    struct shim_work *w = shim_work_of(s);
    if (shim_slot_phase(s) == SHIM_PHASE_HANDSHAKE) { /* else another thread has just finished it */
        if (w && w->handed) {
            n = -EPIPE; /* a destructor after ours; no signal: the exit status is the program's */
        } else {
            n = w && !w->abandoned ? (ssize_t)shim_early_put(w, data) : 0;
            if (n > 0 && flags & SHIM_IO_URGENT) {
                w->early_urgent = w->early_len;
            }
        }
        n = n ? n : -EAGAIN;
    }
    shim_work_leave();
    return n;
}

/* A write before TLS is up. Bytes taken, 0: look again, -EAGAIN, -errno. */
__attribute__((cold)) static ssize_t
write_early(int fd, struct shim_slot *s, const struct shim_iov *data, int flags)
{
    bool nonblock = shim_io_is_nonblocking(fd, flags);
    shim_conn_wake(fd);
    shim_work_drive_slot(s);
    enum shim_phase phase = shim_slot_phase(s);
    if (phase >= SHIM_PHASE_OPEN || atomic_load(&s->cookie) == 0) {
        return 0;
    }
    if (phase == SHIM_PHASE_CONNECTING) {
        return nonblock ? -EAGAIN : shim_io_wait(fd, 0, shim_io_timeout_of(fd, SO_SNDTIMEO), s);
    }
    if (!nonblock && !shim_slot_has(s, SHIM_SF_EARLY)) {
        int r = shim_io_wait(fd, 0, early_wait(s), s);
        if (r != -EAGAIN) {
            return r;
        }
    }
    ssize_t n = buffer_early(s, data, flags);
    if (n == -EAGAIN && !nonblock) {
        return shim_io_wait(fd, 0, shim_io_timeout_of(fd, SO_SNDTIMEO), s);
    }
    return n;
}

static inline __attribute__((always_inline)) ssize_t
put(int fd, struct shim_slot *s, struct shim_iov *data, int flags)
{
    if (shim_slot_has(s, SHIM_SF_EARLY)) {
        shim_work_drive_slot(s);
        if (shim_slot_has(s, SHIM_SF_EARLY)) {
            return -EAGAIN; /* what was written first goes first */
        }
    }
    ssize_t r = shim_audit_tx(fd, s, false);
    if (r < 0) {
        return r;
    }
    r = -EAGAIN;
    if (shim_slot_phase(s) == SHIM_PHASE_OPEN) {
        r = __builtin_expect(flags & SHIM_IO_URGENT, 0) ? shim_tx_urgent(fd, s, data)
                                                        : shim_tx_put(fd, s, data, flags & MSG_MORE);
    } else if (shim_slot_phase(s) == SHIM_PHASE_KERNEL) {
        r = shim_ktls_put(fd, s, data);
    }
    bool tail = s->tx_spill != 0;
    shim_lock_put(&s->tx_lock);
    if (tail) {
        shim_work_tail(s, fd);
    }
    return r;
}

/* While the process ends nothing is broken: what a thread writes after the end is as what it would have
 * written had it lived longer. */
__attribute__((cold)) static ssize_t
broken_pipe(int fd, struct shim_iov *data, int flags)
{
    if (shim_conn_is_over()) {
        (void)sys_poll(NULL, 0, NAP_MS);
        shim_iov_skip(data, data->left);
        return 0;
    }
    if (!(flags & MSG_NOSIGNAL) &&
        sys_call(SYS_tgkill, sys_getpid(), sys_gettid(), SIGPIPE, 0) == -EPERM) {
        /* By a filter: then the kernel does it. In its own TLS only for a byte, which goes nowhere. */
        struct shim_slot *s = shim_conn_slot(fd);
        bool kernel = s && shim_slot_phase(s) == SHIM_PHASE_KERNEL && !shim_slot_has(s, SHIM_SF_FIN_DUE);
        (void)sys_call(SYS_write, fd, "", kernel, 0);
    }
    return -EPIPE;
}

/* To a client that went away before there was TLS: what is written to an end first is taken [tcp(7)]. */
__attribute__((cold)) static ssize_t
write_to_nobody(int fd, struct shim_slot *s, struct shim_iov *data, int flags)
{
    size_t n = data->left;
    if (!shim_slot_has(s, SHIM_SF_SERVER) || atomic_load(&s->err) != MESH_OK ||
        atomic_fetch_or(&s->flags, SHIM_SF_TX_DEAD) & SHIM_SF_TX_DEAD) {
        return broken_pipe(fd, data, flags);
    }
    shim_iov_skip(data, n);
    return (ssize_t)n;
}

/* One attempt: bytes taken, 0: look again, -EAGAIN, -errno. */
static inline __attribute__((always_inline)) ssize_t
write_unshaped(int fd, struct shim_slot *s, struct shim_iov *data, int flags)
{
    switch (shim_slot_phase(s)) {
    case SHIM_PHASE_FAILED: {
        if (shim_slot_has(s, SHIM_SF_SILENT) && shim_plain_late(fd, s, !shim_io_is_nonblocking(fd, flags))) {
            return 0;
        }
        ssize_t r = read_failed(s);
        return r ? r : write_to_nobody(fd, s, data, flags);
    }
    case SHIM_PHASE_OPEN:
    case SHIM_PHASE_KERNEL: {
        bool ours = data->left || shim_slot_phase(s) == SHIM_PHASE_KERNEL;
        ssize_t r = ours ? put(fd, s, data, flags) : sys_send(fd, "", 0, MSG_DONTWAIT);
        if (r == -ECONNRESET) {
            shim_rx_reset(s);
        }
        r = r == -EPIPE ? ended(s, r) : r;
        return r == -EPIPE ? broken_pipe(fd, data, flags) : r;
    }
    case SHIM_PHASE_FREE:
    case SHIM_PHASE_CONNECTING:
    case SHIM_PHASE_HANDSHAKE:
    case SHIM_PHASE_FRESH:
        break;
    }
    ssize_t r = write_early(fd, s, data, flags);
    if (r > 0) {
        shim_iov_skip(data, (size_t)r);
    }
    return r;
}

static __attribute__((noinline, cold)) ssize_t
write_shaped(int fd, struct shim_slot *s, struct shim_iov *data, int flags)
{
    size_t most = shim_shape_room(s), before = data->left;
    size_t cut = most < before ? before - most : 0;
    data->left -= cut;
    ssize_t r = write_unshaped(fd, s, data, flags);
    data->left += cut;
    shim_shape_wrote(fd, s, before - data->left);
    return r;
}

static ssize_t
write_some(int fd, struct shim_slot *s, struct shim_iov *data, int flags)
{
    if (shim_slot_has(s, SHIM_SF_TX_SHUT | SHIM_SF_FIN_DUE | SHIM_SF_SHAPED)) {
        return shim_slot_has(s, SHIM_SF_TX_SHUT | SHIM_SF_FIN_DUE) ? broken_pipe(fd, data, flags)
                                                                   : write_shaped(fd, s, data, flags);
    }
    return write_unshaped(fd, s, data, flags);
}

static bool
tail_pending(const struct shim_slot *s)
{
    return s->tx_spill != 0 && shim_slot_phase(s) == SHIM_PHASE_OPEN;
}

__attribute__((hot)) ssize_t
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
        return shim_urgent_write(fd, iov, cnt, flags);
    }
    if (total > SHIM_IO_SLICE && shim_io_is_sliced(fd, flags)) {
        data.left = total = SHIM_IO_SLICE;
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
            shim_stat_conn_broke(s, n);
            return done ? (ssize_t)done : n;
        }
        if (data.left == 0 && !tail_pending(s)) {
            return (ssize_t)done;
        }
        if (n >= 0 && data.left && !tail_pending(s)) {
            if (done && shim_slot_has(s, SHIM_SF_SHAPED) && shim_shape_cuts(fd, s)) {
                return (ssize_t)done;
            }
            continue;
        }
        if (shim_io_is_nonblocking(fd, flags)) {
            atomic_fetch_or(&s->watched, SHIM_WATCHED_LACKS);
            return done ? (ssize_t)done : -EAGAIN;
        }
        deadline = deadline ? deadline : shim_io_timeout_of(fd, SO_SNDTIMEO);
        r = shim_io_wait(fd, POLLOUT, deadline, NULL);
        if (r < 0) {
            done = total - data.left;
            return done ? (ssize_t)done : r;
        }
    }
}

int
shim_io_available(int fd)
{
    struct shim_slot *s = shim_conn_slot(fd);
    if (!s) {
        return SHIM_PASS;
    }
    shim_work_drive_slot(s);
    if (shim_slot_phase(s) < SHIM_PHASE_OPEN || shim_slot_phase(s) == SHIM_PHASE_FAILED ||
        shim_audit_rx(fd, s, false) != 0) {
        return 0;
    }
    ssize_t n = shim_slot_phase(s) == SHIM_PHASE_KERNEL ? shim_ktls_available(fd, s)
                                                        : shim_rx_available(fd, s);
    shim_lock_put(&s->rx_lock);
    return n > INT_MAX ? INT_MAX : (int)n;
}

int
shim_io_before(int fd, short events)
{
    if (shim_io_is_nonblocking(fd, 0)) {
        shim_work_drive_slot(shim_conn_slot(fd));
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
