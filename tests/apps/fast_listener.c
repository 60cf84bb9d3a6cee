/* SPDX-License-Identifier: Apache-2.0
 *
 * fast_listener: a listener that was shut down connects as any other socket, by MSG_FASTOPEN too.
 */
/* run: modes to many */
#include "app.h"

static void
server(int lfd)
{
    char b[64];
    int fd = (int)CK(accept(lfd, NULL, NULL));
    say("got %zu\n", app_get(fd, b, 11));
    app_put(fd, "hello", 5);
    CK(close(fd));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    char b[64] = "PLAINMARKER", c[64];
    app_main(argc, argv);
    struct sockaddr_in me;
    int a = app_listen_at(INADDR_LOOPBACK, 8, &me);
    int lfd = app_listen();
    app_start_fork(&t, server, lfd);
    RES(shutdown(a, SHUT_RDWR));
    if (strcmp(app_mode, "to") == 0) {
        RES(sendto(a, b, 11, MSG_FASTOPEN, (struct sockaddr *)&app_addr, sizeof app_addr));
    } else {
        struct iovec v = {b, 11};
        struct mmsghdr m = {.msg_hdr = {.msg_iov = &v, .msg_iovlen = 1}};
        m.msg_hdr.msg_name = &app_addr;
        m.msg_hdr.msg_namelen = sizeof app_addr;
        RES(sendmmsg(a, &m, 1, MSG_FASTOPEN));
    }
    say("got %zu\n", app_get(a, c, 5));
    app_join(&t, "server");
    return 0;
}
