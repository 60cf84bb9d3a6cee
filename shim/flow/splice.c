/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_io_splice: splice(2) between a pipe and a mesh connection, by reading and writing. Bytes that
 * were taken from one side must go into the other, whatever happens, because nothing can be given
 * back to a pipe or to a connection. So the room on the far side is looked at before anything is
 * taken on the near one, and no more is taken than fits there.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>

#include "shim/flow/io.h"
#include "shim/flow/io_int.h"
#include "shim/flow/ksplice.h"
#include "shim/flow/work.h"
#include "shim/real.h"
#include "shim/tls/tls.h"

#define CHUNK ((size_t)SHIM_REC_PLAIN_MAX) /* a connection with room takes a record, or keeps its tail */
#define PAGE  4096u                        /* a pipe that polls writable takes at least this much */

struct lane {
    int conn, pipe;
    size_t n;
    unsigned flags;
    bool pipe_nonblocking;
    uint8_t *buf;
};

/* What the pipe takes without sleeping; -EAGAIN: nothing; -EPIPE (and SIGPIPE): nobody reads it. An
 * empty pipe has all its slots; otherwise how they are filled cannot be seen, but one is free. */
static ssize_t
pipe_room(int pipe)
{
    struct pollfd p = {pipe, POLLOUT, 0};
    int held = 0;
    long size = sys_fcntl(pipe, F_GETPIPE_SZ, 0);
    if (sys_poll(&p, 1, 0) > 0 && p.revents & POLLERR) {
        (void)sys_call(SYS_tgkill, sys_getpid(), sys_gettid(), SIGPIPE, 0);
        return -EPIPE;
    }
    if (!(p.revents & POLLOUT)) {
        return -EAGAIN;
    }
    return sys_call(SYS_ioctl, pipe, FIONREAD, &held, 0) == 0 && held == 0 ? size : PAGE;
}

static ssize_t
await_pipe_room(const struct lane *l)
{
    for (;;) {
        ssize_t room = pipe_room(l->pipe);
        if (room != -EAGAIN || l->pipe_nonblocking) {
            return room;
        }
        int r = shim_io_wait(l->pipe, POLLOUT, SHIM_NEVER, NULL);
        if (r < 0) {
            return r;
        }
    }
}

/* All of it, although another writer may have been quicker. */
static ssize_t
fill_pipe(const struct lane *l, size_t n)
{
    size_t done = 0;
    while (done < n) {
        long r = sys_call(SYS_write, l->pipe, l->buf + done, n - done, 0);
        if (r < 0 && r != -EAGAIN && r != -EINTR) {
            return r;
        }
        done += r > 0 ? (size_t)r : 0;
        if (r == -EAGAIN) {
            (void)shim_io_wait(l->pipe, POLLOUT, SHIM_NEVER, NULL);
        }
    }
    return (ssize_t)done;
}

static ssize_t
from_conn(const struct lane *l)
{
    size_t total = 0, want;
    ssize_t r;
    do {
        ssize_t room = await_pipe_room(l);
        if (room < 0) {
            return total ? (ssize_t)total : room;
        }
        want = l->n - total < (size_t)room ? l->n - total : (size_t)room;
        want = want < 4 * CHUNK ? want : 4 * CHUNK;
        struct iovec v = {l->buf, want};
        r = shim_io_read(l->conn, &v, 1, 0, NULL);
        if (r > 0) {
            r = fill_pipe(l, (size_t)r);
        }
        if (r <= 0) {
            return total ? (ssize_t)total : r;
        }
        total += (size_t)r;
        /* On only while neither side would sleep. */
    } while (total < l->n && (size_t)r == want && pipe_room(l->pipe) > 0 &&
             shim_io_available(l->conn) > 0);
    return (ssize_t)total;
}

/* 1: there are bytes; 0: no writer is left; or -errno. */
static int
await_pipe_data(const struct lane *l, bool nonblocking)
{
    for (;;) {
        struct pollfd p = {l->pipe, POLLIN, 0};
        if (sys_poll(&p, 1, 0) > 0) {
            return p.revents & POLLIN ? 1 : 0;
        }
        int r = nonblocking ? -EAGAIN : shim_io_wait(l->pipe, POLLIN, SHIM_NEVER, NULL);
        if (r < 0) {
            return r;
        }
    }
}

