/* SPDX-License-Identifier: Apache-2.0
 *
 * by_number: client and server make every call through syscall(2): connections, data in each shape,
 * readiness with epoll, poll and select, what is left of a timeout.
 */
/* run: modes thread fork */
#include "app.h"

#define N 5000

static char sent[N], got[N];

static void
all_writes(int fd)
{
    struct iovec v[2] = {{sent + 500, 200}, {sent + 700, 300}};
    struct msghdr m = {.msg_iov = &v[0], .msg_iovlen = 1};
    struct mmsghdr mm[1] = {{.msg_hdr = {.msg_iov = &v[1], .msg_iovlen = 1}}};
    struct iovec w[2] = {{sent + 1000, 500}, {sent + 1500, 500}};
    int p[2];
    RES(syscall(SYS_write, fd, sent, 200));
    RES(syscall(SYS_sendto, fd, sent + 200, 300, 0, NULL, 0));
    RES(syscall(SYS_sendmsg, fd, &m, 0));
    RES(syscall(SYS_sendmmsg, fd, mm, 1, 0));
    RES(syscall(SYS_writev, fd, w, 2));
    CK(pipe(p));
    CK(write(p[1], sent + 2000, 1000));
    RES(syscall(SYS_splice, p[0], NULL, fd, NULL, 1000, 0));
    w[0] = (struct iovec){sent + 3000, N - 3000};
    RES(syscall(SYS_pwritev2, fd, w, 1, -1L, 0L, 0));
    CK(close(p[0]));
    CK(close(p[1]));
}

static void
client(int unused)
{
    int v = -1;
    socklen_t len = sizeof v;
    struct pollfd p = {.events = POLLIN};
    struct timespec ts = {20, 0};
    struct timeval tv = {20, 0};
    fd_set set;
    (void)unused;
    app_fill(sent, N, 0);
    int fd = (int)CK(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
    RES(syscall(SYS_connect, fd, &app_addr, sizeof app_addr));
    RES(syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &v, &len));
    all_writes(fd);
    int copy = (int)CK(syscall(SYS_dup, fd));
    RES(syscall(SYS_close, fd));
    p.fd = copy;
    RES(syscall(SYS_ppoll, &p, 1, &ts, NULL, 8));
    say("left of it: %d\n", ts.tv_sec < 20 && ts.tv_sec > 10);
    FD_ZERO(&set);
    FD_SET(copy, &set);
#ifdef SYS_select
    RES(syscall(SYS_select, copy + 1, &set, NULL, NULL, &tv));
    RES(syscall(SYS_poll, &p, 1, 1000));
#else
    RES(select(copy + 1, &set, NULL, NULL, &tv));
    RES(poll(&p, 1, 1000));
#endif
    ts = (struct timespec){20, 0};
    RES(syscall(SYS_pselect6, copy + 1, &set, NULL, NULL, &ts, NULL));
    app_arrived(copy, N);
    RES(syscall(SYS_ioctl, copy, FIONREAD, &v));
    say("FIONREAD %d\n", v);
    RES(syscall(SYS_recvfrom, copy, got, 100, 0, NULL, NULL));
    struct iovec io[2] = {{got + 100, 100}, {got + 200, 300}};
    struct msghdr m = {.msg_iov = &io[0], .msg_iovlen = 1};
    struct mmsghdr mm[1] = {{.msg_hdr = {.msg_iov = &io[1], .msg_iovlen = 1}}};
    RES(syscall(SYS_recvmsg, copy, &m, 0));
    RES(syscall(SYS_recvmmsg, copy, mm, 1, 0, NULL));
    io[0] = (struct iovec){got + 500, 500};
    RES(syscall(SYS_readv, copy, io, 1));
    io[0] = (struct iovec){got + 1000, 500};
    RES(syscall(SYS_preadv2, copy, io, 1, -1L, 0L, 0));
    RES(syscall(SYS_read, copy, got + 1500, N));
    say("match %zu\n", app_match(got, N, 0));
    RES(syscall(SYS_shutdown, copy, SHUT_WR));
    RES(syscall(SYS_read, copy, got, N));
    RES(syscall(SYS_close, copy));
}

static void
serve(int lfd)
{
    char b[N];
    size_t have = 0;
    struct epoll_event e = {.events = EPOLLIN};
    int fd = (int)CK(syscall(SYS_accept4, lfd, NULL, NULL, SOCK_NONBLOCK));
    int ep = (int)CK(syscall(SYS_epoll_create1, 0));
    e.data.fd = fd;
    CK(syscall(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, fd, &e));
    while (have < N) {
        MUST(syscall(SYS_epoll_pwait, ep, &e, 1, APP_WAIT, NULL, 8) == 1);
        long r = syscall(SYS_read, fd, b + have, N - have);
        MUST(r > 0 || (r < 0 && errno == EAGAIN));
        have += r > 0 ? (size_t)r : 0;
    }
    say("match %zu\n", app_match(b, N, 0));
    int fl = (int)CK(syscall(SYS_fcntl, fd, F_GETFL));
    CK(syscall(SYS_fcntl, fd, F_SETFL, fl & ~O_NONBLOCK));
    RES(syscall(SYS_write, fd, b, N));
    RES(syscall(SYS_read, fd, b, 1));
    CK(syscall(SYS_close, ep));
    CK(syscall(SYS_close, fd));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof app_addr;
    app_main(argc, argv);
    int fd = (int)CK(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
    CK(syscall(SYS_bind, fd, &at, sizeof at));
    CK(syscall(SYS_listen, fd, 5));
    CK(getsockname(fd, (struct sockaddr *)&app_addr, &len));
    app_start(&t, client, -1);
    serve(fd);
    app_join(&t, "client");
    close(fd);
    return 0;
}
