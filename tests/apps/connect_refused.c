/* SPDX-License-Identifier: Apache-2.0
 *
 * connect_refused: nobody listens. Blocking, non-blocking with each readiness interface, and the
 * same socket used again afterwards.
 */
/* run: nomesh */
#include "app.h"

static struct sockaddr_in nobody;

static void
events(const char *when, int fd, int ep)
{
    struct epoll_event e = {0};
    int n = (int)CK(epoll_wait(ep, &e, 1, 0));
    say("%s: poll %s, epoll %d %s\n", when,
        app_events(app_poll(fd, POLLIN | POLLOUT | POLLRDHUP, 0)), n, app_events(e.events));
}

int
main(void)
{
    struct sockaddr *a = (struct sockaddr *)&nobody;
    socklen_t len = sizeof nobody;
    char b[10];
    int holder = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    nobody = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CK(bind(holder, a, len));
    CK(getsockname(holder, a, &len));

    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    RES(connect(fd, a, len));
    say("SO_ERROR %s\n", app_so_error_name(fd));
    RES(getpeername(fd, (struct sockaddr *)b, &(socklen_t){sizeof b}));
    RES(connect(fd, a, len));
    RES(send(fd, b, 1, MSG_NOSIGNAL));
    RES(read(fd, b, 1));
    CK(close(fd));

    for (int edge = 0; edge < 2; edge++) {
        int ep = (int)CK(epoll_create1(0));
        fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        app_epoll_add(ep, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | (edge ? EPOLLET : 0u));
        events("unconnected", fd, ep);
        RES(connect(fd, a, len));
        events("refused", fd, ep);
        say("SO_ERROR %s\n", app_so_error_name(fd));
        say("SO_ERROR %s\n", app_so_error_name(fd));
        events("read out", fd, ep);
        RES(connect(fd, a, len));
        RES(connect(fd, a, len));
        say("SO_ERROR %s\n", app_so_error_name(fd));
        RES(read(fd, b, 1));
        CK(close(fd));
        CK(close(ep));
    }

    fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    RES(connect(fd, a, len));
    say("poll %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
    RES(connect(fd, a, len));
    CK(close(fd));

    fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    struct sockaddr_in bad = {.sin_family = 99};
    RES(connect(fd, (struct sockaddr *)&bad, sizeof bad));
    RES(connect(fd, a, 3));
    RES(connect(fd, NULL, len));
    RES(connect(999, a, len));
    RES(connect(0x7fffffff, a, len));
    RES(connect(-1, a, len));
    RES(accept(fd, NULL, NULL));
    RES(accept(-1, NULL, NULL));
    RES(listen(-1, 5));
    RES(shutdown(fd, SHUT_WR));
    return 0;
}
