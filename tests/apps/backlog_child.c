/* SPDX-License-Identifier: Apache-2.0
 *
 * backlog_child: a client connects, and its child writes first and ends, while another process
 * accepts only 300 ms later. The child's bytes belong to that connection and go before the parent's,
 * who waits for the child's end, or writes only when it has been told by another way that the bytes
 * arrived. The delay is the subject.
 */
/* run: modes waitpid told */
#include "app.h"

static int told[2];

static void
server(int lfd)
{
    char b[100] = "";
    CK(poll(NULL, 0, 300));
    int fd = (int)CK(accept(lfd, NULL, NULL));
    say("first %zu\n", app_get(fd, b, 5));
    say("%s\n", b);
    app_put(told[1], "t", 1);
    size_t n = app_get(fd, b, sizeof b);
    say("then %zu %.*s\n", n, (int)n, b);
    close(fd);
    MUST(app_poll(lfd, POLLIN, APP_QUIET) == 0); /* nor does another connection bring them */
}

int
main(int argc, char **argv)
{
    char b[1];
    int st = 0;
    struct app_task t;
    app_main(argc, argv);
    CK(pipe(told));
    int lfd = app_listen();
    app_start_fork(&t, server, lfd);
    close(lfd);
    int fd = app_connect();
    fflush(stdout);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        app_put(fd, "child", 5);
        exit(0);
    }
    if (strcmp(app_mode, "told") == 0)
        MUST(app_poll(told[0], POLLIN, APP_WAIT) == POLLIN && read(told[0], b, 1) == 1);
    CK(waitpid(pid, &st, 0));
    say("child: %d\n", st);
    RES(write(fd, "parent", 6));
    CK(close(fd));
    app_join(&t, "server");
    return 0;
}
