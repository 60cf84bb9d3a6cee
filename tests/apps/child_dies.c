/* SPDX-License-Identifier: Apache-2.0
 *
 * child_dies: children end while their parent makes connections. Nobody handles SIGCHLD, so no call of another thread
 * ends for it [signal(7)].
 */
#include "app.h"

#define TIMES 300

static int quiet;
static _Atomic int over, broken;

static void *
sleeper(void *arg)
{
    struct epoll_event e;
    (void)arg;
    while (!over)
        broken += epoll_wait(quiet, &e, 1, -1) < 0;
    return NULL;
}

static void
server(int lfd)
{
    for (int i = 0; i < TIMES; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        app_drain(fd, 0);
        CK(close(fd));
    }
}

int
main(int argc, char **argv)
{
    struct app_task t;
    pthread_t thread;
    int end = app_gate(), lfd = app_listen();
    app_main(argc, argv);
    quiet = (int)CK(epoll_create1(0));
    app_epoll_add(quiet, end, EPOLLIN);
    app_start_fork(&t, server, lfd);
    MUST(pthread_create(&thread, NULL, sleeper, NULL) == 0);
    for (int i = 0; i < TIMES; i++) {
        pid_t pid = (pid_t)CK(fork());
        if (pid == 0)
            _exit(0);
        CK(close(app_connect()));
        CK(waitpid(pid, NULL, 0));
    }
    over = 1;
    app_open(end);
    MUST(pthread_join(thread, NULL) == 0);
    app_join(&t, "server");
    say("interrupted %d\n", broken);
    return 0;
}
