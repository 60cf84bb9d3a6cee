/* SPDX-License-Identifier: Apache-2.0
 *
 * accept_loop: a non-blocking listener in poll, select, epoll level, edge and exclusive; accept4
 * flags and what is not inherited; the loop ends with EAGAIN; the peer's address is right.
 */
/* run: modes thread fork */
#include "app.h"

#define PEERS 5
enum how { POLL, SELECT, LEVEL, EDGE, EXCLUSIVE, HOWS };
static int go[HOWS];

static void
clients(int lfd)
{
    int fd[PEERS];
    if (strcmp(app_mode, "fork") == 0)
        close(lfd);
    for (int how = 0; how < HOWS; how++) {
        char b[20];
        app_pass(go[how]);
        for (int i = 0; i < PEERS; i++) {
            fd[i] = app_connect();
            app_fill(b, 20, (uint64_t)i);
            app_put(fd[i], b, 20);
        }
        int right = 0;
        for (int i = 0; i < PEERS; i++) {
            right += app_get(fd[i], b, 20) == 20 && app_match(b, 20, (uint64_t)i) == 20;
            close(fd[i]);
        }
        say("%d answered\n", right);
    }
}

static void
wait_for(enum how how, int lfd, int ep)
{
    struct epoll_event e = {0};
    fd_set in;
    FD_ZERO(&in);
    FD_SET(lfd, &in);
    if (how == POLL)
        MUST(app_poll(lfd, POLLIN, APP_WAIT) == POLLIN);
    else if (how == SELECT)
        MUST(select(lfd + 1, &in, NULL, NULL, NULL) == 1);
    else
        MUST(epoll_wait(ep, &e, 1, APP_WAIT) == 1 && e.data.fd == lfd && e.events == EPOLLIN);
}

static void
serve(int fd, const struct sockaddr_in *from, socklen_t len)
{
    char b[20];
    struct sockaddr_in peer;
    socklen_t l = sizeof peer;
    int same = getpeername(fd, (struct sockaddr *)&peer, &l) == 0 && l == len &&
               memcmp(&peer, from, l) == 0;
    say("address %s, O_NONBLOCK %d, FD_CLOEXEC %d\n", same ? "same" : "DIFFERENT",
        (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0, fcntl(fd, F_GETFD) & FD_CLOEXEC);
    MUST(app_poll(fd, POLLIN, APP_WAIT) & POLLIN);
    app_put(fd, b, app_get(fd, b, 20));
    MUST(app_poll(fd, POLLIN, APP_WAIT) & POLLIN);
    say("end %zd\n", read(fd, b, 1));
    close(fd);
}

int
main(int argc, char **argv)
{
    static const int flags[PEERS] = {0, SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC,
                                     -1};
    struct app_task t;
    app_main(argc, argv);
    for (int i = 0; i < HOWS; i++)
        go[i] = app_gate();
    int lfd = app_listen(), got[PEERS];
    struct sockaddr_in from[PEERS];
    app_start(&t, clients, lfd);
    app_nonblock(lfd, 1);
    RES(accept(lfd, NULL, NULL));
    for (int how = 0; how < HOWS; how++) {
        int ep = (int)CK(epoll_create1(0)), n = 0;
        socklen_t len[PEERS];
        app_epoll_add(ep, lfd,
                      EPOLLIN | (how == EDGE ? EPOLLET : 0u) |
                          (how == EXCLUSIVE ? EPOLLEXCLUSIVE : 0u));
        say("way %d\n", how);
        app_open(go[how]);
        while (n < PEERS) {
            wait_for((enum how)how, lfd, ep);
            while (n < PEERS) {
                len[n] = sizeof from[n];
                got[n] = flags[n] < 0
                             ? accept(lfd, (struct sockaddr *)&from[n], &len[n])
                             : accept4(lfd, (struct sockaddr *)&from[n], &len[n], flags[n]);
                if (got[n] < 0)
                    break;
                n++;
            }
            MUST(n == PEERS || errno == EAGAIN);
        }
        for (int i = 0; i < PEERS; i++)
            serve(got[i], &from[i], len[i]);
        RES(accept(lfd, NULL, NULL));
        RES(accept4(lfd, NULL, NULL, 0x40000000));
        close(ep);
    }
    app_join(&t, "clients");
    return 0;
}
