/* SPDX-License-Identifier: Apache-2.0
 *
 * connect_service: bare, a server listens at the address. Meshed (meshd.conf), the address is a
 * service's, and of its four endpoints one refuses, one does not answer, one is somebody else, and one
 * is the server: the program sees the same. Blocking and non-blocking, with each readiness interface.
 */
/* run: timeout 90 */
#include "app.h"

#include <stdbool.h>

#define ROUNDS 4

enum how { BLOCK, TIMED, POLL, SELECT, LEVEL, EDGE, ONESHOT, EXCLUSIVE, HOWS };
static const char *const names[] = {"blocking",    "blocking, SO_SNDTIMEO", "poll",          "select",
                                    "epoll level", "epoll edge",            "epoll oneshot", "epoll exclusive"};

static struct sockaddr_in
at(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(0x7f470001)};
}

static int
listen_at(int port, int backlog)
{
    struct sockaddr_in sa = at(port);
    int one = 1, fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    CK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    CK(bind(fd, (struct sockaddr *)&sa, sizeof sa));
    CK(listen(fd, backlog));
    return fd;
}

/* Each side is a process of its own that says when it listens. */
static void
good(int gate)
{
    char b[64];
    struct pollfd p[2] = {{listen_at(21000, 50), POLLIN, 0}, {listen_at(21003, 50), POLLIN, 0}};
    app_open(gate);
    for (;;) {
        CK(poll(p, 2, -1));
        int fd = accept(p[0].revents ? p[0].fd : p[1].fd, NULL, NULL);
        size_t n = fd < 0 ? 0 : app_get(fd, b, 20);
        if (n == 20)
            app_put(fd, b, n);
        close(fd);
    }
}

static void
full(int gate)
{
    struct sockaddr_in sa = at(21002);
    (void)listen_at(21002, 0);
    for (int i = 0; i < 4; i++) {
        int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        (void)connect(fd, (struct sockaddr *)&sa, sizeof sa);
        app_poll(fd, POLLOUT, 100);
    }
    app_open(gate);
    for (;;)
        pause();
}

static void
stranger(int gate)
{
    char b[8];
    int lfd = listen_at(21004, 50);
    app_open(gate);
    for (;;) {
        int fd = accept(lfd, NULL, NULL);
        if (fd >= 0)
            (void)!read(fd, b, sizeof b);
        close(fd);
    }
}

static pid_t
side(void (*fn)(int))
{
    int gate = app_gate();
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        if (fn == stranger) {
            char n[16];
            snprintf(n, sizeof n, "%d", gate);
            setenv("LIBMESH_SERVICE", "stranger", 1);
            execl("/proc/self/exe", "connect_service", n, NULL);
            _exit(1);
        }
        fn(gate);
    }
    app_pass(gate);
    return pid;
}

static unsigned
wait_epoll(int ep, int fd)
{
    struct epoll_event e = {0};
    int n = (int)CK(epoll_wait(ep, &e, 1, APP_WAIT));
    if (n && e.data.fd != fd)
        say("event with foreign data\n");
    return n ? e.events : 0;
}

static unsigned
wait_select(int fd)
{
    fd_set in, out;
    struct timeval tv = {APP_WAIT / 1000, 0};
    FD_ZERO(&in);
    FD_SET(fd, &in);
    out = in;
    CK(select(fd + 1, &in, &out, NULL, &tv));
    return (FD_ISSET(fd, &in) ? POLLIN : 0u) | (FD_ISSET(fd, &out) ? POLLOUT : 0u);
}

static void
wait_for(enum how how, int ep, int fd)
{
    unsigned got = how == POLL     ? app_poll(fd, POLLIN | POLLOUT | POLLRDHUP, APP_WAIT)
                   : how == SELECT ? wait_select(fd)
                                   : wait_epoll(ep, fd);
    say("events %s\n", app_events(got));
    if (how == EDGE || how == ONESHOT) {
        struct epoll_event e;
        RES(epoll_wait(ep, &e, 1, APP_QUIET));
    }
}

