/* SPDX-License-Identifier: Apache-2.0
 *
 * backlog_ftp: active FTP's order. The server connects the data channel and only then sends the
 * line, on the control connection, after which the client accepts it. Several transfers, both
 * directions, blocking and non-blocking connect.
 */
/* run: modes thread fork */
#include "app.h"

#define FILES 4

static void
line(int fd, const char *want)
{
    char b[32];
    MUST(app_get(fd, b, 8) == 8);
    b[8] = 0;
    say("%s%s\n", strcmp(b, want) ? "WRONG " : "", b);
}

static int
data_connect(const struct sockaddr_in *a, int nonblock)
{
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | (nonblock ? SOCK_NONBLOCK : 0), 0));
    int r = connect(fd, (const struct sockaddr *)a, sizeof *a);
    if (nonblock) {
        MUST(r < 0 && errno == EINPROGRESS);
        say("data %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
        app_nonblock(fd, 0);
    } else {
        CK(r);
    }
    say("SO_ERROR %s\n", app_so_error_name(fd));
    return fd;
}

static void
server(int ctl)
{
    static char b[50000];
    struct sockaddr_in a;
    for (int i = 0; i < FILES; i++) {
        MUST(app_get(ctl, &a, sizeof a) == sizeof a);
        int data = data_connect(&a, i & 1);
        app_put(ctl, "150 open", 8);
        if (i < 2) {
            app_fill(b, sizeof b, 0);
            RES(write(data, b, sizeof b));
        } else {
            app_drain(data, 0);
        }
        close(data);
        app_put(ctl, "226 done", 8);
    }
}

static void
client(int ctl)
{
    static char b[50000];
    struct sockaddr_in a;
    for (int i = 0; i < FILES; i++) {
        int lfd = app_listen_at(INADDR_LOOPBACK, 1, &a);
        app_put(ctl, &a, sizeof a);
        line(ctl, "150 open");
        int data = (int)CK(accept(lfd, NULL, NULL));
        close(lfd);
        if (i < 2) {
            app_drain(data, 0);
        } else {
            app_fill(b, sizeof b, 0);
            RES(write(data, b, sizeof b));
            CK(shutdown(data, SHUT_WR));
        }
        line(ctl, "226 done");
        close(data);
    }
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_talk("transfers", server, client);
    return 0;
}
