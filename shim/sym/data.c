/* SPDX-License-Identifier: Apache-2.0
 *
 * Exported symbols: data in and out. The whole logic is in flow/io.c; here are only the many shapes
 * in which libc offers the same two operations.
 */
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "shim/core/env.h"
#include "shim/flow/beside.h"
#include "shim/flow/pass.h"
#include "shim/link/wire.h"
#include "shim/ready/ready.h"
#include "shim/route/names.h"
#include "shim/sym/sym.h"

static ssize_t
read_one(int fd, void *buf, size_t n, int flags)
{
    struct iovec v = {buf, n};
    return shim_io_read(fd, &v, 1, flags, NULL);
}

static ssize_t
write_one(int fd, const void *buf, size_t n, int flags)
{
    struct iovec v = {(void *)(uintptr_t)buf, n};
    return shim_io_write(fd, &v, 1, flags);
}

static ssize_t
check_iov(int cnt)
{
    return cnt < 0 || cnt > IOV_MAX ? -EINVAL : 0;
}

SYM_BODY(ssize_t, read, (int fd, void *buf, size_t n), (fd, buf, n))
{
    SYM_MESH(fd, read_one(fd, buf, n, SHIM_IO_FILE));
    SYM_BEFORE(fd, POLLIN);
    return shim_real.read(fd, buf, n);
}

SHIM_EXPORT ssize_t
__read_chk(int fd, void *buf, size_t n, size_t room)
{
    if (n <= room) {
        SYM_MESH(fd, read_one(fd, buf, n, SHIM_IO_FILE));
        SYM_BEFORE(fd, POLLIN);
    }
    return shim_real.__read_chk(fd, buf, n, room);
}

SYM_BODY(ssize_t, write, (int fd, const void *buf, size_t n), (fd, buf, n))
{
    SYM_MESH(fd, write_one(fd, buf, n, 0));
    return shim_real.write(fd, buf, n);
}

SYM_BODY(ssize_t, readv, (int fd, const struct iovec *iov, int cnt), (fd, iov, cnt))
{
    SYM_MESH(fd, check_iov(cnt) ? -EINVAL : shim_io_read(fd, iov, cnt, SHIM_IO_FILE, NULL));
    SYM_BEFORE(fd, POLLIN);
    return shim_real.readv(fd, iov, cnt);
}

SYM_BODY(ssize_t, writev, (int fd, const struct iovec *iov, int cnt), (fd, iov, cnt))
{
    SYM_MESH(fd, check_iov(cnt) ? -EINVAL : shim_io_write(fd, iov, cnt, 0));
    return shim_real.writev(fd, iov, cnt);
}

/* Offset -1 means read and write; any other is ESPIPE on a socket. RWF_NOWAIT is MSG_DONTWAIT. */
#define NOWAIT(flags) ((flags) & 8 ? MSG_DONTWAIT : 0)

SHIM_EXPORT ssize_t
preadv2(int fd, const struct iovec *iov, int cnt, off_t off, int flags)
{
    if (off == -1) {
        SYM_MESH(fd, check_iov(cnt) ? -EINVAL : shim_io_read(fd, iov, cnt, SHIM_IO_FILE | NOWAIT(flags), NULL));
        SYM_BEFORE(fd, POLLIN);
    }
    return shim_real.preadv2(fd, iov, cnt, off, flags);
}

SHIM_EXPORT ssize_t
preadv64v2(int fd, const struct iovec *iov, int cnt, off_t off, int flags)
{
    return preadv2(fd, iov, cnt, off, flags);
}

SHIM_EXPORT ssize_t
pwritev2(int fd, const struct iovec *iov, int cnt, off_t off, int flags)
{
    if (off == -1) {
        SYM_MESH(fd, check_iov(cnt) ? -EINVAL : shim_io_write(fd, iov, cnt, NOWAIT(flags)));
    }
    return shim_real.pwritev2(fd, iov, cnt, off, flags);
}

SHIM_EXPORT ssize_t
pwritev64v2(int fd, const struct iovec *iov, int cnt, off_t off, int flags)
{
    return pwritev2(fd, iov, cnt, off, flags);
}

SYM_BODY(ssize_t, recv, (int fd, void *buf, size_t n, int flags), (fd, buf, n, flags))
{
    SYM_MESH(fd, read_one(fd, buf, n, flags));
    SYM_BEFORE(fd, POLLIN);
    return shim_real.recv(fd, buf, n, flags);
}

