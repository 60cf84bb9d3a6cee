/* SPDX-License-Identifier: Apache-2.0
 *
 * fork_serve: the server forks after accept, the child serves, the parent closes its copy
 * (PostgreSQL, inetd), or forks once more; children end by exit and by _exit; the parent's close is
 * no end for the client. Sessions one after the other and several at once.
 */
/* run: modes once twice */
#include "app.h"

#define CLIENTS 6

static void
serve(int fd, int hard)
{
    char b[4096];
    ssize_t r = 0;
    while ((r = read(fd, b, sizeof b)) > 0)
        app_put(fd, b, (size_t)r);
    if (hard)
        _exit(r == 0 ? 0 : 1);
    exit(r == 0 ? 0 : 1);
}

static void
clients(int lfd)
{
    static char b[20000];
    int fd[CLIENTS];
    (void)lfd;
    for (int i = 0; i < CLIENTS; i++) {
        fd[i] = app_connect();
        app_fill(b, 100, (uint64_t)i);
        app_put(fd[i], b, 100);
        say("first answer %zu\n", app_get(fd[i], b, 100));
        if (i % 2 == 0)
            continue;
        RES(close(fd[i]));
    }
    for (int i = 0; i < CLIENTS; i += 2) {
        for (int k = 0; k < 5; k++) {
            app_fill(b, sizeof b, (uint64_t)i);
            app_put(fd[i], b, sizeof b);
            size_t n = app_get(fd[i], b, sizeof b);
            MUST(app_match(b, n, (uint64_t)i) == sizeof b);
        }
        RES(shutdown(fd[i], SHUT_WR));
        RES(read(fd[i], b, 1));
        close(fd[i]);
    }
}

int
main(int argc, char **argv)
{
    struct app_task t;
    int bad = 0, st = 0;
    app_main(argc, argv);
    int lfd = app_listen();
    app_start_fork(&t, clients, lfd);
    for (int i = 0; i < CLIENTS; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        fflush(stdout);
        pid_t pid = (pid_t)CK(fork());
        if (pid == 0) {
            close(lfd);
            if (strcmp(app_mode, "twice") == 0) {
                pid_t second = (pid_t)CK(fork());
                if (second) {
                    close(fd);
                    CK(waitpid(second, &st, 0));
                    _exit(st != 0);
                }
            }
            serve(fd, i & 1);
        }
        RES(close(fd));
    }
    app_join(&t, "clients");
    for (int i = 0; i < CLIENTS; i++)
        bad += waitpid(-1, &st, 0) < 0 || st != 0;
    say("children that failed %d\n", bad);
    return 0;
}
