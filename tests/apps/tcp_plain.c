/* SPDX-License-Identifier: Apache-2.0
 *
 * tcp_plain: TCP sockets that never connect or listen, and what is asked of them.
 */
/* run: nomesh */
#include "app.h"

int
main(void)
{
    char b[10];
    int on = 1, fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0)), v = 0;
    struct sockaddr_in a = {.sin_family = AF_INET};
    struct epoll_event e = {0};
    RES(read(fd, b, 1));
    RES(recv(fd, b, 1, MSG_DONTWAIT));
    RES(send(fd, b, 1, MSG_NOSIGNAL));
    RES(sendto(fd, b, 1, MSG_NOSIGNAL, (struct sockaddr *)&a, 2));
    RES(shutdown(fd, SHUT_RDWR));
    RES(accept(fd, NULL, NULL));
    RES(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    RES(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    RES(setsockopt(fd, IPPROTO_TCP, 9999, &on, sizeof on));
    RES(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &(int){77}, sizeof on));
    RES(getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &v, &(socklen_t){sizeof v}));
    say("SO_RCVLOWAT %d\n", v);
    RES(ioctl(fd, FIONREAD, &v));
    say("poll %s\n", app_events(app_poll(fd, POLLIN | POLLOUT | POLLRDHUP, 0)));
    int ep = (int)CK(epoll_create1(0));
    app_epoll_add(ep, fd, EPOLLIN | EPOLLOUT | EPOLLET);
    RES(epoll_wait(ep, &e, 1, 0));
    say("epoll %s\n", app_events(e.events));
    RES(epoll_wait(ep, &e, 1, 0));
    RES(bind(fd, (struct sockaddr *)&a, sizeof a));
    RES(bind(fd, (struct sockaddr *)&a, sizeof a));
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    RES(connect(fd, &none, sizeof none));
    RES(close(fd));
    RES(epoll_wait(ep, &e, 1, 0));
    RES(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
    RES(socket(12345, SOCK_STREAM, 0));
    return 0;
}
