/* SPDX-License-Identifier: Apache-2.0
 *
 * unspec: connect(AF_UNSPEC) ends a connection and the same socket connects again, several times;
 * the peer sees a reset; what is no address, or one of another kind, ends nothing. MSG_FASTOPEN and TCP_FASTOPEN_CONNECT connect while they send.
 */
/* run: modes thread fork */
#include "app.h"

#define ROUNDS 3

static void
server(int lfd)
{
    char b[200];
    for (int i = 0; i < ROUNDS + 2; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        say("got %zu\n", app_get(fd, b, 100));
        say("match %zu\n", app_match(b, 100, 0));
        app_put(fd, b, 100);
        ssize_t r = read(fd, b, 1);
        say("then %s\n", r == 0 ? "EOF" : r > 0 ? "DATA" : strerrorname_np(errno));
        close(fd);
    }
}

static void
use(int fd)
{
    char b[100];
    say("got %zu\n", app_get(fd, b, 100));
    say("match %zu\n", app_match(b, 100, 0));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    struct sockaddr none = {.sa_family = AF_UNSPEC}, other = {.sa_family = AF_UNIX};
    char b[100];
    struct sockaddr *nowhere = NULL;
    int on = 1;
    app_main(argc, argv);
    app_fill(b, sizeof b, 0);
    int lfd = app_listen();
    app_start(&t, server, lfd);
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    CK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    for (int i = 0; i < ROUNDS; i++) {
        RES(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
        RES(connect(fd, &other, sizeof other));
        RES(connect(fd, &none, 1));
        RES(connect(fd, nowhere, sizeof none));
        RES(connect(fd, (struct sockaddr *)&app_addr, 5));
        RES(write(fd, b, sizeof b));
        use(fd);
        RES(connect(fd, &none, sizeof none));
        RES(getpeername(fd, (struct sockaddr *)b, &(socklen_t){sizeof b}));
        RES(send(fd, b, 1, MSG_NOSIGNAL));
        app_so_error(fd);
        app_fill(b, sizeof b, 0);
    }
    close(fd);
    fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    RES(sendto(fd, b, sizeof b, MSG_FASTOPEN, (struct sockaddr *)&app_addr, sizeof app_addr));
    use(fd);
    close(fd);
    fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof on);
    RES(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
    RES(write(fd, b, sizeof b));
    use(fd);
    close(fd);
    app_join(&t, "server");
    return 0;
}
