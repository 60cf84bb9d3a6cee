/* SPDX-License-Identifier: Apache-2.0
 *
 * half_hello: what a client that libmesh is not in says begins as a ClientHello does, and does not go on. When a handshake
 * would have failed it is the program's: to a server that reads, or waits with poll or a set of epoll before.
 */
/* run: modes read poll epoll */
/* run: nomesh */
/* run: config handshake_timeout = "1s"; */
#include "app_bare.h"

static int heard;

static void
client(int unused)
{
    char b[10];
    (void)unused;
    int fd = app_bare_client();
    CK(write(fd, "\x16\x03\x01", 3));
    app_pass(heard);
    say("got %zu\n", app_get(fd, b, sizeof b));
    CK(close(fd));
}

static void
serve(int fd)
{
    char b[10];
    if (strcmp(app_mode, "poll") == 0)
        say("poll %s\n", app_events(app_poll(fd, POLLIN | POLLRDHUP, APP_WAIT)));
    if (strcmp(app_mode, "epoll") == 0) {
        struct epoll_event e;
        int ep = (int)CK(epoll_create1(0));
        app_nonblock(fd, 1);
        app_epoll_add(ep, fd, EPOLLIN | EPOLLRDHUP);
        MUST(CK(epoll_wait(ep, &e, 1, APP_WAIT)) == 1);
        say("epoll %s\n", app_events(e.events));
        CK(close(ep));
    }
    RES(read(fd, b, sizeof b));
    RES(write(fd, "hello", 5));
    app_open(heard);
    CK(close(fd));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    heard = app_gate();
    int lfd = app_listen();
    app_start_fork(&t, client, -1);
    serve((int)CK(accept(lfd, NULL, NULL)));
    app_join(&t, "client");
    return 0;
}
