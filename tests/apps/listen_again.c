/* SPDX-License-Identifier: Apache-2.0
 *
 * listen_again: shutdown() ends listening, as does connect() to AF_UNSPEC, and listen() on the same socket begins it
 * anew [inet_shutdown, inet_listen in net/ipv4/af_inet.c]: at the port that bind() gave it, or, `port`, at a new one.
 * `connect`: it becomes a client's.
 */
/* run: modes same port unspec connect */
#include "app.h"

static int
bound(void)
{
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0)), on = 1;
    CK(close(app_listen())); /* a free port */
    CK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    CK(bind(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
    CK(listen(fd, 8));
    return fd;
}

static void
again(int lfd)
{
    struct sockaddr unspec = {.sa_family = AF_UNSPEC};
    if (strcmp(app_mode, "unspec") == 0)
        RES(connect(lfd, &unspec, sizeof unspec));
    else
        RES(shutdown(lfd, SHUT_RDWR));
    if (strcmp(app_mode, "connect") != 0)
        RES(listen(lfd, 8));
    CK(getsockname(lfd, (struct sockaddr *)&app_addr, &(socklen_t){sizeof app_addr}));
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    int lfd = strcmp(app_mode, "port") == 0 ? app_listen() : bound(), fd = -1, c, s;
    again(lfd);
    if (strcmp(app_mode, "connect") == 0) {
        fd = app_listen();
        RES(connect(lfd, (struct sockaddr *)&app_addr, sizeof app_addr));
        c = lfd;
    } else {
        fd = lfd;
        c = app_connect();
    }
    s = (int)CK(accept(fd, NULL, NULL));
    app_both_ways(c, s);
    CK(close(s));
    CK(close(c));
    if (c != lfd)
        RES(close(fd));
    return 0;
}
