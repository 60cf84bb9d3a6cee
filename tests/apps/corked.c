/* SPDX-License-Identifier: Apache-2.0
 *
 * corked: TCP_CORK, set before there is a connection, holds back what a program writes until it lets go, or 200 ms
 * [tcp(7)]; not what it did not write. The quickest of ten times that a client connects, asks and gets an answer is far
 * below that: the server's listener is corked, whose connections inherit it, or the client, which lets go when it has
 * asked. What is written under a cork waits for it all the same.
 */
/* run: modes listener client held */
#include "app.h"

#define TIMES 10
#define HELD_MS 200

static void
cork(int fd, int on)
{
    CK(setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on));
}

static int
is_mode(const char *name)
{
    return strcmp(app_mode, name) == 0;
}

static void
ask(int lfd)
{
    int64_t least = INT64_MAX;
    char b[3];
    (void)lfd;
    for (int i = 0; i < TIMES; i++) {
        int64_t begun = app_ms();
        int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
        if (is_mode("client"))
            cork(fd, 1);
        CK(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
        app_put(fd, "ask", 3);
        if (is_mode("client"))
            cork(fd, 0);
        MUST(app_get(fd, b, 3) == 3);
        least = app_ms() - begun < least ? app_ms() - begun : least;
        close(fd);
    }
    say("it is %s\n", least >= HELD_MS / 2 ? "held" : "quick");
}

int
main(int argc, char **argv)
{
    struct app_task t;
    char b[3];
    app_main(argc, argv);
    int lfd = app_listen();
    if (!is_mode("client"))
        cork(lfd, 1);
    app_start_fork(&t, ask, lfd);
    for (int i = 0; i < TIMES; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL)), on = 0;
        socklen_t len = sizeof on;
        MUST(app_get(fd, b, 3) == 3);
        app_put(fd, b, 3);
        CK(getsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, &len));
        if (i == 0)
            say("corked: %d\n", on);
        if (is_mode("listener"))
            cork(fd, 0);
        app_get(fd, b, 1);
        close(fd);
    }
    app_join(&t, "client");
    return 0;
}
