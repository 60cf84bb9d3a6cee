/* SPDX-License-Identifier: Apache-2.0
 *
 * close_cancelled: a thread is cancelled, and acts on that in close(), a cancellation point [pthreads(7)]: the descriptor is
 * as it was, the thread's clean-up runs with its own signal mask, and the connection or listener goes on. `child`: in a
 * child, while its parent has the listener, too. close_range() and closefrom() are none, and close.
 */
/* run: modes own child conn range from */
#include "app.h"

static int fds[2];

static void
at_end(void *unused)
{
    sigset_t now;
    (void)unused;
    CK(pthread_sigmask(SIG_SETMASK, NULL, &now));
    say("blocked: %d\n", sigismember(&now, SIGUSR1));
}

static void *
cancelled(void *arg)
{
    pthread_cleanup_push(at_end, NULL);
    MUST(pthread_cancel(pthread_self()) == 0);
    if (strcmp(app_mode, "range") == 0)
        RES(close_range((unsigned)*(int *)arg, (unsigned)*(int *)arg, 0));
    else if (strcmp(app_mode, "from") == 0)
        closefrom(*(int *)arg);
    else
        close(*(int *)arg);
    say("not cancelled\n");
    pthread_testcancel();
    pthread_cleanup_pop(0);
    return NULL;
}

static void
cancel_in_close(int fd)
{
    pthread_t t;
    void *end = NULL;
    MUST(pthread_create(&t, NULL, cancelled, &fd) == 0);
    MUST(pthread_join(t, &end) == 0);
    say("%s\n", end == PTHREAD_CANCELED ? "cancelled" : "ended");
    RES(fcntl(fd, F_GETFD)); /* EBADF where it was closed */
}

static void
client(int lfd)
{
    CK(close(lfd));
    app_pass(fds[0]);
    int fd = app_connect();
    char b[5000];
    for (int i = 0; i < 2; i++) {
        app_fill(b, sizeof b, 0);
        app_put(fd, b, sizeof b);
        size_t n = app_get(fd, b, sizeof b);
        say("match %zu\n", app_match(b, n, 0));
    }
    close(fd);
}

static void
serve(int lfd)
{
    char b[5000];
    int fd = (int)CK(accept(lfd, NULL, NULL));
    for (int i = 0; i < 2; i++) {
        size_t n = app_get(fd, b, sizeof b);
        if (strcmp(app_mode, "conn") == 0)
            cancel_in_close(fd);
        say("match %zu\n", app_match(b, n, 0));
        app_put(fd, b, n);
    }
    CK(close(fd));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    fds[0] = app_gate();
    int lfd = app_listen();
    app_start_fork(&t, client, lfd);
    fflush(stdout);
    pid_t pid = strcmp(app_mode, "child") == 0 ? (pid_t)CK(fork()) : 0;
    if (pid == 0) {
        if (strcmp(app_mode, "range") == 0 || strcmp(app_mode, "from") == 0)
            cancel_in_close((int)CK(fcntl(lfd, F_DUPFD, 100)));
        else if (strcmp(app_mode, "conn") != 0)
            cancel_in_close(lfd);
        app_open(fds[0]);
        serve(lfd);
        RES(close(lfd));
    } else {
        CK(waitpid(pid, NULL, 0));
    }
    if (pid || strcmp(app_mode, "child") != 0)
        app_join(&t, "client");
    return 0;
}
