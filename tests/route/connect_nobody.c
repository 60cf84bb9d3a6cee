/* SPDX-License-Identifier: Apache-2.0
 *
 * connect_nobody: nobody listens at the address; meshed it is a service whose endpoints all refuse. The
 * same errno either way, told once, and the socket can be used again.
 */
/* run: nomesh */
#include "app.h"

static struct sockaddr_in nobody;

/* On the loopback a non-blocking connect may know at once what it says later elsewhere. */
static const char *
outcome(int fd)
{
    int r = connect(fd, (struct sockaddr *)&nobody, sizeof nobody);
    if (r < 0 && errno != EINPROGRESS)
        return strerrorname_np(errno);
    unsigned ev = app_poll(fd, POLLIN | POLLOUT, APP_WAIT);
    return ev & POLLOUT && ev & POLLHUP ? app_so_error_name(fd) : "no sign of it";
}

static void
epoll_outcome(unsigned bits, int before)
{
    struct epoll_event e = {0};
    int ep = (int)CK(epoll_create1(0)), fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    if (before) {
        app_epoll_add(ep, fd, bits);
        CK(epoll_wait(ep, &e, 1, 0));
    }
    int r = connect(fd, (struct sockaddr *)&nobody, sizeof nobody), no = errno;
    if (!before)
        app_epoll_add(ep, fd, bits);
    MUST(r < 0);
    if (no == EINPROGRESS) {
        MUST(epoll_wait(ep, &e, 1, APP_WAIT) == 1);
        MUST(e.events & EPOLLOUT && e.events & EPOLLHUP && e.data.fd == fd);
        no = app_so_error(fd);
    }
    say("epoll %s\n", strerrorname_np(no));
    say("then %s\n", app_so_error_name(fd));
    CK(close(fd));
    CK(close(ep));
}

int
main(void)
{
    nobody = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(21010), .sin_addr.s_addr = htonl(0x7f470001)};
    struct sockaddr_in own;
    socklen_t len = sizeof own;
    char b[8] = "";
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    for (int i = 0; i < 3; i++) {
        RES(connect(fd, (struct sockaddr *)&nobody, sizeof nobody));
        say("SO_ERROR %s\n", app_so_error_name(fd));
        RES(getpeername(fd, (struct sockaddr *)&own, &len));
        RES(send(fd, b, 1, MSG_NOSIGNAL));
        RES(recv(fd, b, 1, 0));
    }
    CK(close(fd));
    fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    for (int i = 0; i < 3; i++) {
        say("non-blocking %s\n", outcome(fd));
        say("SO_ERROR %s\n", app_so_error_name(fd));
    }
    CK(close(fd));
    for (int before = 0; before < 2; before++) {
        epoll_outcome(EPOLLIN | EPOLLOUT, before);
        epoll_outcome(EPOLLIN | EPOLLOUT | EPOLLET, before);
    }
    return 0;
}
