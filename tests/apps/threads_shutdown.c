/* SPDX-License-Identifier: Apache-2.0
 *
 * threads_shutdown: a thread is blocked in recv, poll, epoll_wait, select, send or accept, and
 * another one shuts the socket down (or accepts nothing and shuts the listener down): it wakes.
 * Then one closes the number while nobody is blocked, and a thread's later use gets EBADF.
 */
#include "asleep.h"
#include <sched.h>

static int fd_used, blocked_tid;
static enum { RECV, POLL, EPOLL, SELECT, SEND, SMALL, POLLOUT_SMALL, ACCEPT, WAYS } way;
static const char *const names[] = {"recv",       "poll",         "epoll", "select", "send",
                                    "small send", "poll for room", "accept"};

static void *
blocker(void *arg)
{
    static char b[1 << 20];
    struct epoll_event e = {0};
    fd_set in;
    int ep = (int)CK(epoll_create1(0));
    FD_ZERO(&in);
    FD_SET(fd_used, &in);
    app_log = arg;
    __atomic_store_n(&blocked_tid, gettid(), __ATOMIC_RELEASE);
    if (way == RECV) {
        RES(recv(fd_used, b, 10, 0));
    } else if (way == POLL) {
        say("poll %s\n", app_events(app_poll(fd_used, POLLIN | POLLRDHUP, APP_WAIT)));
    } else if (way == EPOLL) {
        app_epoll_add(ep, fd_used, EPOLLIN | EPOLLRDHUP);
        RES(epoll_wait(ep, &e, 1, APP_WAIT));
        say("epoll %s\n", app_events(e.events));
    } else if (way == SELECT) {
        RES(select(fd_used + 1, &in, NULL, NULL, NULL));
    } else if (way == SEND || way == SMALL) {
        while (send(fd_used, b, sizeof b, MSG_NOSIGNAL) > 0)
            ;
        say("send: %s\n", strerrorname_np(errno));
    } else if (way == POLLOUT_SMALL) {
        while (send(fd_used, b, sizeof b, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
            ;
        say("poll %s\n", app_events(app_poll(fd_used, POLLOUT, APP_WAIT)));
    } else {
        RES(accept(fd_used, NULL, NULL));
    }
    RES(recv(fd_used, b, 10, MSG_DONTWAIT));
    close(ep);
    app_log = NULL;
    return NULL;
}

static void
wait_blocked(void)
{
    int tid = 0;
    while ((tid = __atomic_load_n(&blocked_tid, __ATOMIC_ACQUIRE)) == 0)
        sched_yield();
    app_asleep(tid);
}

int
main(void)
{
    char b[10];
    for (way = RECV; way < WAYS; way++) {
        pthread_t t;
        char *log = NULL;
        size_t len = 0;
        int c = 0, s = 0, lfd = -1, size = 5000;
        FILE *f = open_memstream(&log, &len);
        app_pair(&c, &s);
        if (way == ACCEPT)
            lfd = app_listen();
        if (way == SMALL || way == POLLOUT_SMALL) { /* full to the last byte, and so it stays */
            CK(setsockopt(s, SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
            CK(setsockopt(c, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
        }
        fd_used = way == ACCEPT ? lfd : s;
        __atomic_store_n(&blocked_tid, 0, __ATOMIC_RELEASE);
        MUST(pthread_create(&t, NULL, blocker, f) == 0);
        wait_blocked();
        say("-- %s\n", names[way]);
        RES(shutdown(fd_used, SHUT_RDWR));
        MUST(pthread_join(t, NULL) == 0);
        fclose(f);
        say("%s", log);
        free(log);
        if (way < SEND)
            RES(recv(c, b, 10, 0));
        RES(close(s));
        RES(recv(s, b, 10, 0));
        RES(send(s, b, 10, MSG_NOSIGNAL));
        close(c);
        if (lfd >= 0)
            close(lfd);
    }
    return 0;
}
