/* SPDX-License-Identifier: Apache-2.0
 *
 * fork_exec: a connection outlives exec: inetd hands it to a program as its standard input and
 * output; a program executes itself with the descriptor's number; also by posix_spawn and vfork.
 */
/* run: modes fork vfork spawn */
/* run: later a connection inherited through exec: not carried yet (docs/ARCHITECTURE.md, Limits) */
#include "app.h"
#include <spawn.h>

extern char **environ;

/* What the executed image does: echoes until the end, from fd in to fd out. */
static int
image(int in, int out)
{
    static char b[20000];
    ssize_t r = 0;
    while ((r = read(in, b, sizeof b)) > 0)
        app_put(out, b, (size_t)r);
    return r == 0 ? 0 : 1;
}

static pid_t
start(const char *self, int fd, int stdio)
{
    char number[12],
        *args[] = {(char *)(uintptr_t)self, (char *)(uintptr_t)(stdio ? "0" : number), NULL};
    pid_t pid = 0;
    snprintf(number, sizeof number, "%d", fd);
    if (strcmp(app_mode, "spawn") == 0) {
        posix_spawn_file_actions_t fa;
        posix_spawn_file_actions_init(&fa);
        if (stdio) {
            posix_spawn_file_actions_adddup2(&fa, fd, 0);
            posix_spawn_file_actions_adddup2(&fa, fd, 1);
            posix_spawn_file_actions_addclose(&fa, fd);
        }
        MUST(posix_spawn(&pid, self, &fa, NULL, args, environ) == 0);
        posix_spawn_file_actions_destroy(&fa);
        return pid;
    }
    pid = (pid_t)CK(strcmp(app_mode, "vfork") == 0 ? vfork() : fork());
    if (pid == 0) {
        if (stdio) {
            dup2(fd, 0);
            dup2(fd, 1);
            close(fd);
        }
        execv(self, args);
        _exit(9);
    }
    return pid;
}

static void
client(int lfd)
{
    static char b[50000];
    (void)lfd;
    for (int i = 0; i < 4; i++) {
        int fd = app_connect(), right = 1;
        for (size_t n = 1; n < sizeof b; n *= 7) {
            app_fill(b, n, n);
            app_put(fd, b, n);
            right &= app_get(fd, b, n) == n && app_match(b, n, n) == n;
        }
        CK(shutdown(fd, SHUT_WR));
        say("%s, end %zd\n", right ? "right" : "WRONG", read(fd, b, 1));
        close(fd);
    }
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    if (argc > 1 && app_mode[0] >= '0' && app_mode[0] <= '9')
        return image(atoi(app_mode), app_mode[0] == '0' ? 1 : atoi(app_mode));
    int lfd = app_listen();
    app_start_thread(&t, client, lfd);
    for (int i = 0; i < 4; i++) {
        int st = 0;
        char b[1];
        int fd = (int)CK(accept(lfd, NULL, NULL));
        if (i & 1) /* already used before it is handed over */
            MUST(recv(fd, b, 1, MSG_PEEK) == 1);
        pid_t pid = start(argv[0], fd, i < 2);
        close(fd);
        CK(waitpid(pid, &st, 0));
        say("image ended with %d\n", st);
    }
    app_join(&t, "client");
    return 0;
}
