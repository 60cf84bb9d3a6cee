/* SPDX-License-Identifier: Apache-2.0
 *
 * epoll_child: a connection under way is in the set of epoll of a process that forks. The child has the same set and a copy
 * of the descriptor; what it does with that puts nothing back that the parent has taken out.
 */
/* run: modes told left taken reads heir */
#include "app.h"

static int gate, ready, done;

static int
is(const char *mode)
{
    return strcmp(app_mode, mode) == 0;
}

static void
server(int lfd)
{
    app_pass(gate);
    int fd = (int)CK(accept(lfd, NULL, NULL));
    app_pass(gate);
    app_put(fd, "hello", 5);
    app_pass(gate);
    CK(close(fd));
}

static void
quiet(int ep)
{
    struct epoll_event e = {0};
    int n = (int)CK(epoll_wait(ep, &e, 1, APP_QUIET));
    say("events %d %s\n", n, n ? app_events(e.events) : "");
}

/* As after daemon(3), the child alone goes on. */
static void
heir(int fd, int ep)
{
    char b[8];
    struct epoll_event e = {0};
    app_pass(ready);
    app_open(gate);
    MUST(app_poll(fd, POLLOUT, APP_WAIT) == POLLOUT);
    app_open(gate);
    say("epoll %d\n", (int)CK(epoll_wait(ep, &e, 1, APP_WAIT)));
    say("%s of %d, got %zu\n", app_events(e.events), (int)e.data.u64, app_get(fd, b, 5));
    app_open(gate);
}

static void
child(int fd)
{
    char b[8];
    if (!is("told"))
        app_pass(ready);
    if (is("reads"))
        MUST(app_poll(fd, POLLOUT, APP_WAIT) && recv(fd, b, 1, MSG_DONTWAIT) < 0);
    else
        CK(close(fd));
    app_open(done);
    if (is("left"))
        app_pass(ready);
}

static void
parent(int fd, int ep, pid_t pid)
{
    char b[8];
    if (is("told")) {
        app_pass(done);
        CK(waitpid(pid, NULL, 0));
        app_open(gate); /* accepts */
        for (int i = 0; i < 5; i++)
            quiet(ep);
    }
    MUST(app_poll(fd, POLLOUT, APP_WAIT) == POLLOUT);
    if (!is("told")) {
        app_open(gate);
        quiet(ep);
        RES(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
        app_open(ready);
        app_pass(done);
        app_open(ready);
        CK(waitpid(pid, NULL, 0));
    }
    app_open(gate); /* hello */
    MUST(app_poll(fd, POLLIN, APP_WAIT) == POLLIN);
    quiet(ep);
    RES(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
    say("got %zu\n", app_get(fd, b, 5));
    app_open(gate);
}

int
main(int argc, char **argv)
{
    struct app_task t;
    struct epoll_event e = {.data.u64 = 4711};
    app_main(argc, argv);
    gate = app_gate();
    ready = app_gate();
    done = app_gate();
    int lfd = app_listen();
    app_start_fork(&t, server, lfd);
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)), ep = (int)CK(epoll_create1(0));
    MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) < 0 && errno == EINPROGRESS);
    e.events = EPOLLIN | (is("heir") ? (unsigned)EPOLLET : 0);
    CK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    fflush(NULL);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        if (is("heir"))
            heir(fd, ep);
        else
            child(fd);
        _exit(0);
    }
    if (is("heir")) {
        CK(close(fd));
        CK(close(ep));
        app_open(ready);
        CK(waitpid(pid, NULL, 0));
    } else {
        parent(fd, ep, pid);
    }
    app_join(&t, "server");
    return 0;
}
