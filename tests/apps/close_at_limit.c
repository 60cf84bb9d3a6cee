/* SPDX-License-Identifier: Apache-2.0
 *
 * close_at_limit: a server without a free descriptor gives up a spare one to accept the client, and
 * closes it at once, to be rid of it. The client sees a connection, and its orderly end.
 */
/* run: modes thread fork */
/* run: notsan */
#include "app.h"

static int gate_begun, gate_closed;

static void
client(int unused)
{
    char b;
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    (void)unused;
    app_pass(gate_begun);
    MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) == 0 || errno == EINPROGRESS);
    MUST(app_poll(fd, POLLOUT, APP_WAIT) & POLLOUT);
    app_pass(gate_closed);
    say("SO_ERROR %d\n", app_so_error(fd));
    app_nonblock(fd, 0);
    RES(read(fd, &b, 1));
    close(fd);
}

/* Takes all numbers but those in use; the last one is returned. */
static int
exhaust(void)
{
    int last = -1, fd;
    while ((fd = dup(0)) >= 0)
        last = fd;
    MUST(errno == EMFILE && last >= 0);
    return last;
}

int
main(int argc, char **argv)
{
    struct app_task t;
    struct rlimit few = {200, 200};
    int lfd;
    app_main(argc, argv);
    MUST(setrlimit(RLIMIT_NOFILE, &few) == 0);
    lfd = app_listen();
    gate_begun = app_gate();
    gate_closed = app_gate();
    app_start(&t, client, -1);
    while (strcmp(app_mode, "thread") == 0 && fcntl(gate_closed + 1, F_GETFD) < 0)
        CK(poll(NULL, 0, 1)); /* the client's socket is made */
    app_nonblock(lfd, 1);
    int spare = exhaust();
    app_open(gate_begun);
    MUST(app_poll(lfd, POLLIN, APP_WAIT) == POLLIN);
    RES(accept(lfd, NULL, NULL));
    CK(close(spare));
    int fd = (int)CK(accept(lfd, NULL, NULL));
    say("the spare one: %d\n", fd == spare);
    RES(close(fd));
    app_open(gate_closed);
    for (int i = 3; i < 200; i++) /* room again, for whoever prints */
        if (i != lfd && i != gate_begun && i != gate_closed && i != t.pipe && i >= spare - 20)
            close(i);
    app_join(&t, "client");
    return 0;
}
