/* SPDX-License-Identifier: Apache-2.0
 *
 * epoll_dup: one epoll set, several descriptors: what is put in by one is there for whoever waits on another, also while
 * a connection is under way, and after the one it was put in by is closed. The listener is the program's own, and
 * accepts only after connect.
 */
/* run: modes copy fcntl mod closed replaced forked */
#include "app.h"

static int
is_mode(const char *name)
{
    return strcmp(app_mode, name) == 0;
}

static void
wait_for(int ep, const char *what)
{
    struct epoll_event e[4];
    int n = (int)CK(epoll_wait(ep, e, 4, APP_WAIT));
    say("%s: %d", what, n);
    for (int i = 0; i < n; i++)
        say(" %s of %d", app_events(e[i].events), (int)e[i].data.u32);
    say("\n");
}

static void
set(int ep, int op, int fd, unsigned events)
{
    struct epoll_event e = {.events = events, .data.u32 = 77};
    RES(epoll_ctl(ep, op, fd, &e));
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    int listener = app_listen(), status = 0;
    int ep = (int)CK(epoll_create1(EPOLL_CLOEXEC)), none = (int)CK(open("/dev/null", O_RDONLY));
    int copy = (int)CK(is_mode("fcntl") ? fcntl(ep, F_DUPFD_CLOEXEC, 50) : dup(ep));
    int c = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    RES(connect(c, (struct sockaddr *)&app_addr, sizeof app_addr));
    set(copy, EPOLL_CTL_ADD, c, is_mode("mod") ? EPOLLIN : EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    if (is_mode("mod"))
        set(ep, EPOLL_CTL_MOD, c, EPOLLIN | EPOLLOUT);
    if (is_mode("closed"))
        close(copy);
    if (is_mode("replaced"))
        CK(dup2(none, copy));
    pid_t child = is_mode("forked") ? (pid_t)CK(fork()) : 0;
    if (is_mode("forked") && child == 0) { /* its copies are its own to close */
        close(copy);
        _exit(0);
    }
    if (child > 0)
        CK(waitpid(child, &status, 0));
    wait_for(ep, "connected");
    say("SO_ERROR %s\n", app_so_error_name(c));
    int s = (int)CK(accept(listener, NULL, NULL));
    app_put(s, "hello", 5);
    if (is_mode("mod")) {
        set(ep, EPOLL_CTL_MOD, c, EPOLLIN);
        MUST(app_poll(c, POLLIN, APP_WAIT));
    }
    wait_for(ep, "greeted");
    char b[8];
    say("got %zu\n", app_get(c, b, 5));
    close(s);
    MUST(app_poll(c, POLLRDHUP, APP_WAIT));
    wait_for(ep, "ended");
    set(ep, EPOLL_CTL_DEL, c, 0);
    set(ep, EPOLL_CTL_DEL, c, 0);
    return 0;
}
