/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_wire: see wire.h. System calls by instruction only: this runs below the program's hooks.
 */
#include "shim/link/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "shim/core/env.h"
#include "shim/core/fdtab.h"
#include "shim/core/room.h"
#include "shim/real.h"

/* Out of the way of programs that count on low numbers [interposition 2.7]. */
static int
move_up(int fd)
{
    int up = (int)sys_fcntl(fd, F_DUPFD_CLOEXEC, 700);
    if (up < 0) {
        return fd; /* a small limit: stay */
    }
    (void)sys_close(fd);
    return up;
}

static int
remaining(uint64_t deadline)
{
    uint64_t now = shim_now();
    return now >= deadline ? 0 : (int)((deadline - now) / 1000000) + 1;
}

static enum mesh_err
wait_for(int fd, short events, uint64_t deadline)
{
    struct pollfd p = {fd, events, 0};
    for (;;) {
        int ms = remaining(deadline);
        long n = ms > 0 ? sys_poll(&p, 1, ms) : 0;
        if (n > 0) {
            return MESH_OK;
        }
        if (n != -EINTR) {
            return MESH_E_NO_MESHD;
        }
    }
}

/* Whose process listens behind fd; -1 unknown. */
static int64_t
peer_uid(int fd)
{
    struct ucred c;
    socklen_t len = sizeof(c);
    return sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len) == 0 ? (int64_t)c.uid : -1;
}

/* The path is meshd's by the directory's permissions. In a chroot it leads nowhere; then there is the
 * same name in the abstract space, which anybody could have taken: it counts if it is the user's that
 * we met under the path. */
static bool
is_meshd(int fd, bool abstract)
{
    static _Atomic int64_t known = -1;
    int64_t uid = atomic_load(&known);
    if (abstract) {
        return uid >= 0 && peer_uid(fd) == uid;
    }
    if (uid < 0) {
        atomic_store(&known, peer_uid(fd));
    }
    return true;
}

static enum mesh_err
dial_at(bool abstract, int *out, uint64_t deadline)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int n = snprintf(sa.sun_path + abstract, sizeof(sa.sun_path) - abstract, "%s/meshd.sock",
                     shim_env.run_dir);
    socklen_t len = abstract ? (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)
                             : sizeof(sa);
    if (n < 0 || len > sizeof(sa)) {
        return MESH_E_NO_MESHD;
    }
    int fd = (int)sys_call(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, 0);
    if (fd < 0) {
        return MESH_E_NO_FD;
    }
    fd = move_up(fd);
    for (;;) {
        long r = sys_call(SYS_connect, fd, &sa, len, 0);
        if (r == 0 && is_meshd(fd, abstract)) {
            *out = fd;
            return MESH_OK;
        }
        /* EAGAIN: the backlog is full; try again shortly, as a blocking connect would wait. */
        if ((r != -EAGAIN && r != -EINTR) || remaining(deadline) == 0) {
            break;
        }
        (void)sys_poll(NULL, 0, 2);
    }
    (void)sys_close(fd);
    return MESH_E_NO_MESHD;
}

static enum mesh_err
dial(int *out, uint64_t deadline)
{
    enum mesh_err e = dial_at(false, out, deadline);
    return e == MESH_E_NO_MESHD ? dial_at(true, out, deadline) : e;
}

static enum mesh_err
send_all(int fd, struct iovec *iov, int n, int pass_fd, uint64_t deadline)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } ctl;
    while (n > 0) {
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)n};
        if (pass_fd >= 0) {
            memset(&ctl, 0, sizeof(ctl));
            ctl.head = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
            memcpy(CMSG_DATA(&ctl.head), &pass_fd, sizeof(int));
            m.msg_control = &ctl;
            m.msg_controllen = sizeof(ctl);
        }
        long r = sys_call(SYS_sendmsg, fd, &m, MSG_NOSIGNAL, 0);
        if (r == -EAGAIN) {
            enum mesh_err e = wait_for(fd, POLLOUT, deadline);
            if (e != MESH_OK) {
                return e;
            }
        } else if (r < 0 && r != -EINTR) {
            return MESH_E_NO_MESHD;
        }
        pass_fd = r > 0 ? -1 : pass_fd;
        for (size_t left = r > 0 ? (size_t)r : 0; left > 0;) {
            size_t step = left < iov->iov_len ? left : iov->iov_len;
            iov->iov_base = (char *)iov->iov_base + step;
            iov->iov_len -= step;
            left -= step;
            if (iov->iov_len == 0) {
                iov++, n--;
            }
        }
    }
    return MESH_OK;
}

