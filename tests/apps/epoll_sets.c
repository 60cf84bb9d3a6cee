/* SPDX-License-Identifier: Apache-2.0
 *
 * epoll_sets: a connection whose handshake is under way is closed while it is in two sets of epoll (`two`), or was put
 * into one by a descriptor of that which is closed by now (`other`): it is in none any more [epoll(7)], and who waits
 * there sleeps.
 */
/* run: modes two other */
#include "app.h"

static int gate;

static int64_t
cpu_ms(void)
{
    struct timespec ts;
    CK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts));
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void
quiet(int ep)
{
    struct epoll_event e;
    int n = 0;
    int64_t spent = cpu_ms(), begun = app_ms();
    for (int i = 0; i < 20; i++)
        n += (int)CK(epoll_wait(ep, &e, 1, 20));
    say("events %d%s\n", n, 2 * (cpu_ms() - spent) > app_ms() - begun ? ", and it spins" : "");
}

static void
server(int lfd)
{
    app_pass(gate);
    int fd = (int)CK(accept(lfd, NULL, NULL));
    app_drain(fd, 0);
    CK(close(fd));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    unsigned char b[5];
    app_main(argc, argv);
    gate = app_gate();
    int lfd = app_listen(), ep = (int)CK(epoll_create1(0)), second;
    app_start_fork(&t, server, lfd);
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) < 0 && errno == EINPROGRESS);
    say("poll %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
    if (strcmp(app_mode, "two") == 0) {
        second = (int)CK(epoll_create1(0));
        app_epoll_add(second, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
        app_epoll_add(ep, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    } else {
        second = (int)CK(dup(ep));
        app_epoll_add(second, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
        CK(close(second));
        second = ep;
    }
    app_fill(b, sizeof b, 0);
    app_put(fd, b, sizeof b);
    CK(close(fd));
    quiet(ep);
    quiet(second);
    app_open(gate);
    quiet(ep);
    quiet(second);
    app_join(&t, "server");
    quiet(ep);
    quiet(second);
    return 0;
}
