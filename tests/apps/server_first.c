/* SPDX-License-Identifier: Apache-2.0
 *
 * server_first: the server greets on accept (MySQL, SMTP, SSH), blocking, non-blocking after
 * EPOLLOUT, edge-triggered; then the client speaks first. Bounded wake-ups.
 */
/* run: modes thread fork */
#include "app.h"

#define GREET 90

static void
greet_blocking(int fd)
{
    char b[GREET];
    app_fill(b, sizeof b, 0);
    RES(write(fd, b, sizeof b));
    say("got %zu\n", app_get(fd, b, 30));
    say("match %zu\n", app_match(b, 30, 500));
    RES(read(fd, b, 1));
}

/* Waits for EPOLLOUT, greets, waits for EPOLLIN; counts what epoll reports. */
static void
greet_epoll(int fd, unsigned edge)
{
    char b[GREET];
    struct epoll_event e = {0};
    int ep = (int)CK(epoll_create1(0)), wakeups = 0, state = 0;
    app_fill(b, sizeof b, 0);
    app_nonblock(fd, 1);
    app_epoll_add(ep, fd, EPOLLOUT | EPOLLIN | EPOLLRDHUP | edge);
    while (state < 3) {
        CK(epoll_wait(ep, &e, 1, APP_WAIT));
        wakeups++;
        if (state == 0 && (e.events & EPOLLOUT)) {
            RES(send(fd, b, sizeof b, 0));
            e.events = EPOLLIN | EPOLLRDHUP | edge;
            RES(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
            state = 1;
        } else if (state >= 1 && (e.events & EPOLLIN)) {
            ssize_t r = 0;
            while ((r = recv(fd, b, sizeof b, 0)) > 0)
                say("got %zd match %zu\n", r, app_match(b, (size_t)r, 500));
            state = r == 0 ? 3 : 2;
        }
    }
    say("wake-ups %s\n", wakeups <= 5 ? "ok" : "bad");
    close(ep);
}

static void
greet_level(int fd)
{
    greet_epoll(fd, 0);
}

static void
greet_edge(int fd)
{
    greet_epoll(fd, EPOLLET);
}

/* Writes at once after accept, no wait for anything. */
static void
greet_at_once(int fd)
{
    char b[GREET];
    app_fill(b, sizeof b, 0);
    app_nonblock(fd, 1);
    RES(write(fd, b, sizeof b));
    say("poll %s\n", app_events(app_poll(fd, POLLIN, APP_WAIT)));
    RES(read(fd, b, sizeof b));
    say("poll %s\n", app_events(app_poll(fd, POLLIN, APP_WAIT)));
    RES(read(fd, b, sizeof b));
}

static void
client(int fd)
{
    char b[GREET];
    say("got %zu\n", app_get(fd, b, sizeof b));
    say("match %zu\n", app_match(b, sizeof b, 0));
    app_fill(b, 30, 500);
    RES(write(fd, b, 30));
}

static void
server_second(int fd)
{
    char b[GREET];
    say("got %zu\n", app_get(fd, b, 30));
    say("match %zu\n", app_match(b, 30, 500));
    app_fill(b, sizeof b, 0);
    RES(write(fd, b, sizeof b));
    RES(read(fd, b, 1));
}

static void
client_first(int fd)
{
    char b[GREET];
    app_fill(b, 30, 500);
    RES(write(fd, b, 30));
    say("got %zu\n", app_get(fd, b, sizeof b));
    say("match %zu\n", app_match(b, sizeof b, 0));
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_talk("server first, blocking", greet_blocking, client);
    app_talk("server first, level", greet_level, client);
    app_talk("server first, edge", greet_edge, client);
    app_talk("server first, at once", greet_at_once, client);
    app_talk("client first", server_second, client_first);
    return 0;
}