static void
take_fds(struct msghdr *m, int out[2])
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (out[0] < 0) {
                out[0] = fd;
            } else if (out[1] < 0) {
                out[1] = fd;
            } else {
                (void)sys_close(fd);
            }
        }
    }
}

void
shim_wire_each_fd(const struct msghdr *m, void (*each)(int fd, int arg), int arg)
{
    struct msghdr *all = (struct msghdr *)(uintptr_t)m; /* CMSG_NXTHDR reads only */
    for (struct cmsghdr *c = CMSG_FIRSTHDR(all); c; c = CMSG_NXTHDR(all, c)) {
        size_t n = c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS
                       ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int)
                       : 0;
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            each(fd, arg);
        }
    }
}

static enum mesh_err
recv_all(int fd, void *buf, size_t n, int fds[2], uint64_t deadline)
{
    for (size_t got = 0; got < n;) {
        union {
            struct cmsghdr head;
            char room[CMSG_SPACE(2 * sizeof(int))];
        } ctl;
        struct iovec iov = {(char *)buf + got, n - got};
        struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl,
                           .msg_controllen = sizeof(ctl)};
        long r = sys_call(SYS_recvmsg, fd, &m, MSG_CMSG_CLOEXEC, 0);
        if (r > 0) {
            take_fds(&m, fds);
            if (m.msg_flags & MSG_CTRUNC) {
                return MESH_E_NO_FD; /* there was no number for all of them */
            }
            got += (size_t)r;
        } else if (r == -EAGAIN) {
            enum mesh_err e = wait_for(fd, POLLIN, deadline);
            if (e != MESH_OK) {
                return e;
            }
        } else if (r != -EINTR) {
            return got || r == 0 ? MESH_E_PROTOCOL : MESH_E_NO_MESHD;
        }
    }
    return MESH_OK;
}

static enum mesh_err
exchange(int fd, struct shim_wire_call *c, uint64_t deadline)
{
    struct mesh_wire_head h = {MESH_WIRE_MAGIC, MESH_WIRE_VERSION, c->type,
                               (uint32_t)(c->req_len + c->req2_len), 0};
    struct iovec iov[3] = {{&h, sizeof(h)}};
    int n = 1;
    const void *part[2] = {c->req, c->req2};
    size_t len[2] = {c->req_len, c->req2_len};
    for (int i = 0; i < 2; i++) {
        if (len[i]) {
            iov[n++] = (struct iovec){(void *)(uintptr_t)part[i], len[i]};
        }
    }
    enum mesh_err e = send_all(fd, iov, n, c->send_fd, deadline);
    if (e == MESH_OK) {
        e = recv_all(fd, &h, sizeof(h), c->fd, deadline);
    }
    if (e != MESH_OK) {
        return e;
    }
    if (h.magic != MESH_WIRE_MAGIC || h.version != MESH_WIRE_VERSION) {
        return MESH_E_VERSION;
    }
    if (h.err) {
        return h.err < MESH_ERR_COUNT ? (enum mesh_err)h.err : MESH_E_PROTOCOL;
    }
    if (h.type != (c->type | MESH_WIRE_REPLY) || h.len > c->rep_cap) {
        return MESH_E_PROTOCOL;
    }
    c->rep_len = h.len;
    return recv_all(fd, c->rep, h.len, c->fd, deadline);
}

static enum mesh_err
call(struct shim_wire_call *c, uint64_t deadline)
{
    int fd = -1;
    c->fd[0] = c->fd[1] = -1;
    c->rep_len = 0;
    enum mesh_err e = dial(&fd, deadline);
    if (e != MESH_OK) {
        return e;
    }
    e = exchange(fd, c, deadline);
    (void)sys_close(fd);
    for (int i = 0; e != MESH_OK && i < 2; i++) {
        if (c->fd[i] >= 0) {
            (void)sys_close(c->fd[i]);
            c->fd[i] = -1;
        }
    }
    return e;
}

enum mesh_err
shim_wire_call(struct shim_wire_call *c, int timeout_ms)
{
    uint64_t deadline = shim_now() + (uint64_t)timeout_ms * 1000000;
    enum mesh_err e = call(c, deadline);
    if (e == MESH_E_NO_FD && shim_room_make()) {
        e = call(c, deadline);
        shim_room_end();
    }
    return e;
}
