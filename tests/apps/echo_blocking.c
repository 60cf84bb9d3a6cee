/* SPDX-License-Identifier: Apache-2.0
 *
 * echo_blocking: messages of many sizes go there and back on blocking sockets, by every pair of
 * calls that moves bytes. A blocking send takes everything [send(2)].
 */
/* run: modes thread fork */
#include "app.h"

#define MAX 1000000
static const size_t sizes[] = {0, 1, 2, 63, 1000, 16383, 16384, 16385, 100000, MAX};

struct style {
    const char *name;
    ssize_t (*send)(int fd, const char *b, size_t n);
    ssize_t (*recv)(int fd, char *b, size_t n);
};

/* Cuts a buffer into uneven pieces, the last one the rest, one of them empty. */
static int
cut(struct iovec *v, const char *b, size_t n)
{
    size_t part[] = {n / 7, 0, n / 3, n ? 1 : 0}, off = 0;
    int k = 0;
    for (; k < 4; k++) {
        size_t len = part[k] > n - off ? n - off : part[k];
        v[k] = (struct iovec){(void *)(uintptr_t)(b + off), len};
        off += len;
    }
    v[k] = (struct iovec){(void *)(uintptr_t)(b + off), n - off};
    return 5;
}

static ssize_t
s_write(int fd, const char *b, size_t n)
{
    return write(fd, b, n);
}
static ssize_t
r_read(int fd, char *b, size_t n)
{
    return read(fd, b, n);
}
static ssize_t
s_send(int fd, const char *b, size_t n)
{
    return send(fd, b, n, 0);
}
static ssize_t
r_recv(int fd, char *b, size_t n)
{
    return recv(fd, b, n, 0);
}
static ssize_t
r_recv_all(int fd, char *b, size_t n)
{
    return recv(fd, b, n, MSG_WAITALL);
}
static ssize_t
s_sendto(int fd, const char *b, size_t n)
{
    return sendto(fd, b, n, MSG_NOSIGNAL, NULL, 0);
}
static ssize_t
r_recvfrom(int fd, char *b, size_t n)
{
    struct sockaddr_in from = {0};
    socklen_t len = sizeof from;
    ssize_t r = recvfrom(fd, b, n, 0, (struct sockaddr *)&from, &len);
    if (len != 0 || from.sin_family != 0)
        say("recvfrom gave an address of %u bytes\n", len);
    return r;
}
static ssize_t
s_writev(int fd, const char *b, size_t n)
{
    struct iovec v[5];
    return writev(fd, v, cut(v, b, n));
}
static ssize_t
r_readv(int fd, char *b, size_t n)
{
    struct iovec v[5];
    return readv(fd, v, cut(v, b, n));
}
static ssize_t
s_sendmsg(int fd, const char *b, size_t n)
{
    struct iovec v[5];
    struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)cut(v, b, n)};
    return sendmsg(fd, &m, 0);
}
static ssize_t
r_recvmsg(int fd, char *b, size_t n)
{
    struct iovec v[5];
    char control[64], name[64];
    struct msghdr m = {.msg_iov = v,
                       .msg_iovlen = (size_t)cut(v, b, n),
                       .msg_name = name,
                       .msg_namelen = sizeof name,
                       .msg_control = control,
                       .msg_controllen = sizeof control,
                       .msg_flags = 0x55};
    ssize_t r = recvmsg(fd, &m, 0);
    if (m.msg_namelen || m.msg_controllen || (m.msg_flags & ~MSG_CMSG_CLOEXEC))
        say("recvmsg name %u control %zu flags %x\n", m.msg_namelen, m.msg_controllen,
            (unsigned)m.msg_flags);
    return r;
}
static ssize_t
s_sendmmsg(int fd, const char *b, size_t n)
{
    struct iovec v[3] = {
        {(void *)(uintptr_t)b, n / 2}, {(void *)(uintptr_t)(b + n / 2), n - n / 2}, {NULL, 0}};
    struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = v, .msg_iovlen = 1}},
                           {.msg_hdr = {.msg_iov = v + 1, .msg_iovlen = 2}}};
    int r = sendmmsg(fd, m, 2, 0);
    return r == 2 ? (ssize_t)m[0].msg_len + m[1].msg_len : -1;
}
static ssize_t
r_recvmmsg(int fd, char *b, size_t n)
{
    struct iovec v[2] = {{b, n}, {b, 0}};
    struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = v, .msg_iovlen = 1}},
                           {.msg_hdr = {.msg_iov = v + 1, .msg_iovlen = 1}}};
    int r = recvmmsg(fd, m, n ? 1 : 2, MSG_WAITFORONE, NULL);
    return r > 0 ? (ssize_t)m[0].msg_len : r;
}
static ssize_t
s_pwritev2(int fd, const char *b, size_t n)
{
    struct iovec v[5];
    return pwritev2(fd, v, cut(v, b, n), -1, 0);
}
static ssize_t
r_preadv2(int fd, char *b, size_t n)
{
    struct iovec v[5];
    return preadv2(fd, v, cut(v, b, n), -1, 0);
}
static ssize_t
s_syscall(int fd, const char *b, size_t n)
{
    return syscall(SYS_sendto, fd, b, n, 0, NULL, 0);
}
static ssize_t
r_syscall(int fd, char *b, size_t n)
{
    return syscall(SYS_read, fd, b, n);
}

static const struct style styles[] = {
    {"write/read", s_write, r_read},
    {"send/recv", s_send, r_recv},
    {"send/recv WAITALL", s_send, r_recv_all},
    {"sendto/recvfrom", s_sendto, r_recvfrom},
    {"writev/readv", s_writev, r_readv},
    {"sendmsg/recvmsg", s_sendmsg, r_recvmsg},
    {"sendmmsg/recvmmsg", s_sendmmsg, r_recvmmsg},
    {"pwritev2/preadv2 -1", s_pwritev2, r_preadv2},
    {"write/recvmsg", s_write, r_recvmsg},
    {"writev/read", s_writev, r_read},
    {"syscall/syscall", s_syscall, r_syscall},
};

static size_t
get(const struct style *st, int fd, char *b, size_t n)
{
    size_t got = 0;
    while (got < n) {
        ssize_t r = CK(st->recv(fd, b + got, n - got));
        if (r == 0)
            break;
        got += (size_t)r;
    }
    return got;
}

static void
server(int fd)
{
    char *b = malloc(MAX);
    for (size_t s = 0; s < sizeof styles / sizeof *styles; s++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            size_t n = get(&styles[s], fd, b, sizes[i]);
            ssize_t r = styles[s].send(fd, b, n);
            say("%s %zu: got %zu %016llx, sent back %zd\n", styles[s].name, sizes[i], n,
                (unsigned long long)app_hash(b, n), r);
        }
    free(b);
}

static void
client(int fd)
{
    char *b = malloc(MAX), *back = malloc(MAX);
    for (size_t s = 0; s < sizeof styles / sizeof *styles; s++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            app_fill(b, sizes[i], s * 1000 + i);
            errno = APP_SILENT;
            ssize_t w = styles[s].send(fd, b, sizes[i]);
            int silent = errno == APP_SILENT;
            size_t n = get(&styles[s], fd, back, sizes[i]);
            say("%s %zu: sent %zd%s, got %zu %s\n", styles[s].name, sizes[i], w,
                silent ? "" : " errno touched", n, memcmp(b, back, n) ? "WRONG" : "right");
        }
    free(b);
    free(back);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_talk("echo", server, client);
    return 0;
}
