/* SPDX-License-Identifier: Apache-2.0
 *
 * backlog_close: a client connects, sends, closes, and only then does the server accept and read
 * everything to the end. Also without a byte, and closed by a reset.
 */
/* run: modes thread fork */
#include "app.h"

static const size_t sizes[] = {0, 1, 100, 16384, 40000, 60000};
#define SIZES ((int)(sizeof sizes / sizeof *sizes))
static int closed, read_all;

static void
client(int lfd)
{
    static char b[60000];
    struct linger l = {1, 0};
    (void)lfd;
    app_fill(b, sizeof b, 0);
    for (int i = 0; i < SIZES; i++) {
        int fd = app_connect();
        if (sizes[i])
            RES(write(fd, b, sizes[i]));
        RES(close(fd));
        app_open(closed);
        app_pass(read_all);
    }
    for (int i = 0; i < 3; i++) {
        int fd = app_connect();
        app_put(fd, b, 1000);
        if (i == 1)
            RES(shutdown(fd, SHUT_WR));
        if (i == 2)
            RES(shutdown(fd, SHUT_RDWR));
        RES(close(fd));
    }
    app_open(closed);
    app_pass(read_all);
    int fd = app_connect();
    RES(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l));
    RES(close(fd));
    app_open(closed);
}

int
main(int argc, char **argv)
{
    struct app_task t;
    struct sockaddr_in peer;
    char b[1];
    app_main(argc, argv);
    closed = app_gate();
    read_all = app_gate();
    int lfd = app_listen();
    app_start(&t, client, lfd);
    for (int i = 0; i < SIZES; i++) {
        app_pass(closed);
        say("listener %s\n", app_events(app_poll(lfd, POLLIN, APP_WAIT)));
        int fd = (int)CK(accept(lfd, NULL, NULL));
        RES(getpeername(fd, (struct sockaddr *)&peer, &(socklen_t){sizeof peer}));
        app_drain(fd, 0);
        CK(close(fd));
        app_open(read_all);
    }
    app_pass(closed);
    for (int i = 0; i < 3; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        app_drain(fd, 0);
        CK(close(fd));
    }
    app_open(read_all);
    app_pass(closed);
    int fd = (int)CK(accept(lfd, NULL, NULL));
    RES(recv(fd, b, 1, 0));
    RES(recv(fd, b, 1, 0));
    app_join(&t, "client");
    app_nonblock(lfd, 1);
    RES(accept(lfd, NULL, NULL));
    return 0;
}
