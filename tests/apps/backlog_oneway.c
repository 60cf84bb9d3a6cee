/* SPDX-License-Identifier: Apache-2.0
 *
 * backlog_oneway: a sender that never reads and ends right after its send, by return from main's
 * child path (exit) or by _exit, before or after the server accepts. Everything arrives, then EOF.
 */
#include "app.h"

static const size_t sizes[] = {10, 5000, 16384, 60000};

static void
child(int hard, size_t n)
{
    static char b[60000];
    app_fill(b, n, 0);
    int fd = app_connect();
    app_put(fd, b, n);
    if (hard)
        _exit(3);
    exit(3);
}

int
main(void)
{
    int lfd = app_listen(), st = 0;
    for (int late = 0; late < 2; late++)
        for (int hard = 0; hard < 2; hard++)
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                fflush(stdout);
                pid_t pid = (pid_t)CK(fork());
                if (pid == 0)
                    child(hard, sizes[i]);
                if (late)
                    CK(waitpid(pid, &st, 0));
                int fd = (int)CK(accept(lfd, NULL, NULL));
                if (!late)
                    CK(waitpid(pid, &st, 0));
                say("%s, %s, %zu: status %d\n", late ? "accepted after the end" : "accepting",
                    hard ? "_exit" : "exit", sizes[i], WEXITSTATUS(st));
                app_drain(fd, 0);
                close(fd);
            }
    return 0;
}
