/* SPDX-License-Identifier: Apache-2.0
 *
 * stdio_exit: what a stream on a connection still holds when its process ends: exit writes it, after
 * all other clean-up has run; _exit and quick_exit lose it. Accepted meanwhile, or only when the
 * process has gone.
 */
#include "app.h"

static FILE *last;

__attribute__((destructor)) static void
say_last(void)
{
    if (last)
        fputs("from a destructor PLAINMARKER\n", last);
}

static void
close_last(void)
{
    fputs("from a handler PLAINMARKER\n", last);
    fclose(last);
    last = NULL;
}

static void
leave(const char *how)
{
    last = fdopen(app_connect(), "w");
    MUST(last);
    fprintf(last, "PLAINMARKER %s\n", how);
    if (strcmp(how, "_exit") == 0)
        _exit(0);
    if (strcmp(how, "quick_exit") == 0)
        quick_exit(0);
    if (strcmp(how, "fclose at exit") == 0)
        atexit(close_last);
    if (strcmp(how, "standard output") == 0) {
        CK(dup2(fileno(last), 1));
        printf("PLAINMARKER printed\n");
    }
    exit(0);
}

static void
collect(int lfd, const char *how)
{
    char b[2000];
    int fd = (int)CK(accept(lfd, NULL, NULL));
    size_t n = app_get(fd, b, sizeof b - 1);
    b[n] = 0;
    /* The order in which streams are flushed is libc's business, but theirs alone. */
    say("-- %s: %zu bytes\n%s", how, n, b);
    close(fd);
}

int
main(int argc, char **argv)
{
    static const char *const ways[] = {"exit", "_exit", "quick_exit", "fclose at exit",
                                       "standard output"};
    app_main(argc, argv);
    int lfd = app_listen();
    for (int i = 0; i < 10; i++) {
        int late = i >= 5;
        int st = 0;
        fflush(stdout);
        pid_t pid = (pid_t)CK(fork());
        if (pid == 0) {
            close(lfd);
            leave(ways[i % 5]);
        }
        if (!late)
            collect(lfd, ways[i % 5]);
        CK(waitpid(pid, &st, 0));
        if (late)
            collect(lfd, ways[i % 5]);
        say("status %d\n", st);
    }
    return 0;
}
