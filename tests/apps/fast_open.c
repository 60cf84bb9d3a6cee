/* SPDX-License-Identifier: Apache-2.0
 *
 * fast_open: TCP_FASTOPEN_CONNECT is there to be read as it was set, before and after the connection, and refused as by
 * the kernel; with it connect and the first write make a connection, and so does sendmmsg with MSG_FASTOPEN.
 */
#include "app.h"

static void
get(int fd)
{
    int val = -1;
    socklen_t len = sizeof val;
    RES(getsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &val, &len));
    say("is %d, %u bytes\n", val, (unsigned)len);
}

static void
set(int fd, int val, socklen_t len)
{
    RES(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &val, len));
    get(fd);
}

static void
server(int lfd)
{
    char b[100];
    for (int i = 0; i < 5; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        say("got %zu\n", app_get(fd, b, sizeof b));
        say("match %zu\n", app_match(b, sizeof b, 0));
        app_put(fd, b, sizeof b);
        close(fd);
    }
}

/* Connects while it sends; then that is undone. */
static void
message(void)
{
    char b[100];
    struct iovec v = {b, sizeof b};
    struct msghdr m = {.msg_name = &app_addr, .msg_namelen = sizeof app_addr, .msg_iov = &v, .msg_iovlen = 1};
    struct mmsghdr two[2] = {{.msg_hdr = m}, {.msg_hdr = m}};
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    app_fill(b, sizeof b, 0);
    RES(sendmmsg(fd, two, 2, MSG_FASTOPEN));
    say("sent %u %u\n", two[0].msg_len, two[1].msg_len);
    say("got %zu\n", app_get(fd, b, sizeof b));
    close(fd);
}

static void
undone(void)
{
    const struct sockaddr none = {.sa_family = AF_UNSPEC};
    char b[100];
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    app_fill(b, sizeof b, 0);
    set(fd, 1, sizeof(int));
    RES(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
    RES(write(fd, b, sizeof b));
    say("got %zu\n", app_get(fd, b, sizeof b));
    RES(connect(fd, &none, sizeof none));
    get(fd);
    close(fd);
}

int
main(int argc, char **argv)
{
    struct app_task t;
    char b[100];
    app_main(argc, argv);
    app_fill(b, sizeof b, 0);
    int lfd = app_listen();
    set(lfd, 1, sizeof(int));
    int udp = (int)CK(socket(AF_INET, SOCK_DGRAM, 0));
    set(udp, 1, sizeof(int));
    close(udp);
    app_start(&t, server, lfd);
    for (int i = 0; i < 3; i++) { /* with a cookie, if there is one, from the second on */
        int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
        get(fd);
        set(fd, 2, sizeof(int));
        set(fd, -1, sizeof(int));
        set(fd, 1, 1);
        set(fd, 1, sizeof(int));
        set(fd, 0, sizeof(int));
        set(fd, i > 0, sizeof(int));
        RES(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, NULL, sizeof(int)));
        RES(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
        RES(write(fd, b, sizeof b));
        get(fd);
        set(fd, 0, sizeof(int));
        say("got %zu\n", app_get(fd, b, sizeof b));
        say("match %zu\n", app_match(b, sizeof b, 0));
        close(fd);
    }
    message();
    undone();
    close(lfd);
    app_join(&t, "server");
    return 0;
}
