/* SPDX-License-Identifier: Apache-2.0
 *
 * shut_answered: the server answers and closes altogether; its end has arrived when the client, which has read nothing
 * yet, calls shutdown(SHUT_WR). It is told of the answer and of the end, and of no error.
 */
/* run: modes wr more */
#include "app.h"

static void
server(int lfd)
{
    char b[100];
    int fd = (int)CK(accept(lfd, NULL, NULL));
    size_t n = app_get(fd, b, 10);
    app_put(fd, b, n);
    _exit(n == 10 && close(fd) == 0 ? 0 : 1);
}

int
main(int argc, char **argv)
{
    char b[100];
    app_main(argc, argv);
    int lfd = app_listen(), st = 0;
    pid_t peer = (pid_t)CK(fork());
    if (peer == 0) {
        server(lfd);
    }
    CK(close(lfd));
    int fd = app_connect();
    app_fill(b, 10, 0);
    app_put(fd, b, 10);
    CK(waitpid(peer, &st, 0));
    say("server %d\n", st);
    (void)app_poll(fd, POLLIN | POLLRDHUP, APP_WAIT);
    MUST(usleep(APP_QUIET * 1000) == 0);
    RES(shutdown(fd, SHUT_WR));
    say("then %s\n", app_events(app_poll(fd, POLLIN | POLLRDHUP, APP_WAIT)));
    if (strcmp(app_mode, "more") == 0) {
        say("SO_ERROR %s\n", app_so_error_name(fd));
    }
    size_t n = app_get(fd, b, 10);
    say("%zu bytes, %zu right\n", n, app_match(b, n, 0));
    say("then %s\n", app_events(app_poll(fd, POLLIN | POLLRDHUP, APP_WAIT)));
    RES(read(fd, b, sizeof b));
    RES(close(fd));
    return 0;
}
