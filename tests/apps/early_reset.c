/* SPDX-License-Identifier: Apache-2.0
 *
 * early_reset: a client writes before it is accepted, and the server resets as soon as it has accepted. While the client
 * is elsewhere that is found out; its next call says it, once, and none waits for what was written.
 */
/* run: modes send send_nb read peek so_error connect */
/* run: config accept_grace = "20ms"; */
#include "app.h"

#define TIMES 12

static int told;

static void
server(int lfd)
{
    struct linger hard = {.l_onoff = 1};
    for (int i = 0; i < TIMES; i++) {
        app_pass(told);
        int fd = (int)CK(accept(lfd, NULL, NULL));
        CK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
        CK(close(fd));
    }
}

static void
next_call(int fd)
{
    char b[4];
    if (strcmp(app_mode, "send_nb") == 0)
        app_nonblock(fd, 1);
    if (strcmp(app_mode, "read") == 0)
        RES(read(fd, b, sizeof b));
    else if (strcmp(app_mode, "peek") == 0)
        RES(recv(fd, b, sizeof b, MSG_PEEK));
    else if (strcmp(app_mode, "so_error") == 0)
        say("SO_ERROR %s\n", app_so_error_name(fd));
    else if (strcmp(app_mode, "connect") == 0)
        RES(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
    else
        RES(send(fd, "y", 1, MSG_NOSIGNAL));
    RES(send(fd, "y", 1, MSG_NOSIGNAL));
    RES(read(fd, b, sizeof b));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    told = app_gate();
    int lfd = app_listen();
    app_start_fork(&t, server, lfd);
    for (int i = 0; i < TIMES; i++) {
        int fd = app_connect();
        app_put(fd, "x", 1);
        app_open(told);
        app_hung_up(fd);
        next_call(fd);
        CK(close(fd));
    }
    app_join(&t, "server");
    return 0;
}
