/* SPDX-License-Identifier: Apache-2.0
 *
 * edge_opened: an edge-triggered client that is told it is connected before the server accepts hears nothing more
 * until there is something to read, whichever thread finishes the handshake meanwhile: others of the process wait, too,
 * and drive it.
 */
/* run: config accept_grace = "1ms"; */
#include "app.h"

#define TIMES 150
#define OTHERS 3

static _Atomic int over;
static int told;

static void *
other(void *arg)
{
    struct pollfd p = {.fd = *(int *)arg, .events = POLLIN};
    while (!over)
        CK(poll(&p, 1, 1));
    return NULL;
}

static void
server(int lfd)
{
    for (int i = 0; i < TIMES; i++) {
        char b[1];
        app_pass(told);
        int fd = (int)CK(accept(lfd, NULL, NULL));
        MUST(app_get(fd, b, 1) == 1);
        CK(close(fd));
    }
}

int
main(int argc, char **argv)
{
    struct app_task t;
    pthread_t thread[OTHERS];
    int quiet = app_listen(), more = 0;
    app_main(argc, argv);
    told = app_gate();
    int lfd = app_listen();
    for (int i = 0; i < OTHERS; i++)
        MUST(pthread_create(&thread[i], NULL, other, &quiet) == 0);
    app_start_fork(&t, server, lfd);
    for (int i = 0; i < TIMES; i++) {
        struct epoll_event e = {0};
        int ep = (int)CK(epoll_create1(EPOLL_CLOEXEC));
        int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) < 0 && errno == EINPROGRESS);
        app_epoll_add(ep, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
        MUST(epoll_wait(ep, &e, 1, APP_WAIT) == 1 && e.events == EPOLLOUT);
        app_open(told);
        more += epoll_wait(ep, &e, 1, 10) > 0;
        app_put(fd, "x", 1);
        CK(close(fd));
        CK(close(ep));
    }
    over = 1;
    for (int i = 0; i < OTHERS; i++)
        CK(pthread_join(thread[i], NULL));
    app_join(&t, "server");
    say("%s\n", more ? "more was told" : "nothing more");
    return 0;
}