SHIM_EXPORT ssize_t
__recv_chk(int fd, void *buf, size_t n, size_t room, int flags)
{
    if (n <= room) {
        SYM_MESH(fd, read_one(fd, buf, n, flags));
        SYM_BEFORE(fd, POLLIN);
    }
    return shim_real.__recv_chk(fd, buf, n, room, flags);
}

/* TCP tells no source address: the length comes back as 0 [tcp(7)]. */
static ssize_t
read_from(int fd, void *buf, size_t n, int flags, struct sockaddr *sa, socklen_t *len)
{
    ssize_t r = read_one(fd, buf, n, flags);
    if (r >= 0 && sa && len) {
        *len = 0;
    }
    return r;
}

SYM_BODY(ssize_t, recvfrom, (int fd, void *buf, size_t n, int flags, struct sockaddr *sa, socklen_t *len), (fd, buf, n, flags, sa, len))
{
    SYM_MESH(fd, read_from(fd, buf, n, flags, sa, len));
    SYM_BEFORE(fd, POLLIN);
    return shim_real.recvfrom(fd, buf, n, flags, sa, len);
}

SHIM_EXPORT ssize_t
__recvfrom_chk(int fd, void *buf, size_t n, size_t room, int flags, struct sockaddr *sa,
               socklen_t *len)
{
    if (n <= room) {
        SYM_MESH(fd, read_from(fd, buf, n, flags, sa, len));
        SYM_BEFORE(fd, POLLIN);
    }
    return shim_real.__recvfrom_chk(fd, buf, n, room, flags, sa, len);
}

static void
tell_beside(struct shim_beside *b, int fd, struct msghdr *m, ssize_t r)
{
    if (r == 0) {
        shim_beside_end(b, fd);
    }
    m->msg_controllen = b->len;
    m->msg_flags |= b->flags;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c && r > 0; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == IPPROTO_TCP && c->cmsg_type == TCP_CM_INQ && c->cmsg_len >= CMSG_LEN(sizeof(int))) {
            int left = shim_io_available(fd); /* the kernel counts our records */
            memcpy(CMSG_DATA(c), &left, sizeof(left));
        }
    }
}

static ssize_t
read_msg(int fd, struct msghdr *m, int flags)
{
    ssize_t r;
    if (flags & MSG_ERRQUEUE) {
        return SHIM_PASS;
    }
    if (m->msg_iovlen > IOV_MAX) {
        return -EMSGSIZE;
    }
    struct shim_beside beside = {.control = m->msg_control, .room = m->msg_controllen};
    r = shim_io_read(fd, m->msg_iov, (int)m->msg_iovlen, flags, &beside);
    if (r >= 0) {
        m->msg_namelen = 0;
        m->msg_flags = flags & (MSG_CMSG_CLOEXEC | MSG_OOB);
        tell_beside(&beside, fd, m, r);
    }
    return r;
}

static void
received(int fd, int again)
{
    shim_pass_received(fd, again != 0);
}

static void
passing(int fd, int n)
{
    shim_pass_sending(fd, n);
}

SHIM_EXPORT ssize_t
recvmsg(int fd, struct msghdr *m, int flags)
{
    SYM_MESH(fd, read_msg(fd, m, flags));
    SYM_BEFORE(fd, POLLIN);
    ssize_t r = shim_real.recvmsg(fd, m, flags);
    if (r >= 0 && m->msg_controllen > 0 && shim_env.on) {
        shim_wire_each_fd(m, received, flags & MSG_PEEK);
    }
    return r;
}

SHIM_EXPORT int
pidfd_getfd(int pidfd, int target, unsigned flags)
{
    int fd = shim_real.pidfd_getfd(pidfd, target, flags), saved = errno;
    if (fd >= 0 && shim_env.on) {
        shim_pass_taken(pidfd, fd);
        errno = saved;
    }
    return fd;
}

static ssize_t
read_many(int fd, struct mmsghdr *v, unsigned n, int flags)
{
    unsigned i;
    ssize_t r = 0;
    for (i = 0; i < n; i++) {
        int wait = i && flags & MSG_WAITFORONE ? MSG_DONTWAIT : 0;
        r = read_msg(fd, &v[i].msg_hdr, (flags & ~MSG_WAITFORONE) | wait);
        if (r < 0) {
            break;
        }
        v[i].msg_len = (unsigned)r;
        if (r == 0) {
            return (ssize_t)i + 1;
        }
    }
    return i ? (ssize_t)i : r;
}

