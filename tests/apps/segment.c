/* SPDX-License-Identifier: Apache-2.0
 *
 * segment: what a client reads as TCP_MAXSEG right after connect it can set, as py-amqp does with all options of TCP. On
 * loopback the kernel's own value is half the window of the SYN, and grows with the window.
 */
/* run: modes blocking nonblocking */
#include "app.h"

static void
server(int lfd)
{
    char b[100];
    int fd = (int)CK(accept(lfd, NULL, NULL));
    say("got %zu\n", app_get(fd, b, sizeof b));
    app_put(fd, b, sizeof b);
    close(fd);
}

int
main(int argc, char **argv)
{
    struct app_task t;
    char b[100];
    int val = -1;
    socklen_t len = sizeof val;
    app_main(argc, argv);
    int waits = argc > 1 && strcmp(argv[1], "nonblocking") == 0;
    app_fill(b, sizeof b, 0);
    int lfd = app_listen();
    app_start(&t, server, lfd);
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | (waits ? SOCK_NONBLOCK : 0), 0));
    if (connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) != 0) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        CK(poll(&p, 1, APP_WAIT));
    }
    CK(fcntl(fd, F_SETFL, 0));
    RES(getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &val, &len));
    say("%u bytes, positive %d\n", (unsigned)len, val > 0);
    RES(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &val, sizeof val));
    val = 32768;
    RES(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &val, sizeof val));
    app_put(fd, b, sizeof b);
    say("got %zu\n", app_get(fd, b, sizeof b));
    close(fd);
    app_join(&t, "server");
    return 0;
}
