/* SPDX-License-Identifier: Apache-2.0
 *
 * backlog_self: connect and accept in one thread, one after the other: the kernel's backlog
 * completes a connection before anyone accepts it. Blocking, non-blocking, all in one epoll set,
 * with and without bytes sent before the accept.
 */
#include "app.h"

static int lfd;
static char big[2 << 20];

static void
talk(int c, int s)
{
    char b[5000];
    app_fill(b, sizeof b, 3);
    RES(write(c, b, sizeof b));
    memset(b, 0, sizeof b);
    say("got %zu\n", app_get(s, b, sizeof b));
    say("match %zu\n", app_match(b, sizeof b, 3));
    RES(write(s, b, 100));
    say("got %zu\n", app_get(c, b, 100));
    CK(close(c));
    RES(read(s, b, sizeof b));
    CK(close(s));
}

static void
blocking(void)
{
    say("-- blocking\n");
    int c = app_connect(), s = (int)CK(accept(lfd, NULL, NULL));
    talk(c, s);
    say("-- sent before the accept\n");
    c = app_connect();
    app_fill(big, 40000, 0);
    RES(write(c, big, 40000));
    s = (int)CK(accept(lfd, NULL, NULL));
    say("got %zu\n", app_get(s, big, 40000));
    say("match %zu\n", app_match(big, 40000, 0));
    talk(c, s);
    say("-- server speaks first\n");
    c = app_connect();
    s = (int)CK(accept(lfd, NULL, NULL));
    talk(s, c);
}

static int
start_connect(void)
{
    int c = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    RES(connect(c, (struct sockaddr *)&app_addr, sizeof app_addr));
    return c;
}

static void
nonblocking(void)
{
    char b[10];
    say("-- non-blocking, accepted first\n");
    int c = start_connect();
    say("listener %s\n", app_events(app_poll(lfd, POLLIN, APP_WAIT)));
    int s = (int)CK(accept4(lfd, NULL, NULL, SOCK_NONBLOCK));
    say("client %s\n", app_events(app_poll(c, POLLOUT, APP_WAIT)));
    say("SO_ERROR %s\n", app_so_error_name(c));
    RES(read(s, b, sizeof b));
    RES(read(c, b, sizeof b));
    RES(write(c, "abc", 3));
    say("server %s\n", app_events(app_poll(s, POLLIN, APP_WAIT)));
    RES(read(s, b, sizeof b));
    CK(close(s));
    say("client %s\n", app_events(app_poll(c, POLLIN, APP_WAIT)));
    RES(read(c, b, sizeof b));
    CK(close(c));

    say("-- non-blocking, connected first\n");
    c = start_connect();
    say("client %s\n", app_events(app_poll(c, POLLOUT, APP_WAIT)));
    say("SO_ERROR %s\n", app_so_error_name(c));
    RES(write(c, "abc", 3));
    RES(read(c, b, sizeof b));
    s = (int)CK(accept(lfd, NULL, NULL));
    RES(recv(s, b, 3, MSG_WAITALL));
    app_nonblock(c, 0);
    talk(c, s);
}

/* Listener, client and server in one epoll set, edge-triggered; the loop never blocks for long. */
static void
one_loop(void)
{
    struct epoll_event e = {0};
    int ep = (int)CK(epoll_create1(0)), c = 0, s = -1, wakeups = 0;
    char b[64];
    size_t got = 0, back = 0;
    say("-- one loop\n");
    app_nonblock(lfd, 1);
    app_epoll_add(ep, lfd, EPOLLIN | EPOLLET);
    c = start_connect();
    app_epoll_add(ep, c, EPOLLIN | EPOLLOUT | EPOLLET);
    int sent = 0;
    while (back < 20) {
        MUST(epoll_wait(ep, &e, 1, APP_WAIT) == 1);
        wakeups++;
        if (e.data.fd == lfd) {
            s = (int)CK(accept4(lfd, NULL, NULL, SOCK_NONBLOCK));
            app_epoll_add(ep, s, EPOLLIN | EPOLLOUT | EPOLLET);
            continue;
        }
        if (e.data.fd == c && (e.events & EPOLLOUT) && !sent)
            sent = (int)RES(write(c, "0123456789", 10));
        ssize_t r = read(e.data.fd, b, sizeof b);
        if (r < 0) {
            MUST(errno == EAGAIN);
        } else if (e.data.fd == s) {
            got += (size_t)r;
            app_put(s, b, (size_t)r);
            app_put(s, b, (size_t)r);
        } else {
            back += (size_t)r;
        }
    }
    say("got %zu, back %zu, wake-ups %s\n", got, back, wakeups <= 10 ? "ok" : "bad");
    app_nonblock(lfd, 0);
    close(ep);
    close(s);
    RES(recv(c, b, 1, MSG_DONTWAIT | MSG_PEEK) == 0 || errno == EAGAIN ? 0 : -1);
    close(c);
}

/* As much as it takes, before anyone accepted. */
static void
full(void)
{
    size_t taken = 0;
    say("-- full before the accept\n");
    int c = app_connect();
    app_nonblock(c, 1);
    app_fill(big, sizeof big, 0);
    while (taken < sizeof big) {
        ssize_t r = write(c, big + taken, sizeof big - taken > 10000 ? 10000 : sizeof big - taken);
        if (r < 0)
            break;
        taken += (size_t)r;
    }
    say("took %s\n", taken >= 32768 ? "some" : "little");
    say("poll %s\n", taken < sizeof big ? app_events(app_poll(c, POLLOUT, 0)) : "none");
    int s = (int)CK(accept(lfd, NULL, NULL));
    app_nonblock(c, 0);
    CK(shutdown(c, SHUT_WR));
    memset(big, 0, sizeof big);
    size_t n = app_get(s, big, taken);
    say("%s, %s\n", n == taken ? "all" : "NOT ALL", app_match(big, n, 0) == n ? "right" : "WRONG");
    RES(read(s, big, 1));
    CK(close(c));
    CK(close(s));
}

int
main(void)
{
    lfd = app_listen();
    blocking();
    nonblocking();
    one_loop();
    full();
    return 0;
}
