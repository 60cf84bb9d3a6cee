/* SPDX-License-Identifier: Apache-2.0
 *
 * echo_fortify: the names that a program built with _FORTIFY_SOURCE imports instead: __read_chk,
 * __recv_chk, __recvfrom_chk, __poll_chk, __ppoll_chk. The length is not known to the compiler.
 */
/* run: modes thread fork */
/* cc: -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 */
#include "app.h"

static volatile size_t want = 70000;
static volatile nfds_t one = 1;

static void
server(int fd)
{
    char b[70000];
    for (int how = 0; how < 3; how++) {
        size_t got = 0, n = want;
        while (got < n) {
            size_t left = n - got > 5000 ? 5000 : n - got;
            char piece[5000];
            ssize_t r = how == 0   ? read(fd, piece, left)
                        : how == 1 ? recv(fd, piece, left, 0)
                                   : recvfrom(fd, piece, left, 0, NULL, NULL);
            CK(r);
            if (r == 0)
                break;
            memcpy(b + got, piece, (size_t)r);
            got += (size_t)r;
        }
        say("way %d: got %zu, %s\n", how, got, app_match(b, got, 0) == n ? "right" : "WRONG");
        RES(write(fd, b, got));
    }
}

static void
client(int fd)
{
    char b[70000];
    app_fill(b, sizeof b, 0);
    for (int how = 0; how < 3; how++) {
        struct pollfd p[1] = {{.fd = fd, .events = POLLIN}};
        struct timespec ts = {20, 0};
        RES(write(fd, b, sizeof b));
        if (how == 1)
            RES(ppoll(p, one, &ts, NULL));
        else
            RES(poll(p, one, APP_WAIT));
        say("revents %s\n", app_events((unsigned)p[0].revents));
        say("got back %zu\n", app_get(fd, b, sizeof b));
        say("match %zu\n", app_match(b, sizeof b, 0));
    }
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_talk("fortified echo", server, client);
    return 0;
}