static bool
has_room(int conn, const struct shim_slot *s)
{
    struct pollfd p = {conn, POLLOUT, 0};
    if (shim_slot_phase(s) < SHIM_PHASE_OPEN) {
        return shim_conn_visible(conn) & POLLOUT;
    }
    return sys_poll(&p, 1, 0) > 0;
}

/* 0: the connection takes a record (or an error waits there); SHIM_PASS; or -errno. */
static ssize_t
await_conn_room(int conn)
{
    static const struct iovec none = {NULL, 0};
    bool nonblocking = shim_io_is_nonblocking(conn, 0);
    uint64_t deadline = shim_io_timeout_of(conn, SO_SNDTIMEO);
    for (;;) {
        ssize_t r = shim_io_write(conn, &none, 1, 0); /* finds errors, and sends what waits */
        struct shim_slot *s = r < 0 ? NULL : shim_conn_slot(conn);
        if (!s) {
            return r < 0 ? r : SHIM_PASS;
        }
        if (has_room(conn, s)) {
            return 0;
        }
        bool open = shim_slot_phase(s) >= SHIM_PHASE_OPEN;
        r = nonblocking ? -EAGAIN
                        : shim_io_wait(conn, open ? POLLOUT : 0, deadline, open ? NULL : s);
        if (r < 0) {
            return r;
        }
    }
}

/* What was taken from the pipe goes, also if it has to wait in spite of O_NONBLOCK. */
static ssize_t
fill_conn(const struct lane *l, size_t n, int flags)
{
    size_t done = 0;
    while (done < n) {
        struct iovec v = {l->buf + done, n - done};
        ssize_t r = shim_io_write(l->conn, &v, 1, flags);
        if (r < 0 && r != -EAGAIN && r != -EINTR) {
            return r == SHIM_PASS ? -ECONNRESET : r;
        }
        done += r > 0 ? (size_t)r : 0;
        if (r == -EAGAIN) {
            (void)shim_io_wait(l->conn, POLLOUT, shim_now() + 5000000, NULL);
        }
    }
    return (ssize_t)done;
}

static ssize_t
to_conn(const struct lane *l)
{
    size_t total = 0;
    ssize_t r = 0;
    while (total < l->n) {
        r = await_pipe_data(l, l->pipe_nonblocking || total > 0);
        if (r <= 0) {
            break;
        }
        r = await_conn_room(l->conn);
        if (r < 0) {
            break;
        }
        size_t want = l->n - total < CHUNK ? l->n - total : CHUNK;
        r = sys_call(SYS_read, l->pipe, l->buf, want, 0);
        if (r <= 0) {
            break;
        }
        r = fill_conn(l, (size_t)r, l->flags & SPLICE_F_MORE ? MSG_MORE : 0);
        if (r < 0) {
            break;
        }
        total += (size_t)r;
    }
    return total ? (ssize_t)total : r;
}

/* 0 when the kernel would move bytes [splice(2)]. */
static int
check(int pipe, int mode, bool offsets, unsigned flags)
{
    long fl = sys_fcntl(pipe, F_GETFL, 0);
    if (flags & ~(unsigned)(SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT)) {
        return -EINVAL;
    }
    if (fl < 0 || (fl & O_ACCMODE) == mode) {
        return -EBADF;
    }
    if (sys_fcntl(pipe, F_GETPIPE_SZ, 0) < 0) {
        return -EINVAL;
    }
    return offsets ? -ESPIPE : 0;
}

ssize_t
shim_io_splice(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags)
{
    ssize_t kernel = shim_ksplice(in, in_off, out, out_off, n, flags);
    if (kernel != SHIM_PASS) {
        return kernel;
    }
    bool receive = shim_conn_slot(in) != NULL;
    struct lane l = {.conn = receive ? in : out, .pipe = receive ? out : in, .n = n,
                     .flags = flags};
    if (!receive && !shim_conn_slot(out)) {
        return SHIM_PASS;
    }
    if (n == 0) {
        return 0;
    }
    int e = check(l.pipe, receive ? O_RDONLY : O_WRONLY, receive ? out_off : in_off, flags);
    if (e == 0 && (receive ? in_off : out_off)) {
        e = -EINVAL;
    }
    if (e < 0) {
        return e;
    }
    l.pipe_nonblocking = flags & SPLICE_F_NONBLOCK || shim_io_is_nonblocking(l.pipe, 0);
    l.buf = shim_scratch_get();
    if (!l.buf) {
        return -ENOMEM;
    }
    ssize_t r = receive ? from_conn(&l) : to_conn(&l);
    shim_scratch_put(l.buf);
    return r;
}
