/* SPDX-License-Identifier: Apache-2.0
 *
 * backlog_killed: a client connects and is killed before the server, which is busy elsewhere, accepts. poll says that
 * the listener is readable, so that accept returns, with a connection that has ended: a server of one thread whose
 * listener blocks (Tcl's) must not sleep there until somebody else comes.
 */
/* run: modes poll plain epoll */
/* run: nomesh */
#include "app.h"

static int up;

static void
child(int lfd)
{
    struct sockaddr_in at = app_addr;
    CK(close(lfd));
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    CK(connect(fd, (struct sockaddr *)&at, sizeof at));
    app_open(up);
    for (;;)
        pause();
}

/* One that has connected, and is killed. */
static void
killed(int lfd)
{
    int st = 0;
    fflush(stdout);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0)
        child(lfd);
    app_pass(up);
    CK(kill(pid, SIGKILL));
    CK(waitpid(pid, &st, 0));
}

static void
readable(int lfd, int ep)
{
    struct epoll_event e;
    if (strcmp(app_mode, "poll") == 0)
        say("listener %s\n", app_events(app_poll(lfd, POLLIN, APP_WAIT)));
    if (strcmp(app_mode, "epoll") == 0)
        say("events %ld\n", CK(epoll_wait(ep, &e, 1, APP_WAIT)));
}

int
main(int argc, char **argv)
{
    char b[16];
    app_main(argc, argv);
    up = app_gate();
    int lfd = app_listen(), ep = (int)CK(epoll_create1(0));
    app_epoll_add(ep, lfd, EPOLLIN);
    for (int i = 0; i < 3; i++) {
        struct sockaddr_in who;
        socklen_t len = sizeof who;
        killed(lfd);
        readable(lfd, ep);
        int fd = (int)CK(accept(lfd, (struct sockaddr *)&who, &len));
        say("accepted, address of %u bytes\n", len);
        ssize_t r = read(fd, b, sizeof b);
        say("it has ended: %d\n", r == 0 || (r < 0 && errno == ECONNRESET));
        close(fd);
    }
    return 0;
}