SHIM_EXPORT int
recvmmsg(int fd, struct mmsghdr *v, unsigned n, int flags, struct timespec *timeout)
{
    SYM_MESH(fd, read_many(fd, v, n, flags));
    SYM_BEFORE(fd, POLLIN);
    int r = shim_real.recvmmsg(fd, v, n, flags, timeout);
    for (int i = 0; i < r && shim_env.on; i++) {
        if (v[i].msg_hdr.msg_controllen > 0) {
            shim_wire_each_fd(&v[i].msg_hdr, received, flags & MSG_PEEK);
        }
    }
    return r;
}

SYM_BODY(ssize_t, send, (int fd, const void *buf, size_t n, int flags), (fd, buf, n, flags))
{
    SYM_MESH(fd, write_one(fd, buf, n, flags));
    return shim_real.send(fd, buf, n, flags);
}

/* MSG_DONTWAIT is for the connect, too [net/ipv4/tcp.c: tcp_sendmsg_fastopen]. 0, or -errno. */
static int
connect_first(int fd, const struct sockaddr *sa, socklen_t len, int flags)
{
    bool gated = false;
    long fl = flags & MSG_DONTWAIT ? sys_fcntl(fd, F_GETFL, 0) : O_NONBLOCK;
    bool blocks = fl >= 0 && !(fl & O_NONBLOCK);
    if (blocks) {
        (void)sys_fcntl(fd, F_SETFL, fl | O_NONBLOCK);
    }
    int e = shim_conn_connect(fd, sa, len, &gated) == 0 ? 0 : -errno;
    if (blocks) {
        (void)sys_fcntl(fd, F_SETFL, fl);
    }
    if (gated) {
        shim_gate_update(fd);
    }
    return e;
}

/* TCP Fast Open puts data into the SYN: here it is a connect and a send. SHIM_PASS if it is no
 * matter of ours. */
static ssize_t
fast_open(int fd, const struct iovec *iov, int cnt, int flags, const struct sockaddr *sa,
          socklen_t len)
{
    bool inet = sa && len >= sizeof(sa->sa_family) && (sa->sa_family == AF_INET || sa->sa_family == AF_INET6);
    if (!inet || !shim_env.on || !sym_is_tcp(fd)) {
        return SHIM_PASS;
    }
    int e = connect_first(fd, sa, len, flags);
    if (e != 0) {
        return e;
    }
    flags &= ~MSG_FASTOPEN;
    if (shim_fd_is_mesh(fd)) {
        return shim_io_write(fd, iov, cnt, flags);
    }
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)cnt};
    ssize_t r = shim_real.sendmsg(fd, &m, flags);
    return r < 0 ? -errno : r;
}

/* A datagram to a virtual address. A stream ignores the address. */
static bool
goes_nowhere(int fd, const void *sa, socklen_t len)
{
    int type = 0;
    socklen_t size = sizeof(type);
    return shim_names_stop(sa, len) && sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
           type != SOCK_STREAM;
}

SHIM_EXPORT ssize_t
sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *sa, socklen_t len)
{
    SYM_MESH(fd, write_one(fd, buf, n, flags));
    if (flags & MSG_FASTOPEN) {
        int saved = errno;
        struct iovec v = {(void *)(uintptr_t)buf, n};
        ssize_t r = fast_open(fd, &v, 1, flags, sa, len);
        if (r != SHIM_PASS) {
            return sym_result(r, saved);
        }
    }
    if (goes_nowhere(fd, sa, len)) {
        errno = EHOSTUNREACH;
        return -1;
    }
    return shim_real.sendto(fd, buf, n, flags, sa, len);
}

static ssize_t
write_msg(int fd, const struct msghdr *m, int flags)
{
    if (m->msg_iovlen > IOV_MAX) {
        return -EMSGSIZE;
    }
    return shim_io_write(fd, m->msg_iov, (int)m->msg_iovlen, flags);
}

/* Connections among the descriptors stay alive on their way, even if the sender closes its own. */
static ssize_t
send_fds(int fd, const struct msghdr *m, int flags)
{
    bool carries = m->msg_controllen > 0 && shim_env.on;
    if (carries) {
        shim_wire_each_fd(m, passing, 1);
    }
    ssize_t r = shim_real.sendmsg(fd, m, flags);
    if (carries && r < 0) {
        shim_wire_each_fd(m, passing, -1);
    }
    return r;
}

