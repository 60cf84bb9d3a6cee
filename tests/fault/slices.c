/* SPDX-License-Identifier: Apache-2.0
 *
 * slices PORT HOW: how much of a long write is taken at once, in bytes, where there is room for more: without epoll
 * (0), level-triggered (1), edge-triggered (2), in a set of each kind (3), and so that it was in the edge-triggered one
 * before it was connected (5).
 */
#include "app.h"

#define LONG 200000

int
main(int argc, char **argv)
{
    static char b[LONG];
    int how = argc == 3 ? atoi(argv[2]) : 0, room = 4 << 20;
    MUST(argc == 3);
    app_addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    if (how & 4)
        app_epoll_add((int)CK(epoll_create1(0)), fd, EPOLLIN | EPOLLET);
    CK(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
    CK(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room));
    app_nonblock(fd, 1);
    if (how & 1)
        app_epoll_add((int)CK(epoll_create1(0)), fd, EPOLLIN);
    if (how & 2)
        app_epoll_add((int)CK(epoll_create1(0)), fd, EPOLLIN | EPOLLET);
    app_fill(b, LONG, 0);
    say("%ld\n", CK(write(fd, b, LONG)));
    return 0;
}
