/* SPDX-License-Identifier: Apache-2.0
 *
 * backlog_late: the server accepts when the client says that it is connected, and long after. The client's
 * connect does not wait for it, blocking or not; its bytes and the answer arrive.
 */
/* run: modes thread fork */
#include "app.h"

#define CASES 4
#define LATE  200 /* ms */
static int connected;

static void
client(int lfd)
{
    char b[3000];
    for (int i = 0; i < CASES; i++) {
        if (strcmp(app_mode, "fork") == 0 && i == 0)
            close(lfd);
        int fd = (int)CK(socket(AF_INET, SOCK_STREAM | (i >= 2 ? SOCK_NONBLOCK : 0), 0));
        RES(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
        if (i >= 2)
            say("poll %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
        say("SO_ERROR %s\n", app_so_error_name(fd));
        RES(recv(fd, b, 1, MSG_DONTWAIT));
        say("readable: %s\n", app_events(app_poll(fd, POLLIN, 0)));
        app_open(connected);
        app_nonblock(fd, 0);
        if (i % 2 == 0) {
            app_fill(b, sizeof b, 0);
            RES(write(fd, b, sizeof b));
        }
        say("got %zu\n", app_get(fd, b, sizeof b));
        say("match %zu\n", app_match(b, sizeof b, 0));
        close(fd);
    }
}

int
main(int argc, char **argv)
{
    struct app_task t;
    char b[3000];
    app_main(argc, argv);
    connected = app_gate();
    int lfd = app_listen();
    app_start(&t, client, lfd);
    for (int i = 0; i < CASES; i++) {
        app_pass(connected); /* for ever, if connect waits for accept */
        CK(poll(NULL, 0, LATE)); /* what it writes comes first; nothing is judged by it */
        int fd = (int)CK(accept(lfd, NULL, NULL));
        if (i % 2 == 0) {
            say("got %zu\n", app_get(fd, b, sizeof b));
            say("match %zu\n", app_match(b, sizeof b, 0));
        }
        app_fill(b, sizeof b, 0);
        RES(write(fd, b, sizeof b));
        RES(read(fd, b, 1));
        close(fd);
    }
    app_join(&t, "client");
    return 0;
}
