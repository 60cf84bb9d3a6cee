/* SPDX-License-Identifier: Apache-2.0
 *
 * untouched: descriptors that are no TCP sockets: files, pipes, Unix sockets of each type, UDP,
 * eventfd, timerfd, a raw epoll set. Same results, same errno, and the very same system calls.
 */
/* run: nomesh */
/* run: strace */
#include "app.h"
#include <sys/timerfd.h>

static void
trace_begin(void)
{
    access("/app/trace/begin", F_OK);
}

static void
trace_end(void)
{
    access("/app/trace/end", F_OK);
}

static void
files(void)
{
    char b[100];
    struct iovec v[2] = {{b, 10}, {b + 10, 20}};
    FILE *f = tmpfile();
    int fd = fileno(f);
    RES(write(fd, "0123456789abcdef", 16));
    RES(pread(fd, b, 10, 3));
    RES(pwrite(fd, "X", 1, 3));
    RES(lseek(fd, 0, SEEK_SET));
    RES(readv(fd, v, 2));
    RES(writev(fd, v, 2));
    RES(preadv2(fd, v, 2, 0, 0));
    RES(read(fd, b, 0));
    RES(recv(fd, b, 1, 0));
    RES(send(fd, b, 1, 0));
    RES(shutdown(fd, SHUT_RD));
    RES(getpeername(fd, (struct sockaddr *)b, &(socklen_t){sizeof b}));
    RES(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
    RES(accept(fd, NULL, NULL));
    RES(listen(fd, 1));
    RES(epoll_ctl(fd, EPOLL_CTL_ADD, fd, NULL));
    fclose(f);
    RES(close(fd));
}

static void
pipes(void)
{
    char b[100];
    int p[2], n = 0;
    RES(pipe2(p, O_NONBLOCK));
    RES(read(p[0], b, 10));
    RES(write(p[1], "hello", 5));
    RES(ioctl(p[0], FIONREAD, &n));
    say("poll %d %s\n", n, app_events(app_poll(p[0], POLLIN, 0)));
    RES(dup2(p[0], 50));
    RES(fcntl(p[0], F_DUPFD, 60));
    RES(read(50, b, 3));
    RES(close(p[0]));
    RES(read(60, b, 3));
    RES(close(50));
    RES(close(60));
    signal(SIGPIPE, SIG_IGN);
    RES(write(p[1], b, 1));
    RES(splice(p[1], NULL, p[1], NULL, 1, 0));
    RES(close(p[1]));
}

static void
sockets(int type)
{
    char b[100];
    int s[2], on = 1;
    struct iovec v = {b, 10};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    struct mmsghdr mm = {.msg_hdr = m};
    RES(socketpair(AF_UNIX, type, 0, s));
    RES(send(s[0], "0123456789", 10, 0));
    RES(recv(s[1], b, 5, MSG_PEEK));
    RES(recvmsg(s[1], &m, 0));
    RES(sendmsg(s[0], &m, MSG_NOSIGNAL));
    RES(recvfrom(s[1], b, 10, MSG_DONTWAIT, NULL, NULL));
    RES(sendmmsg(s[0], &mm, 1, 0));
    RES(recvmmsg(s[1], &mm, 1, MSG_DONTWAIT, NULL));
    RES(recv(s[1], b, 1, MSG_DONTWAIT));
    RES(setsockopt(s[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    RES(setsockopt(s[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    RES(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &on, &(socklen_t){sizeof on}));
    say("type %d\n", on);
    RES(shutdown(s[0], SHUT_WR));
    RES(recv(s[1], b, 1, MSG_DONTWAIT));
    RES(close(s[0]));
    RES(close(s[1]));
}

static void
udp(void)
{
    char b[100];
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int s = (int)CK(socket(AF_INET, SOCK_DGRAM, 0)), c = (int)CK(socket(AF_INET, SOCK_DGRAM, 0));
    RES(bind(s, (struct sockaddr *)&a, len));
    RES(getsockname(s, (struct sockaddr *)&a, &len));
    RES(sendto(c, "datagram", 8, 0, (struct sockaddr *)&a, len));
    RES(recvfrom(s, b, 3, MSG_TRUNC, NULL, NULL));
    RES(connect(c, (struct sockaddr *)&a, len));
    RES(write(c, "again", 5));
    RES(read(s, b, 100));
    RES(listen(s, 1));
    RES(accept(s, NULL, NULL));
    RES(recv(s, b, 10, MSG_DONTWAIT));
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    RES(connect(c, &none, sizeof none));
    RES(write(c, "again", 5));
    RES(close(s));
    RES(close(c));
}

static void
others(void)
{
    uint64_t v = 5;
    struct epoll_event e = {.events = EPOLLIN};
    struct itimerspec it = {.it_value.tv_nsec = 1000000};
    fd_set in;
    int ev = (int)CK(eventfd(0, EFD_NONBLOCK)), ep = (int)CK(epoll_create1(0)),
        tf = (int)CK(timerfd_create(CLOCK_MONOTONIC, 0));
    RES(read(ev, &v, 8));
    RES(epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e));
    RES(epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e));
    RES(epoll_wait(ep, &e, 1, 0));
    RES(write(ev, &v, 8));
    RES(epoll_wait(ep, &e, 1, 0));
    RES(epoll_wait(ep, &e, 0, 0));
    RES(timerfd_settime(tf, 0, &it, NULL));
    RES(read(tf, &v, 8));
    FD_ZERO(&in);
    FD_SET(ev, &in);
    RES(select(ev + 1, &in, NULL, NULL, NULL));
    RES(poll(NULL, 0, 1));
    RES(epoll_ctl(ep, EPOLL_CTL_DEL, ev, NULL));
    RES(close(ev));
    RES(close(ep));
    RES(close(tf));
    RES(close(-1));
    RES(dup(-1));
    RES(dup2(-1, 5));
    RES(read(-1, &v, 8));
    RES(read(100000, &v, 8));
    RES(fcntl(-1, F_GETFL));
    RES(ioctl(-1, FIONREAD, &v));
    RES(syscall(SYS_close, -1));
}

int
main(void)
{
    say("start-up\n");
    fflush(stdout);
    trace_begin();
    files();
    pipes();
    sockets(SOCK_STREAM);
    sockets(SOCK_DGRAM);
    sockets(SOCK_SEQPACKET);
    udp();
    others();
    trace_end();
    return 0;
}
