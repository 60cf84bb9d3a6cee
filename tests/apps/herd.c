/* SPDX-License-Identifier: Apache-2.0
 *
 * herd: threads that wait for something else sleep while one makes connections: what happens on one of those wakes
 * one of them, or none, not all. Counted by the kernel, as voluntary context switches: now and then each may look,
 * every 5 ms, and one may see all that happens. The server is another process.
 */
/* run: modes poll select epoll sleep */
#include "app.h"

#define BYSTANDERS 24
#define AT_A_TIME 20
#define ROUNDS 20

static int over[BYSTANDERS][2];
static long switches[BYSTANDERS];

static int
is_mode(const char *name)
{
    return strcmp(app_mode, name) == 0;
}

static int
is_over(int fd, int ep)
{
    struct epoll_event e;
    struct timeval tv = {0, 20000};
    struct timespec ts = {0, 20000000};
    fd_set r;
    FD_ZERO(&r);
    FD_SET(fd, &r);
    if (is_mode("poll"))
        return app_poll(fd, POLLIN, 20) == POLLIN;
    if (is_mode("select"))
        return (int)CK(select(fd + 1, &r, NULL, NULL, &tv));
    if (is_mode("epoll"))
        return (int)CK(epoll_wait(ep, &e, 1, 20));
    CK(nanosleep(&ts, NULL));
    return app_poll(fd, POLLIN, 0) == POLLIN;
}

static void *
bystander(void *arg)
{
    struct rusage before, after;
    int *end = arg;
    int ep = (int)CK(epoll_create1(0));
    app_epoll_add(ep, end[0], EPOLLIN);
    CK(getrusage(RUSAGE_THREAD, &before));
    while (!is_over(end[0], ep))
        ;
    CK(getrusage(RUSAGE_THREAD, &after));
    switches[(end - over[0]) / 2] = after.ru_nvcsw - before.ru_nvcsw;
    return NULL;
}

static void
serve(int listener)
{
    for (int i = 0; i < AT_A_TIME * ROUNDS; i++) {
        char b;
        int fd = (int)CK(accept(listener, NULL, NULL));
        app_get(fd, &b, 1);
        app_put(fd, &b, 1);
        close(fd);
    }
}

static void
connect_some(void)
{
    struct pollfd p[AT_A_TIME];
    int left = AT_A_TIME;
    for (int i = 0; i < AT_A_TIME; i++) {
        p[i] = (struct pollfd){(int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)), POLLOUT, 0};
        MUST(connect(p[i].fd, (struct sockaddr *)&app_addr, sizeof app_addr) == 0 || errno == EINPROGRESS);
    }
    while (left) {
        MUST(poll(p, AT_A_TIME, APP_WAIT) > 0);
        for (int i = 0; i < AT_A_TIME; i++) {
            if (p[i].revents & POLLOUT) {
                MUST(write(p[i].fd, "x", 1) == 1);
                p[i].events = POLLIN;
            } else if (p[i].revents) {
                char b;
                MUST(read(p[i].fd, &b, 1) == 1 && b == 'x');
                close(p[i].fd);
                p[i].fd = -1;
                left--;
            }
        }
    }
}

int
main(int argc, char **argv)
{
    pthread_t t[BYSTANDERS];
    int status;
    app_main(argc, argv);
    int listener = app_listen();
    pid_t server = (pid_t)CK(fork());
    if (server == 0) {
        serve(listener);
        _exit(0);
    }
    close(listener);
    for (int i = 0; i < BYSTANDERS; i++) {
        CK(pipe(over[i]));
        MUST(pthread_create(&t[i], NULL, bystander, over[i]) == 0);
    }
    int64_t began = app_ms();
    for (int i = 0; i < ROUNDS; i++)
        connect_some();
    long ticks = (long)(app_ms() - began) / 5 + 1, sum = 0;
    for (int i = 0; i < BYSTANDERS; i++)
        MUST(write(over[i][1], "", 1) == 1);
    for (int i = 0; i < BYSTANDERS; i++) {
        pthread_join(t[i], NULL);
        sum += switches[i];
    }
    CK(waitpid(server, &status, 0));
    int sleep = sum <= 2 * BYSTANDERS * (ticks + 2) + 4 * AT_A_TIME * ROUNDS;
    say("exit %d, they %s\n", status, sleep ? "sleep" : "are woken");
    return 0;
}
