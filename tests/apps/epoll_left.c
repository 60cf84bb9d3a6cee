/* SPDX-License-Identifier: Apache-2.0
 *
 * epoll_left: a descriptor that is in a set is closed while its connection is under way, and a duplicate keeps the
 * connection: the set goes on to tell of it [epoll(7)], with the program's data, and nobody spins.
 */
/* run: modes level edge */
#include "app.h"

static int gate;

static void
server(int lfd)
{
    app_pass(gate);
    int fd = (int)CK(accept(lfd, NULL, NULL));
    app_pass(gate);
    app_put(fd, "hello", 5);
    CK(close(fd));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    struct epoll_event e = {.data.u64 = 4711};
    char b[8];
    app_main(argc, argv);
    gate = app_gate();
    int lfd = app_listen(), ep = (int)CK(epoll_create1(0));
    app_start_fork(&t, server, lfd);
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) < 0 && errno == EINPROGRESS);
    e.events = EPOLLIN | (strcmp(app_mode, "edge") == 0 ? (unsigned)EPOLLET : 0);
    CK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    say("poll %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
    int copy = (int)CK(dup(fd));
    CK(close(fd));
    app_open(gate);
    MUST(app_poll(copy, POLLOUT, APP_WAIT) == POLLOUT);
    app_open(gate);
    MUST(app_poll(copy, POLLIN, APP_WAIT) == POLLIN);
    e = (struct epoll_event){0};
    say("epoll %d\n", (int)CK(epoll_wait(ep, &e, 1, APP_WAIT)));
    say("%s of %d\n", app_events(e.events), (int)e.data.u64);
    say("got %zu\n", app_get(copy, b, 5));
    app_join(&t, "server");
    return 0;
}
