/* SPDX-License-Identifier: Apache-2.0
 *
 * connect_calm: a client waits by poll, select and epoll until it is connected, to a server that accepts only
 * then. However long it waits, it sleeps: its processor time is less than half of that.
 */
/* run: modes thread fork */
#include "app.h"

#include <sys/resource.h>

static const char *const ways[] = {"poll", "select", "level", "edge", "both"};
#define WAYS 5
static int connected;

static int64_t
processor_us(void)
{
    struct rusage u;
    CK(getrusage(RUSAGE_THREAD, &u));
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

static int64_t
now_us(void)
{
    struct timespec ts;
    CK(clock_gettime(CLOCK_MONOTONIC, &ts));
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int
wait_connected(int way, int fd, int ep)
{
    struct epoll_event e;
    struct timeval tv = {APP_WAIT / 1000, 0};
    fd_set w;
    FD_ZERO(&w);
    FD_SET(fd, &w);
    return way == 0   ? app_poll(fd, POLLOUT, APP_WAIT) == POLLOUT
           : way == 1 ? select(fd + 1, NULL, &w, NULL, &tv)
                      : epoll_wait(ep, &e, 1, APP_WAIT);
}

static void
client(int lfd)
{
    static const unsigned events[] = {0, 0, EPOLLOUT, EPOLLOUT | EPOLLET, EPOLLIN | EPOLLOUT};
    if (strcmp(app_mode, "fork") == 0)
        close(lfd);
    for (int way = 0; way < WAYS; way++) {
        int ep = (int)CK(epoll_create1(0));
        int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        if (connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) != 0)
            MUST(errno == EINPROGRESS);
        app_epoll_add(ep, fd, events[way]);
        int64_t used = processor_us(), waited = now_us();
        int r = wait_connected(way, fd, ep);
        used = processor_us() - used;
        waited = now_us() - waited;
        say("%s: %d, it %s\n", ways[way], r, waited < 20000 || used < waited / 2 ? "sleeps" : "spins");
        say("SO_ERROR %s\n", app_so_error_name(fd));
        app_open(connected);
        app_nonblock(fd, 0);
        app_put(fd, "x", 1);
        RES(read(fd, &(char){0}, 1));
        close(fd);
        close(ep);
    }
}

int
main(int argc, char **argv)
{
    struct app_task t;
    char b;
    app_main(argc, argv);
    connected = app_gate();
    int lfd = app_listen();
    app_start(&t, client, lfd);
    for (int way = 0; way < WAYS; way++) {
        app_pass(connected);
        int fd = (int)CK(accept(lfd, NULL, NULL));
        RES(read(fd, &b, 1));
        app_put(fd, &b, 1);
        close(fd);
    }
    app_join(&t, "client");
    return 0;
}
