/* SPDX-License-Identifier: Apache-2.0
 *
 * prefork: three children accept on one listener inherited from the parent, blocking, in poll with
 * a non-blocking accept, or in epoll with EPOLLEXCLUSIVE. Every client is served once.
 */
/* run: modes accept poll epoll */
#include "app.h"

#define CHILDREN 3
#define CLIENTS 18

static int
next(int lfd, int ep, int quit)
{
    for (;;) {
        struct epoll_event e[2];
        struct pollfd p[2] = {{.fd = lfd, .events = POLLIN}, {.fd = quit, .events = POLLIN}};
        if (strcmp(app_mode, "accept") == 0)
            return accept(lfd, NULL, NULL);
        int ended = 0;
        if (ep >= 0) {
            int n = (int)CK(epoll_wait(ep, e, 2, -1));
            for (int i = 0; i < n; i++)
                ended |= e[i].data.fd == quit;
        } else {
            CK(poll(p, 2, -1));
            ended = p[1].revents != 0;
        }
        if (ended)
            return -1;
        int fd = accept(lfd, NULL, NULL);
        if (fd >= 0)
            return fd;
        MUST(errno == EAGAIN);
    }
}

static void
child(int lfd, int quit)
{
    int ep = -1, fd = -1;
    char b[1000];
    if (strcmp(app_mode, "epoll") == 0) {
        ep = (int)CK(epoll_create1(0));
        app_epoll_add(ep, lfd, EPOLLIN | EPOLLEXCLUSIVE);
        app_epoll_add(ep, quit, EPOLLIN);
    }
    while ((fd = next(lfd, ep, quit)) >= 0) {
        size_t n = app_get(fd, b, sizeof b);
        app_put(fd, b, n);
        MUST(read(fd, b, 1) == 0);
        close(fd);
    }
    _exit(0);
}

int
main(int argc, char **argv)
{
    int quit[2], right = 0;
    pid_t pid[CHILDREN];
    char b[1000];
    app_main(argc, argv);
    CK(pipe(quit));
    int lfd = app_listen();
    app_nonblock(lfd, strcmp(app_mode, "accept") != 0);
    for (int i = 0; i < CHILDREN; i++) {
        pid[i] = (pid_t)CK(fork());
        if (pid[i] == 0) {
            close(quit[1]);
            child(lfd, quit[0]);
        }
    }
    int fd[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        fd[i] = app_connect();
        if (i % 3 == 2)
            for (int k = i - 2; k <= i; k++) {
                app_fill(b, sizeof b, (uint64_t)k);
                app_put(fd[k], b, sizeof b);
                right += app_get(fd[k], b, sizeof b) == sizeof b &&
                         app_match(b, sizeof b, (uint64_t)k) == sizeof b;
                close(fd[k]);
            }
    }
    say("served right %d of %d\n", right, CLIENTS);
    close(quit[1]);
    if (strcmp(app_mode, "accept") == 0)
        RES(shutdown(lfd, SHUT_RD));
    for (int i = 0; i < CHILDREN; i++) {
        int st = 0;
        CK(waitpid(pid[i], &st, 0));
        say("child: %d\n", st);
    }
    return 0;
}
