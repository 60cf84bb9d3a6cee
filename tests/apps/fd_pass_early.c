/* SPDX-License-Identifier: Apache-2.0
 *
 * fd_pass_early: as proxies do that have a process for each task: one connects without blocking and at
 * once passes the socket, perhaps not connected yet, to another that was there before. That one waits
 * until it is writable, asks how it went, and talks; who connected closes, and goes to sleep in a read
 * of something else.
 */
/* run: modes poll select epoll */
#include "app_proc.h"

#define ROUNDS 10

static int unix_pair[2];

/* Whether fd became writable. */
static int
await_writable(int fd)
{
    struct epoll_event e = {0};
    fd_set out;
    FD_ZERO(&out);
    FD_SET(fd, &out);
    if (strcmp(app_mode, "poll") == 0)
        return app_poll(fd, POLLOUT, APP_WAIT) == POLLOUT;
    if (strcmp(app_mode, "select") == 0)
        return select(fd + 1, NULL, &out, NULL, NULL) == 1;
    int ep = (int)CK(epoll_create1(0));
    app_epoll_add(ep, fd, EPOLLOUT);
    int n = (int)CK(epoll_wait(ep, &e, 1, APP_WAIT));
    close(ep);
    return n == 1 && e.events == EPOLLOUT;
}

static void
worker(int unused)
{
    struct sockaddr_in peer;
    socklen_t len = sizeof peer;
    (void)unused;
    close(unix_pair[0]);
    for (int i = 0; i < ROUNDS; i++) {
        int fd = app_take_fd(unix_pair[1]);
        say("writable %d\n", await_writable(fd));
        RES(getpeername(fd, (struct sockaddr *)&peer, &len));
        say("SO_ERROR %s\n", app_so_error_name(fd));
        app_nonblock(fd, 0);
        say("right %d\n", app_use(fd, 20000, 7));
        close(fd);
        app_put(unix_pair[1], "r", 1);
    }
}

static void
serve(int lfd)
{
    for (int i = 0; i < ROUNDS; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        app_echo(fd);
        close(fd);
    }
}

int
main(int argc, char **argv)
{
    struct app_task w, s;
    char b[1];
    app_main(argc, argv);
    CK(socketpair(AF_UNIX, SOCK_STREAM, 0, unix_pair));
    app_start_fork(&w, worker, -1);
    close(unix_pair[1]);
    int lfd = app_listen();
    app_start_fork(&s, serve, lfd);
    close(lfd);
    for (int i = 0; i < ROUNDS; i++) {
        int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) == 0 || errno == EINPROGRESS);
        app_pass_fd(unix_pair[0], fd);
        CK(close(fd));
        MUST(app_get(unix_pair[0], b, 1) == 1);
    }
    app_join(&w, "worker");
    app_join(&s, "server");
    return 0;
}
