/* SPDX-License-Identifier: Apache-2.0
 *
 * epoll_more: what else programs do with epoll: EEXIST and ENOENT, MOD that re-arms, one-shot,
 * an fd in two sets, a set in a set and in poll, a copy that keeps the registration alive after
 * close, a set used by a child, register during connect and take it out again.
 */
#include "app.h"

static volatile int minus = -1;
static struct epoll_event *volatile nowhere; /* the header says that it must be somewhere */

static int
events(int ep, const char *what)
{
    struct epoll_event e[8];
    int n = (int)CK(epoll_wait(ep, e, 8, 0));
    unsigned all = 0;
    for (int i = 0; i < n; i++)
        all |= e[i].events;
    say("%s: %d %s\n", what, n, app_events(all));
    return n;
}

static void
arrive(int from, int to, size_t n)
{
    char b[100];
    app_fill(b, n, 0);
    app_put(from, b, n);
    MUST(app_poll(to, POLLIN, APP_WAIT) == POLLIN);
}

static void
errors(int c, int s)
{
    int ep = (int)CK(epoll_create1(0)), out = (int)CK(epoll_create(1));
    struct epoll_event e = {.events = EPOLLIN, .data.fd = s};
    RES(epoll_ctl(ep, EPOLL_CTL_MOD, s, &e));
    RES(epoll_ctl(ep, EPOLL_CTL_DEL, s, &e));
    RES(epoll_ctl(ep, EPOLL_CTL_ADD, s, &e));
    RES(epoll_ctl(ep, EPOLL_CTL_ADD, s, &e));
    RES(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &e));
    RES(epoll_ctl(s, EPOLL_CTL_ADD, c, &e));
    RES(epoll_ctl(ep, 77, s, &e));
    RES(epoll_ctl(ep, EPOLL_CTL_ADD, c, NULL));
    RES(epoll_wait(ep, &e, 0, 0));
    RES(epoll_wait(ep, nowhere, minus, 0));
    RES(epoll_wait(s, &e, 1, 0));
    RES(epoll_ctl(out, EPOLL_CTL_ADD, ep, &e));
    events(out, "outer");
    arrive(c, s, 10);
    events(ep, "inner");
    events(out, "outer");
    say("poll on the set %s\n", app_events(app_poll(out, POLLIN, 0)));
    e.events = EPOLLIN | EPOLLONESHOT;
    RES(epoll_ctl(ep, EPOLL_CTL_MOD, s, &e));
    events(ep, "one-shot");
    events(ep, "spent");
    RES(epoll_ctl(ep, EPOLL_CTL_MOD, s, &e));
    events(ep, "re-armed");
    e.events = EPOLLIN | EPOLLET;
    RES(epoll_ctl(ep, EPOLL_CTL_MOD, s, &e));
    events(ep, "edge");
    events(ep, "no new edge");
    arrive(c, s, 10);
    events(ep, "new edge");
    char b[100];
    RES(read(s, b, 5));
    events(ep, "part read");
    RES(epoll_ctl(ep, EPOLL_CTL_MOD, s, &e));
    events(ep, "edge by MOD");
    RES(read(s, b, 100));
    RES(epoll_ctl(ep, EPOLL_CTL_MOD, s, &e));
    events(ep, "nothing left");
    close(ep);
    close(out);
}

static void
copies(int c, int s)
{
    char b[100];
    int a = (int)CK(epoll_create1(0)), z = (int)CK(epoll_create1(0));
    app_epoll_add(a, s, EPOLLIN);
    app_epoll_add(z, s, EPOLLIN | EPOLLET);
    arrive(c, s, 10);
    events(a, "first set");
    events(z, "second set");
    int copy = (int)CK(dup(s));
    app_epoll_add(a, copy, EPOLLIN);
    events(a, "with a copy");
    RES(close(s));
    events(a, "closed, a copy lives");
    RES(close(copy));
    events(a, "all closed");
    RES(recv(c, b, 1, 0));
    close(a);
    close(z);
}

static void
during_connect(void)
{
    struct epoll_event e = {0};
    int ep = (int)CK(epoll_create1(0)), lfd = app_listen();
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    say("-- during connect\n");
    RES(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
    app_epoll_add(ep, fd, EPOLLOUT);
    e = (struct epoll_event){.events = EPOLLOUT | EPOLLIN, .data.u64 = 0x123456789abcdef0};
    RES(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
    RES(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    RES(epoll_ctl(ep, EPOLL_CTL_DEL, fd, &e));
    RES(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
    RES(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    int s = (int)CK(accept(lfd, NULL, NULL));
    MUST(epoll_wait(ep, &e, 1, APP_WAIT) == 1);
    say("connected %s, data %s\n", app_events(e.events),
        e.data.u64 == 0x123456789abcdef0 ? "kept" : "CHANGED");
    arrive(s, fd, 10);
    events(ep, "readable");
    fflush(stdout);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        char b[10];
        _exit(epoll_wait(ep, &e, 1, APP_WAIT) == 1 && read(fd, b, 10) == 10 ? 0 : 1);
    }
    int st = 0;
    CK(waitpid(pid, &st, 0));
    say("child %d\n", st);
    events(ep, "read by the child");
    RES(close(fd));
    events(ep, "closed");
    fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    app_epoll_add(ep, fd, EPOLLOUT | EPOLLET);
    RES(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
    RES(close(fd));
    events(ep, "closed while connecting");
    close(ep);
    close(s);
    close(lfd);
}

int
main(void)
{
    int c = 0, s = 0;
    app_pair(&c, &s);
    errors(c, s);
    copies(c, s);
    close(c);
    during_connect();
    return 0;
}