static void
one(enum how how, int before)
{
    static const unsigned bits[HOWS] = {[LEVEL] = EPOLLIN | EPOLLOUT | EPOLLRDHUP,
                                        [EDGE] = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                        [ONESHOT] = EPOLLIN | EPOLLOUT | EPOLLONESHOT,
                                        [EXCLUSIVE] = EPOLLIN | EPOLLOUT | EPOLLEXCLUSIVE};
    struct sockaddr_in sa = at(21000), peer;
    socklen_t len = sizeof peer;
    struct timeval tv = {20, 0};
    char b[64];
    bool block = how <= TIMED;
    int ep = (int)CK(epoll_create1(0));
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | (block ? 0 : SOCK_NONBLOCK), 0));
    int flags = (int)CK(fcntl(fd, F_GETFL));
    if (how == TIMED)
        CK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv));
    if (before && bits[how]) {
        app_epoll_add(ep, fd, bits[how]);
        struct epoll_event e; /* of a socket that is not connected */
        MUST(epoll_wait(ep, &e, 1, 0) == 1);
        if (how == ONESHOT) {
            e = (struct epoll_event){.events = bits[how], .data.fd = fd};
            CK(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
        }
    }
    RES(connect(fd, (struct sockaddr *)&sa, sizeof sa));
    if (!before && bits[how])
        app_epoll_add(ep, fd, bits[how]);
    if (!block)
        wait_for(how, ep, fd);
    say("SO_ERROR %s\n", app_so_error_name(fd));
    RES(connect(fd, (struct sockaddr *)&sa, sizeof sa));
    RES(getpeername(fd, (struct sockaddr *)&peer, &len));
    say("peer is %s\n", memcmp(&peer, &sa, len) ? "ANOTHER" : "the address asked for");
    memset(&peer, 'x', sizeof peer);
    len = 6;
    RES(getpeername(fd, (struct sockaddr *)&peer, &len));
    say("cut: %u, %d, %x\n", len, memcmp(&peer, &sa, 6), ((unsigned char *)&peer)[6]);
    say("flags %s\n", (int)CK(fcntl(fd, F_GETFL)) == flags ? "as before" : "DIFFER");
    app_fill(b, sizeof b, 0);
    RES(send(fd, b, 20, 0));
    app_poll(fd, POLLIN, APP_WAIT);
    RES(recv(fd, b, sizeof b, 0));
    say("match %zu\n", app_match(b, 20, 0));
    CK(close(fd));
    CK(close(ep));
}

/* An IPv6 socket that reaches IPv4, as dual-stack programs have it. */
static void
mapped(void)
{
    struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_port = htons(21000)}, peer = {0};
    struct sockaddr_storage own;
    socklen_t len = sizeof peer;
    char b[64];
    inet_pton(AF_INET6, "::ffff:127.71.0.1", &sa.sin6_addr);
    int fd = (int)CK(socket(AF_INET6, SOCK_STREAM, 0)), one = 1;
    RES(connect(fd, (struct sockaddr *)&sa, sizeof sa));
    RES(getpeername(fd, (struct sockaddr *)&peer, &len));
    say("peer is %s, of %u bytes\n", memcmp(&peer, &sa, sizeof sa) ? "ANOTHER" : "the address asked for", len);
    len = sizeof own;
    RES(getsockname(fd, (struct sockaddr *)&own, &len));
    say("family %d, %u bytes\n", own.ss_family, len);
    app_fill(b, sizeof b, 0);
    RES(send(fd, b, 20, 0));
    RES(recv(fd, b, sizeof b, MSG_WAITALL));
    CK(close(fd));
    fd = (int)CK(socket(AF_INET6, SOCK_STREAM, 0));
    CK(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one));
    say("IPv6 only: %s\n", connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0 ? "unreachable" : "connected");
    CK(close(fd));
}

int
main(int argc, char **argv)
{
    if (argc > 1)
        stranger(atoi(argv[1]));
    pid_t pid[] = {side(good), side(full), side(stranger)};
    for (int how = 0; how < HOWS; how++) {
        say("%s\n", names[how]);
        for (int i = 0; i < ROUNDS; i++)
            one((enum how)how, i % 2);
    }
    for (int i = 0; i < ROUNDS; i++)
        mapped();
    for (int i = 0; i < 3; i++) {
        CK(kill(pid[i], SIGKILL));
        CK(waitpid(pid[i], NULL, 0));
    }
    return 0;
}
