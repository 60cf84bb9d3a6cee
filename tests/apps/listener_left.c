/* SPDX-License-Identifier: Apache-2.0
 *
 * listener_left: who holds a listener, while processes let go of it. `children`: each child closes its copy first, as
 * a server's do that forks for each connection; the listener stays, and the children's closes are no matter for
 * meshd, which is asked for the parent's alone. `parent`: the parent closes, a child goes on and serves; its close is
 * the end, and so it is when its own child had let go before.
 */
/* run: modes children parent */
/* run: asks 16 */
#include "app.h"

#define CHILDREN 20

static void
reap(pid_t pid)
{
    int st = -1;
    MUST(waitpid(pid, &st, 0) == pid && st == 0);
}

static void
refused(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    RES(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
    close(fd);
}

static void
exchange(int lfd)
{
    char b[5];
    int c = app_connect(), s = accept(lfd, NULL, NULL);
    app_put(c, "hello", 5);
    say("served %zu\n", app_get(s, b, 5));
    close(c);
    close(s);
}

static void
children(int lfd)
{
    for (int i = 0; i < CHILDREN; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(close(lfd) != 0);
        reap(pid);
        if (i % 10 == 0)
            exchange(lfd);
    }
    RES(close(lfd));
    refused();
}

/* In the child, when its parent has let go. */
static void
go_on(int lfd, int closed, int told)
{
    char b;
    MUST(read(closed, &b, 1) == 1);
    exchange(lfd);
    pid_t pid = fork();
    if (pid == 0)
        _exit(close(lfd) != 0);
    reap(pid);
    exchange(lfd);
    RES(close(lfd));
    MUST(write(told, "x", 1) == 1);
}

static void
parent(int lfd)
{
    int closed[2], told[2];
    char b;
    MUST(pipe(closed) == 0 && pipe(told) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        go_on(lfd, closed[0], told[1]);
        fflush(NULL);
        _exit(0);
    }
    RES(close(lfd));
    MUST(write(closed[1], "x", 1) == 1);
    MUST(read(told[0], &b, 1) == 1);
    reap(pid);
    refused();
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    int lfd = app_listen();
    fflush(NULL);
    if (strcmp(app_mode, "children") == 0)
        children(lfd);
    else
        parent(lfd);
    return 0;
}