SHIM_EXPORT ssize_t
sendmsg(int fd, const struct msghdr *m, int flags)
{
    SYM_MESH(fd, write_msg(fd, m, flags));
    if (flags & MSG_FASTOPEN && m->msg_iovlen <= IOV_MAX) {
        int saved = errno;
        ssize_t r = fast_open(fd, m->msg_iov, (int)m->msg_iovlen, flags, m->msg_name,
                              m->msg_namelen);
        if (r != SHIM_PASS) {
            return sym_result(r, saved);
        }
    }
    if (goes_nowhere(fd, m->msg_name, m->msg_namelen)) {
        errno = EHOSTUNREACH;
        return -1;
    }
    return send_fds(fd, m, flags);
}

static size_t
length(const struct msghdr *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->msg_iovlen; i++) {
        n += m->msg_iov[i].iov_len;
    }
    return n;
}

/* Nothing goes behind a part of a message, also where there is room again. */
static ssize_t
write_many(int fd, struct mmsghdr *v, unsigned n, int flags)
{
    unsigned i;
    ssize_t r = 0;
    for (i = 0; i < n; i++) {
        r = write_msg(fd, &v[i].msg_hdr, flags);
        if (r < 0) {
            break;
        }
        v[i].msg_len = (unsigned)r;
        if ((size_t)r < length(&v[i].msg_hdr)) {
            return (ssize_t)i + 1;
        }
    }
    return i ? (ssize_t)i : r;
}

/* How many of n: those before the first one that does not. The next call then says why. */
static unsigned
leave(int fd, const struct mmsghdr *v, unsigned n)
{
    for (unsigned i = 0; i < n && shim_env.on; i++) {
        if (goes_nowhere(fd, v[i].msg_hdr.msg_name, v[i].msg_hdr.msg_namelen)) {
            return i;
        }
    }
    return n;
}

/* The first message connects; to what is connected the kernel sends none so. */
static int
fast_open_many(int fd, struct mmsghdr *v, int flags)
{
    ssize_t r = sendmsg(fd, &v->msg_hdr, flags);
    if (r < 0) {
        return -1;
    }
    v->msg_len = (unsigned)r;
    return 1;
}

SHIM_EXPORT int
sendmmsg(int fd, struct mmsghdr *v, unsigned n, int flags)
{
    SYM_MESH(fd, write_many(fd, v, n < IOV_MAX ? n : IOV_MAX, flags)); /* as many as the kernel's UIO_MAXIOV */
    if (flags & MSG_FASTOPEN && n > 0 && shim_env.on && sym_is_tcp(fd)) {
        return fast_open_many(fd, v, flags);
    }
    unsigned asked = n;
    n = leave(fd, v, n);
    if (n == 0 && asked > 0) {
        errno = EHOSTUNREACH;
        return -1;
    }
    for (unsigned i = 0; i < n && shim_env.on; i++) {
        if (v[i].msg_hdr.msg_controllen > 0) {
            shim_wire_each_fd(&v[i].msg_hdr, passing, 1);
        }
    }
    int r = shim_real.sendmmsg(fd, v, n, flags);
    for (unsigned i = r < 0 ? 0 : (unsigned)r; i < n && shim_env.on; i++) {
        if (v[i].msg_hdr.msg_controllen > 0) {
            shim_wire_each_fd(&v[i].msg_hdr, passing, -1);
        }
    }
    return r;
}

SHIM_EXPORT ssize_t
sendfile(int fd, int in, off_t *off, size_t n)
{
    if (shim_fd_is_mesh(fd)) { /* no cancellation point */
        int saved = errno;
        ssize_t r = shim_io_sendfile(fd, in, off, n);
        if (r != SHIM_PASS) {
            return sym_result(r, saved);
        }
        errno = saved;
    }
    return shim_real.sendfile(fd, in, off, n);
}

SHIM_EXPORT ssize_t
sendfile64(int fd, int in, off_t *off, size_t n)
{
    return sendfile(fd, in, off, n);
}

SHIM_EXPORT ssize_t
splice(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags)
{
    SYM_MESH(in, shim_io_splice(in, in_off, out, out_off, n, flags));
    SYM_MESH(out, shim_io_splice(in, in_off, out, out_off, n, flags));
    return shim_real.splice(in, in_off, out, out_off, n, flags);
}

/* Never works on sockets [copy_file_range(2)]. */
SHIM_EXPORT ssize_t
copy_file_range(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags)
{
    if (shim_fd_is_mesh(in) || shim_fd_is_mesh(out)) {
        errno = EINVAL;
        return -1;
    }
    return shim_real.copy_file_range(in, in_off, out, out_off, n, flags);
}
