/* SPDX-License-Identifier: Apache-2.0
 *
 * cancel_calls: which calls are cancellation points though they need not sleep, and that these did nothing then
 * [pthreads(7)].
 */
/* run: timeout 60 */
/* run: noasan */
#include "app.h"

static int c, s, lfd, ep, idle;
static char b[64];
static struct iovec v = {b, 1};
static struct mmsghdr mm = {.msg_hdr = {.msg_iov = &v, .msg_iovlen = 1}};
static struct epoll_event ev = {.events = EPOLLOUT};
static struct timespec zero, moment = {0, 1};

static int
select_on(int how)
{
    fd_set w;
    struct timeval tv = {0, 0};
    FD_ZERO(&w);
    FD_SET(c, &w);
    return how ? pselect(c + 1, NULL, &w, NULL, &zero, NULL) : select(c + 1, NULL, &w, NULL, &tv);
}

static int
poll_on(int how)
{
    struct pollfd p = {c, POLLOUT, 0};
    return how ? ppoll(&p, 1, &zero, NULL) : poll(&p, 1, 0);
}

static int
options(void)
{
    int x = 0;
    socklen_t l = sizeof x;
    CK(getsockopt(c, SOL_SOCKET, SO_ERROR, &x, &l));
    return setsockopt(c, SOL_SOCKET, SO_KEEPALIVE, &x, sizeof x);
}

static int
connect_to(int family)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    return connect(idle, family == AF_INET ? (struct sockaddr *)&app_addr : &none, sizeof app_addr);
}

static int
new_listener(void)
{
    struct sockaddr_in a;
    int fd = app_listen_at(INADDR_LOOPBACK, 5, &a);
    return close_range((unsigned)fd, (unsigned)fd, 0);
}

static int
in_range(void)
{
    int fd = dup(c);
    CK(dup2(0, fd));
    return close_range((unsigned)fd, (unsigned)fd, 0);
}

static int
count(void)
{
    int n;
    return ioctl(c, FIONREAD, &n);
}

#define CALLS(X)                                                                                   \
    X(write, write(c, b, 1))                                                                       \
    X(send, send(c, b, 1, 0))                                                                      \
    X(sendto, sendto(c, b, 1, 0, NULL, 0))                                                         \
    X(sendmsg, sendmsg(c, &mm.msg_hdr, 0))                                                         \
    X(sendmmsg, sendmmsg(c, &mm, 1, 0))                                                            \
    X(writev, writev(c, &v, 1))                                                                    \
    X(pwritev2, pwritev2(c, &v, 1, -1, 0))                                                         \
    X(read, read(c, b, 1))                                                                         \
    X(recv, recv(c, b, 1, 0))                                                                      \
    X(recvfrom, recvfrom(c, b, 1, 0, NULL, NULL))                                                  \
    X(recvmsg, recvmsg(c, &mm.msg_hdr, 0))                                                         \
    X(recvmmsg, recvmmsg(c, &mm, 1, 0, NULL))                                                      \
    X(readv, readv(c, &v, 1))                                                                      \
    X(preadv2, preadv2(c, &v, 1, -1, 0))                                                           \
    X(splice, splice(c, NULL, lfd, NULL, 1, SPLICE_F_NONBLOCK))                                    \
    X(sendfile, sendfile(c, ep, NULL, 1))                                                          \
    X(poll, poll_on(0))                                                                            \
    X(ppoll, poll_on(1))                                                                           \
    X(select, select_on(0))                                                                        \
    X(pselect, select_on(1))                                                                       \
    X(epoll_wait, epoll_wait(ep, &ev, 1, 0))                                                       \
    X(epoll_pwait, epoll_pwait(ep, &ev, 1, 0, NULL))                                               \
    X(epoll_ctl, epoll_ctl(ep, EPOLL_CTL_MOD, c, &ev))                                             \
    X(usleep, usleep(1))                                                                           \
    X(nanosleep, nanosleep(&moment, NULL))                                                         \
    X(clock_nanosleep, clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL))                         \
    X(waitpid, waitpid(-1, NULL, WNOHANG))                                                         \
    X(fcntl, fcntl(c, F_GETFL))                                                                    \
    X(options, options())                                                                          \
    X(count, count())                                                                              \
    X(connect, connect_to(AF_INET))                                                                \
    X(disconnect, connect_to(AF_UNSPEC))                                                           \
    X(accept, accept(lfd, NULL, NULL))                                                             \
    X(accept4, accept4(lfd, NULL, NULL, 0))                                                        \
    X(listen_again, listen(lfd, 9))                                                                \
    X(listen, listen(idle, 9))                                                                     \
    X(listen_and_close, new_listener())                                                            \
    X(close, close(dup(c)))                                                                        \
    X(dup2, dup2(lfd, dup(0)))                                                                     \
    X(close_range, in_range())                                                                     \
    X(shutdown_in, shutdown(c, SHUT_RD))                                                           \
    X(shutdown_out, shutdown(c, SHUT_WR))

#define FUNCTION(name, call)                                                                       \
    static void do_##name(void)                                                                    \
    {                                                                                              \
        (void)!(call);                                                                             \
    }
CALLS(FUNCTION)

#define ENTRY(name, call) {#name, do_##name},
static const struct {
    const char *name;
    void (*call)(void);
} calls[] = {CALLS(ENTRY)};

static void *
run(void *call)
{
    int old;
    void (*fn)(void);
    memcpy(&fn, call, sizeof fn);
    MUST(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old) == 0);
    MUST(pthread_cancel(pthread_self()) == 0);
    MUST(pthread_setcancelstate(old, NULL) == 0);
    fn();
    return NULL;
}

int
main(void)
{
    app_pair(&c, &s);
    lfd = app_listen();
    idle = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    ep = (int)CK(epoll_create1(0));
    app_epoll_add(ep, c, EPOLLOUT);
    app_put(s, "hello, world; hello, world", 26);
    app_arrived(c, 26);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        pthread_t t;
        void *end;
        int left;
        if (strncmp(calls[i].name, "accept", 6) == 0)
            (void)app_connect();
        MUST(pthread_create(&t, NULL, run, (void *)&calls[i].call) == 0);
        MUST(pthread_join(t, &end) == 0);
        CK(ioctl(c, FIONREAD, &left));
        say("%s: %s, %d left\n", calls[i].name, end == PTHREAD_CANCELED ? "cancelled" : "done", left);
    }
    app_drain(s, 0);
    return 0;
}
