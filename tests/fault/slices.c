/* SPDX-License-Identifier: Apache-2.0
 *
 * slices PORT HOW: how much of a long write is taken at once, in bytes, where there is room for more: without epoll
 * (0), level-triggered (1), edge-triggered (2), and in a set of each kind (3).
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
    int fd = app_connect();
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
