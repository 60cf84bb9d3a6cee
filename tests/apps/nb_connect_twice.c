/* SPDX-License-Identifier: Apache-2.0
 *
 * nb_connect_twice: connect() as its own completion test, as Ruby and Python do: EALREADY while
 * it runs, 0 once, EISCONN afterwards [connect(2)]; and asked again only after POLLOUT.
 */
/* run: modes thread fork */
#include "app.h"

static void
server(int lfd)
{
    for (int i = 0; i < 2; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        app_drain(fd, 0);
        close(fd);
    }
}

int
main(int argc, char **argv)
{
    struct app_task t;
    struct sockaddr *a = (struct sockaddr *)&app_addr;
    socklen_t len = sizeof app_addr;
    char b[100];
    app_main(argc, argv);
    app_fill(b, sizeof b, 0);
    int lfd = app_listen();
    app_start(&t, server, lfd);

    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    RES(connect(fd, a, len));
    int r = 0;
    while ((r = connect(fd, a, len)) < 0 && errno == EALREADY)
        app_poll(fd, POLLOUT, APP_WAIT);
    say("after EALREADY: %d\n", r);
    RES(connect(fd, a, len));
    RES(write(fd, b, sizeof b));
    CK(close(fd));

    fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    RES(connect(fd, a, len));
    say("poll: %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
    RES(connect(fd, a, len));
    RES(connect(fd, a, len));
    say("SO_ERROR %s\n", app_so_error_name(fd));
    RES(write(fd, b, sizeof b));
    CK(close(fd));
    app_join(&t, "server");

    int closed = (int)CK(dup(lfd));
    CK(close(closed));
    RES(connect(closed, a, len));
    RES(connect(lfd, a, len));
    return 0;
}
