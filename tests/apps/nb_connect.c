/* SPDX-License-Identifier: Apache-2.0
 *
 * nb_connect: a non-blocking connect, waited for by each readiness interface, registered before
 * the connect and after it. An edge-triggered or one-shot wait must not report anything twice.
 */
/* run: modes thread fork */
#include "app.h"

enum how { POLL, PPOLL, SELECT, PSELECT, LEVEL, EDGE, ONESHOT, EXCLUSIVE, PWAIT, HOWS };
static const char *const names[] = {"poll",          "ppoll",           "select",
                                    "pselect",       "epoll level",     "epoll edge",
                                    "epoll oneshot", "epoll exclusive", "epoll_pwait2"};

static unsigned
wait_select(enum how how, int fd, int ms)
{
    fd_set in, out, err;
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
    sigset_t none;
    sigemptyset(&none);
    FD_ZERO(&in);
    FD_SET(fd, &in);
    out = err = in;
    if (how == SELECT)
        CK(select(fd + 1, &in, &out, &err, &tv));
    else
        CK(pselect(fd + 1, &in, &out, &err, &ts, &none));
    return (FD_ISSET(fd, &in) ? POLLIN : 0u) | (FD_ISSET(fd, &out) ? POLLOUT : 0u) |
           (FD_ISSET(fd, &err) ? POLLPRI : 0u);
}

static unsigned
wait_epoll(enum how how, int ep, int fd, int ms)
{
    struct epoll_event e = {0};
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
    int n = (int)(how == PWAIT ? CK(epoll_pwait2(ep, &e, 1, &ts, NULL))
                               : CK(epoll_wait(ep, &e, 1, ms)));
    if (n && e.data.fd != fd)
        say("event with foreign data\n");
    return n ? e.events : 0;
}

static unsigned
wait_by(enum how how, int ep, int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
    if (how >= LEVEL)
        return wait_epoll(how, ep, fd, ms);
    if (how >= SELECT)
        return wait_select(how, fd, ms);
    if (how == POLL)
        CK(poll(&p, 1, ms));
    else
        CK(ppoll(&p, 1, &ts, NULL));
    return (unsigned)p.revents;
}

static unsigned
flags(enum how how)
{
    unsigned base = EPOLLIN | EPOLLOUT;
    return how == EDGE        ? base | EPOLLET | EPOLLRDHUP
           : how == ONESHOT   ? base | EPOLLONESHOT
           : how == EXCLUSIVE ? base | EPOLLEXCLUSIVE
                              : base | EPOLLRDHUP;
}

static void
rearm(enum how how, int ep, int fd)
{
    struct epoll_event e = {.events = flags(how), .data.fd = fd};
    if (how == ONESHOT)
        RES(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
}

static void
one(enum how how, int before)
{
    struct sockaddr_in peer;
    socklen_t len = sizeof peer;
    char b[64];
    int ep = (int)CK(epoll_create1(EPOLL_CLOEXEC));
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    say("%s, registered %s\n", names[how], before ? "before" : "after");
    RES(getpeername(fd, (struct sockaddr *)&peer, &len));
    if (before && how >= LEVEL) {
        app_epoll_add(ep, fd, flags(how));
        say("unconnected: %s\n", app_events(wait_by(how, ep, fd, 0)));
        rearm(how, ep, fd);
    }
    RES(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
    if (!before && how >= LEVEL)
        app_epoll_add(ep, fd, flags(how));
    say("connected: %s\n", app_events(wait_by(how, ep, fd, APP_WAIT)));
    say("SO_ERROR %s\n", app_so_error_name(fd));
    len = sizeof peer;
    RES(getpeername(fd, (struct sockaddr *)&peer, &len));
    say("peer is %s\n", memcmp(&peer, &app_addr, len) ? "ANOTHER" : "the address asked for");
    if (how == EDGE || how == ONESHOT)
        say("again: %s\n", app_events(wait_by(how, ep, fd, APP_QUIET)));
    app_fill(b, sizeof b, 0);
    RES(write(fd, b, 20));
    rearm(how, ep, fd);
    say("readable: %s\n", app_events(app_poll(fd, POLLIN, APP_WAIT)));
    say("wait says %s\n", app_events(wait_by(how, ep, fd, APP_WAIT)));
    RES(read(fd, b, sizeof b));
    RES(read(fd, b, sizeof b));
    if (how == EDGE)
        say("drained: %s\n", app_events(wait_by(how, ep, fd, APP_QUIET)));
    CK(close(fd));
    CK(close(ep));
}

static void
server(int lfd)
{
    char b[64];
    for (int i = 0; i < 2 * HOWS; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        size_t n = app_get(fd, b, 20);
        app_put(fd, b, n);
        say("served %zu, then %zd\n", n, read(fd, b, sizeof b));
        close(fd);
    }
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    int lfd = app_listen();
    app_start(&t, server, lfd);
    for (int how = 0; how < HOWS; how++)
        for (int before = 0; before < 2; before++)
            one((enum how)how, before);
    app_join(&t, "server");
    return 0;
}
