/* SPDX-License-Identifier: Apache-2.0
 *
 * edge_owed: told once that it may write, an edge-triggered program does so without waiting again, until the socket is
 * full: what it is told next is that there is room. One thread has both ends.
 */
#include "app.h"

static size_t
fill(int fd)
{
    static char b[1 << 20];
    size_t total = 0;
    ssize_t n;
    while ((n = write(fd, b, sizeof b)) > 0)
        total += (size_t)n;
    MUST(errno == EAGAIN);
    return total;
}

int
main(int argc, char **argv)
{
    static char b[1 << 20];
    struct epoll_event e;
    app_main(argc, argv);
    int listener = app_listen(), ep = (int)CK(epoll_create1(0));
    int c = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    RES(connect(c, (struct sockaddr *)&app_addr, sizeof app_addr));
    app_epoll_add(ep, c, EPOLLOUT | EPOLLET);
    say("connected: %d\n", (int)CK(epoll_wait(ep, &e, 1, APP_WAIT)));
    int s = (int)CK(accept4(listener, NULL, NULL, SOCK_NONBLOCK));
    MUST(app_poll(s, POLLOUT, APP_WAIT) == POLLOUT);
    for (int round = 0; round < 3; round++) {
        for (size_t left = fill(c); left > 0;) {
            MUST(app_poll(s, POLLIN, APP_WAIT) == POLLIN);
            ssize_t n = read(s, b, sizeof b);
            MUST(n > 0 || (n < 0 && errno == EAGAIN));
            left -= n > 0 ? (size_t)n : 0;
        }
        say("room: %d\n", (int)CK(epoll_wait(ep, &e, 1, APP_WAIT)));
    }
    return 0;
}
