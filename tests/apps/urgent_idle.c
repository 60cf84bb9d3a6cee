/* SPDX-License-Identifier: Apache-2.0
 *
 * urgent_idle: a connection that has had urgent data is put into a set of epoll anew, or again, to wait for bytes: an urgent
 * one is none [tcp(7)].
 */
/* run: modes anew again */
#include "app.h"

#define ROUNDS 3

static int go;

static void
server(int lfd)
{
    int fd = (int)CK(accept(lfd, NULL, NULL));
    for (int i = 0; i < ROUNDS; i++) {
        app_put(fd, "text", 4);
        app_pass(go);
        CK(send(fd, "!", 1, MSG_OOB));
    }
    app_pass(go);
    CK(close(fd));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    char b[10];
    app_main(argc, argv);
    go = app_gate();
    int lfd = app_listen(), again = strcmp(app_mode, "again") == 0, ep = -1;
    app_start_fork(&t, server, lfd);
    int fd = app_connect();
    for (int i = 0; i < ROUNDS; i++) {
        struct epoll_event e = {.events = EPOLLIN | EPOLLONESHOT};
        say("got %zu\n", app_get(fd, b, 4));
        if (i == 0 || !again)
            ep = (int)CK(epoll_create1(0));
        app_open(go);
        say("urgent %s\n", app_events(app_poll(fd, POLLPRI, APP_WAIT)));
        CK(epoll_ctl(ep, i == 0 || !again ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &e));
        say("epoll %d\n", (int)CK(epoll_wait(ep, &e, 1, APP_QUIET)));
        RES(recv(fd, b, 1, MSG_OOB));
        if (!again)
            CK(close(ep));
    }
    app_open(go);
    CK(close(fd));
    app_join(&t, "server");
    return 0;
}
