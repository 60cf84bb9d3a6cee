/* SPDX-License-Identifier: Apache-2.0
 *
 * backlog_blocked: a client connects, sends, and then waits for something that is not this
 * socket, while another process accepts 300 ms later; the bytes must arrive all the same, and the
 * client is told so by that other way. The delay is the subject.
 */
/* run: modes read poll select epoll sleep waitpid futex */
#include "app.h"

static int told[2];

static void
server(int lfd)
{
    char b[500];
    CK(poll(NULL, 0, 300));
    int fd = (int)CK(accept(lfd, NULL, NULL));
    say("got %zu\n", app_get(fd, b, sizeof b));
    say("match %zu\n", app_match(b, sizeof b, 0));
    app_put(told[1], "t", 1);
    RES(read(fd, b, 1));
    close(fd);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int heard;

static void *
listener(void *arg)
{
    char b[1];
    CK(syscall(SYS_read, told[0], b, 1));
    pthread_mutex_lock(&lock);
    heard = 1;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&lock);
    return arg;
}

static void
wait_told(void)
{
    char b[1];
    struct epoll_event e = {.events = EPOLLIN};
    fd_set in;
    pthread_t t;
    FD_ZERO(&in);
    FD_SET(told[0], &in);
    if (strcmp(app_mode, "futex") == 0) {
        MUST(pthread_create(&t, NULL, listener, NULL) == 0);
        pthread_mutex_lock(&lock);
        while (!heard)
            pthread_cond_wait(&cond, &lock);
        pthread_mutex_unlock(&lock);
        MUST(pthread_join(t, NULL) == 0);
        return;
    }
    if (strcmp(app_mode, "poll") == 0)
        MUST(app_poll(told[0], POLLIN, APP_WAIT) == POLLIN);
    if (strcmp(app_mode, "select") == 0)
        MUST(select(told[0] + 1, &in, NULL, NULL, NULL) == 1);
    if (strcmp(app_mode, "epoll") == 0) {
        int ep = (int)CK(epoll_create1(0));
        CK(epoll_ctl(ep, EPOLL_CTL_ADD, told[0], &e));
        MUST(epoll_wait(ep, &e, 1, APP_WAIT) == 1);
        close(ep);
    }
    if (strcmp(app_mode, "sleep") == 0) {
        struct timespec nap = {0, 400000000}; /* over the server's delay; nothing else is called */
        int have = 0;
        for (int i = 0; i < APP_WAIT / 400 && have == 0; i++) {
            CK(nanosleep(&nap, NULL));
            CK(ioctl(told[0], FIONREAD, &have));
        }
        MUST(have == 1);
    }
    MUST(read(told[0], b, 1) == 1);
}

int
main(int argc, char **argv)
{
    char b[500];
    struct app_task t;
    app_main(argc, argv);
    CK(pipe(told));
    app_fill(b, sizeof b, 0);
    int lfd = app_listen();
    app_start_fork(&t, server, lfd);
    close(lfd);
    int fd = app_connect();
    RES(write(fd, b, sizeof b));
    if (strcmp(app_mode, "waitpid") == 0) {
        fflush(stdout);
        pid_t pid = (pid_t)CK(fork());
        if (pid == 0) {
            close(fd);
            _exit(app_poll(told[0], POLLIN, APP_WAIT) == POLLIN ? 0 : 1);
        }
        int st = 0;
        CK(waitpid(pid, &st, 0));
        say("told: %d\n", st);
    } else {
        wait_told();
        say("told\n");
    }
    CK(close(fd));
    app_join(&t, "server");
    return 0;
}
