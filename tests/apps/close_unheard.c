/* SPDX-License-Identifier: Apache-2.0
 *
 * close_unheard: a server closes as soon as it has accepted, and its client, which is busy after it has begun to connect, has
 * said nothing yet: it is connected all the same, and reads the end.
 */
#include "app.h"

static int over;

static void
server(int lfd)
{
    int fd = (int)CK(accept(lfd, NULL, NULL));
    CK(close(fd));
    app_pass(over);
}

static void
compute(int64_t ms)
{
    for (int64_t until = app_ms() + ms; app_ms() < until;)
        ;
}

int
main(int argc, char **argv)
{
    struct app_task t;
    char c = 'x';
    app_main(argc, argv);
    over = app_gate();
    int lfd = app_listen();
    app_start_fork(&t, server, lfd);
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) < 0 && errno == EINPROGRESS);
    compute(100);
    MUST(app_poll(fd, POLLOUT, APP_WAIT) & POLLOUT);
    say("SO_ERROR %s\n", app_so_error_name(fd));
    app_nonblock(fd, 0);
    RES(recv(fd, &c, 1, 0));
    RES(send(fd, &c, 1, MSG_NOSIGNAL));
    app_open(over);
    CK(close(fd));
    app_join(&t, "server");
    return 0;
}
