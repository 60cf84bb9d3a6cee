/* SPDX-License-Identifier: Apache-2.0
 *
 * connect_pending: the listener's backlog is full, so a non-blocking connect stays on its way:
 * nothing ready, EALREADY, ENOTCONN, SO_ERROR 0. It completes when the backlog is drained.
 */
#include "app.h"

int
main(void)
{
    struct sockaddr *a = (struct sockaddr *)&app_addr;
    struct sockaddr_in peer;
    struct epoll_event e = {0};
    char b[32];
    int lfd = app_listen_at(INADDR_LOOPBACK, 0, &app_addr);
    int first = app_connect();
    int ep = (int)CK(epoll_create1(0));
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    RES(connect(fd, a, sizeof app_addr));
    app_epoll_add(ep, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    say("poll %s\n", app_events(app_poll(fd, POLLIN | POLLOUT | POLLRDHUP, APP_QUIET)));
    RES(epoll_wait(ep, &e, 1, 0));
    RES(connect(fd, a, sizeof app_addr));
    RES(getpeername(fd, (struct sockaddr *)&peer, &(socklen_t){sizeof peer}));
    say("SO_ERROR %s\n", app_so_error_name(fd));
    RES(send(fd, "x", 1, MSG_NOSIGNAL));
    RES(recv(fd, b, 1, 0));

    int s1 = (int)CK(accept(lfd, NULL, NULL));
    say("poll %s\n", app_events(app_poll(fd, POLLIN | POLLOUT | POLLRDHUP, APP_WAIT)));
    RES(epoll_wait(ep, &e, 1, 0));
    say("epoll %s\n", app_events(e.events));
    RES(connect(fd, a, sizeof app_addr));
    RES(connect(fd, a, sizeof app_addr));
    int s2 = (int)CK(accept(lfd, NULL, NULL));
    app_fill(b, sizeof b, 0);
    RES(write(fd, b, 20));
    say("got %zu\n", app_get(s2, b, 20));
    say("match %zu\n", app_match(b, 20, 0));
    RES(write(first, b, 20));
    say("got %zu\n", app_get(s1, b, 20));
    say("match %zu\n", app_match(b, 20, 0));
    return 0;
}
