/* SPDX-License-Identifier: Apache-2.0
 *
 * epoll_asleep: threads sleep in epoll_wait, one in the common set, the others each in its own, before there is any
 * connection. One is made, put into all sets, and finished by the main thread. Edges come once, and events carry the
 * program's data, however late a thread wakes up. exclusive: EPOLLEXCLUSIVE is not to be changed, also meanwhile.
 */
/* run: modes edge data exclusive */
#include "app.h"

#define TIMES 200
#define OTHERS 40
#define DATA UINT64_C(0x1234500000)

static int set[OTHERS];
static _Atomic int waits[OTHERS], edges[TIMES], foreign, over;

static void *
waiter(void *arg)
{
    int i = (int)(intptr_t)arg;
    while (!over) {
        struct epoll_event e = {0};
        waits[i] = 1;
        int n = (int)CK(epoll_wait(set[i], &e, 1, -1));
        waits[i] = 0;
        if (n == 1 && (e.data.u64 < DATA || e.data.u64 > DATA + TIMES))
            foreign++;
        else if (n == 1 && e.data.u64 < DATA + TIMES)
            edges[e.data.u64 - DATA]++;
        if (strcmp(app_mode, "data") == 0)
            usleep(2000);
    }
    return NULL;
}

static void
server(int lfd)
{
    char b[1];
    for (int i = 0; i < TIMES; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        (void)!read(fd, b, 1);
        CK(close(fd));
    }
}

static void
put_in(int ep, int fd, unsigned events, uint64_t data)
{
    struct epoll_event e = {.events = events, .data.u64 = data};
    CK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
}

static int
begin(void)
{
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) < 0 && errno == EINPROGRESS);
    return fd;
}

static void
exclusive(int lfd)
{
    int fd = begin(), ep = (int)CK(epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN | EPOLLEXCLUSIVE};
    RES(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    e.events = EPOLLIN;
    RES(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
    RES(epoll_ctl(ep, EPOLL_CTL_DEL, fd, &e));
    RES(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    e.events = EPOLLIN | EPOLLEXCLUSIVE;
    RES(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
    RES(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    int peer = (int)CK(accept(lfd, NULL, NULL));
    app_nonblock(fd, 0);
    app_put(fd, "x", 1);
    say("got %zu\n", app_get(peer, &(char){0}, 1));
}

/* One connection in the sets of n threads. */
static void
one(int i, int n, unsigned events)
{
    for (int j = 0; j < n; j++)
        for (int k = 0; k < 2000 && !waits[j]; k++)
            usleep(100);
    usleep(300);
    int fd = begin();
    for (int j = 0; j < n; j++)
        put_in(set[j], fd, events, DATA + (uint64_t)i);
    MUST(app_poll(fd, POLLOUT, APP_WAIT) == POLLOUT);
    usleep(2000);
    for (int j = 0; j < n; j++)
        CK(epoll_ctl(set[j], EPOLL_CTL_DEL, fd, NULL));
    CK(close(fd));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    pthread_t thread[OTHERS];
    int more = 0, end = app_gate(), lfd = app_listen();
    app_main(argc, argv);
    int edge = strcmp(app_mode, "edge") == 0;
    int n = edge ? 1 : OTHERS;
    if (strcmp(app_mode, "exclusive") == 0) {
        exclusive(lfd);
        return 0;
    }
    app_start_fork(&t, server, lfd);
    for (int i = 0; i < n; i++) {
        set[i] = (int)CK(epoll_create1(EPOLL_CLOEXEC));
        MUST(pthread_create(&thread[i], NULL, waiter, (void *)(intptr_t)i) == 0);
    }
    for (int i = 0; i < TIMES; i++) {
        one(i, n, (edge ? EPOLLOUT : EPOLLIN) | EPOLLET);
        more += edge && edges[i] > 1;
    }
    over = 1;
    app_open(end);
    for (int i = 0; i < n; i++)
        put_in(set[i], end, EPOLLIN, DATA + TIMES);
    for (int i = 0; i < n; i++)
        CK(pthread_join(thread[i], NULL));
    app_join(&t, "server");
    say("%s, %s\n", more ? "more edges than one" : "one edge", foreign ? "foreign data" : "the program's data");
    return 0;
}
