/* SPDX-License-Identifier: Apache-2.0
 *
 * plain_greeting: a server that speaks first has more to say than the socket's buffers hold, to a
 * client that connects by instruction, as one that libmesh is not in would. All arrives,
 * also what had to wait until the client read; then the client answers.
 */
/* run: modes thread fork */
/* run: nomesh */
#include "app_bare.h"

#define GREET 200000

static void
greet(int fd)
{
    static char b[GREET];
    app_fill(b, sizeof b, 0);
    RES(write(fd, b, sizeof b));
    RES(read(fd, b, 100));
    RES(read(fd, b, 100));
    close(fd);
}

static void
listen_to(int unused)
{
    static char b[GREET];
    int size = 4096, fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    (void)unused;
    CK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
    CK(app_bare_connect(fd));
    say("got %zu\n", app_get(fd, b, sizeof b));
    say("match %zu\n", app_match(b, sizeof b, 0));
    RES(send(fd, "thanks", 6, 0));
    CK(shutdown(fd, SHUT_WR));
    RES(read(fd, b, 1));
    close(fd);
}

int
main(int argc, char **argv)
{
    struct app_task t;
    int size = 4096;
    app_main(argc, argv);
    int lfd = app_listen();
    CK(setsockopt(lfd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
    app_start(&t, listen_to, -1);
    int fd = (int)CK(accept(lfd, NULL, NULL));
    greet(fd);
    app_join(&t, "client");
    close(lfd);
    return 0;
}
