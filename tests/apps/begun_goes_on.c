/* SPDX-License-Identifier: Apache-2.0
 *
 * begun_goes_on: who began to connect to a server that does not accept yet ends, by exit, _exit or in daemon(); its child
 * goes on with the connection, which is accepted then. `block_`: connect() had succeeded.
 */
/* run: modes exit _exit daemon block_exit block__exit block_daemon */
#include "app.h"

#include <stdbool.h>

static int forked;

static void
server(int lfd)
{
    char b[16];
    app_pass(forked);
    int fd = (int)CK(accept(lfd, NULL, NULL));
    size_t n = app_get(fd, b, 5);
    app_put(fd, b, n);
    MUST(app_get(fd, b, 5) == 0);
    say("got %zu\n", n);
    CK(close(fd));
}

static void
go_on(int fd)
{
    char b[16];
    app_open(forked);
    app_nonblock(fd, 0);
    say("poll %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
    say("%s\n", app_so_error_name(fd));
    RES(send(fd, "hello", 5, MSG_NOSIGNAL));
    RES(recv(fd, b, 5, 0));
    RES(shutdown(fd, SHUT_WR));
    exit(0);
}

static void
begin(void)
{
    bool blocks = strncmp(app_mode, "block_", 6) == 0;
    const char *how = blocks ? app_mode + 6 : app_mode;
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | (blocks ? 0 : SOCK_NONBLOCK), 0));
    if (connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) != 0)
        MUST(errno == EINPROGRESS);
    if (strcmp(how, "daemon") == 0) {
        CK(daemon(1, 1));
        go_on(fd);
    }
    if (CK(fork()) == 0)
        go_on(fd);
    if (strcmp(how, "exit") == 0)
        exit(0);
    _exit(0);
}

int
main(int argc, char **argv)
{
    struct app_task t;
    int over[2];
    char b;
    app_main(argc, argv);
    forked = app_gate();
    int lfd = app_listen();
    app_start_fork(&t, server, lfd);
    CK(pipe(over));
    fflush(stdout);
    if (CK(fork()) == 0)
        begin();
    CK(close(over[1]));
    MUST(app_get(over[0], &b, 1) == 0); /* who began, and who went on, have ended */
    app_join(&t, "server");
    return 0;
}
