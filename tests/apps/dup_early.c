/* SPDX-License-Identifier: Apache-2.0
 *
 * dup_early: a socket that is duplicated before its connection is up, or before it is one, and used
 * by the other number: readiness by epoll, data, listening.
 */
/* run: modes thread fork */
#include "app.h"

static int
wait_for(int ep, int fd, const char *who)
{
    struct epoll_event e = {0};
    int n = (int)CK(epoll_wait(ep, &e, 1, APP_WAIT));
    say("%s: %d event, %s, %s\n", who, n, app_events(e.events),
        e.data.fd == fd ? "its own" : "another's");
    return n;
}

/* Begins without blocking; only the duplicate is watched. */
static void
client_begun(int unused)
{
    char b[100];
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    int ep = (int)CK(epoll_create1(0));
    (void)unused;
    MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) == 0 || errno == EINPROGRESS);
    int other = (int)CK(dup(fd));
    app_epoll_add(ep, other, EPOLLOUT);
    wait_for(ep, other, "connected");
    say("SO_ERROR %d\n", app_so_error(other));
    CK(epoll_ctl(ep, EPOLL_CTL_DEL, other, NULL));
    app_epoll_add(ep, other, EPOLLIN);
    app_fill(b, sizeof b, 0);
    RES(write(other, b, sizeof b));
    CK(close(fd));
    wait_for(ep, other, "answered");
    say("match %zu\n", app_match(b, (size_t)CK(read(other, b, sizeof b)), 0));
    CK(close(other));
    CK(close(ep));
}

/* The accepted number is watched for a moment, its duplicate for good. */
static void
serve_adopted(int lfd)
{
    char b[100];
    int ep = (int)CK(epoll_create1(0));
    app_nonblock(lfd, 1);
    MUST(app_poll(lfd, POLLIN, APP_WAIT) == POLLIN);
    int fd = (int)CK(accept(lfd, NULL, NULL));
    app_epoll_add(ep, fd, EPOLLIN);
    CK(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
    int other = (int)CK(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    app_nonblock(other, 1);
    app_epoll_add(ep, other, EPOLLIN);
    wait_for(ep, other, "asked");
    ssize_t n = CK(read(other, b, sizeof b));
    say("match %zu\n", app_match(b, (size_t)n, 0));
    RES(write(fd, b, (size_t)n));
    wait_for(ep, other, "ended");
    RES(read(other, b, 1));
    CK(close(fd));
    CK(close(other));
    CK(close(ep));
}

/* Duplicates from before connect() and listen(). */
static void
client_fresh(int unused)
{
    char b[100];
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0)), other = (int)CK(dup(fd));
    (void)unused;
    RES(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
    app_fill(b, sizeof b, 0);
    RES(write(other, b, 50));
    RES(write(fd, b + 50, 50));
    CK(close(fd));
    say("match %zu\n", app_match(b, app_get(other, b, sizeof b), 0));
    RES(shutdown(other, SHUT_WR));
    RES(read(other, b, 1));
    CK(close(other));
}

static void
serve_by(int lfd)
{
    char b[100];
    int fd = (int)CK(accept(lfd, NULL, NULL));
    app_put(fd, b, app_get(fd, b, sizeof b));
    say("match %zu\n", app_match(b, sizeof b, 0));
    RES(read(fd, b, 1));
    CK(close(fd));
}

static void
run(app_side *server, app_side *client, int lfd)
{
    struct app_task t;
    app_start(&t, client, -1);
    server(lfd);
    app_join(&t, "client");
    close(lfd);
}

int
main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof app_addr;
    app_main(argc, argv);
    run(serve_adopted, client_begun, app_listen());
    run(serve_by, client_fresh, app_listen());
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0)), other = (int)CK(dup(fd));
    CK(bind(fd, (struct sockaddr *)&at, sizeof at));
    CK(listen(fd, 5));
    CK(getsockname(fd, (struct sockaddr *)&app_addr, &len));
    CK(close(fd));
    run(serve_by, client_fresh, other);
    return 0;
}
