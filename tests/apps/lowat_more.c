/* SPDX-License-Identifier: Apache-2.0
 *
 * lowat_more: SO_RCVLOWAT set by the program holds back readiness, counted in the program's own
 * bytes; MSG_MORE and TCP_CORK hold back sending until the last piece.
 */
/* run: modes thread fork */
#include "app.h"

static int gate;

static void
sender(int fd)
{
    char b[1000];
    int on = 1, off = 0;
    app_fill(b, sizeof b, 0);
    for (int i = 0; i < 4; i++) {
        app_pass(gate);
        RES(send(fd, b, 100, 0));
    }
    app_pass(gate);
    RES(send(fd, b, 200, MSG_MORE));
    RES(send(fd, b + 200, 300, MSG_MORE));
    RES(send(fd, b + 500, 500, 0));
    app_pass(gate);
    RES(setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on));
    RES(write(fd, b, 400));
    RES(write(fd, b + 400, 600));
    RES(setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof off));
    app_pass(gate);
    RES(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    RES(send(fd, b, 500, MSG_MORE));
    CK(shutdown(fd, SHUT_WR));
    app_get(fd, b, 1);
}

static void
receiver(int fd)
{
    char b[1000];
    int low = 250;
    struct epoll_event e = {0};
    int ep = (int)CK(epoll_create1(0));
    RES(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
    low = 0;
    RES(getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, &(socklen_t){sizeof low}));
    say("SO_RCVLOWAT %d\n", low);
    app_epoll_add(ep, fd, EPOLLIN);
    for (int i = 0; i < 4; i++) {
        app_open(gate);
        say("arrived %d\n", app_arrived(fd, (i + 1) * 100));
        say("poll %s, epoll %ld\n", app_events(app_poll(fd, POLLIN, 0)),
            CK(epoll_wait(ep, &e, 1, 0)));
    }
    RES(recv(fd, b, 300, 0));
    say("poll %s\n", app_events(app_poll(fd, POLLIN, 0)));
    RES(recv(fd, b, 1000, MSG_DONTWAIT));
    low = 1;
    RES(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
    for (int i = 0; i < 2; i++) {
        app_open(gate);
        RES(recv(fd, b, 1000, MSG_WAITALL));
        say("match %zu\n", app_match(b, 1000, 0));
    }
    app_open(gate);
    app_drain(fd, 0);
    close(ep);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    gate = app_gate();
    app_talk("low-water mark, MSG_MORE, TCP_CORK", receiver, sender);
    return 0;
}
