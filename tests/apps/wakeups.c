/* SPDX-License-Identifier: Apache-2.0
 *
 * wakeups: how often a waiter is woken, exactly: one event per message in a ping-pong, none while
 * nothing comes, one for the end. By poll, epoll level and edge; counted on both sides.
 */
/* run: modes thread fork */
#include "app.h"

#define ROUNDS 200
static enum { POLL, LEVEL, EDGE, WAYS } way;
static const char *const names[] = {"poll", "level", "edge"};

static int
wait_one(int fd, int ep, unsigned *events, int ms)
{
    struct epoll_event e = {0};
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLRDHUP};
    int n = 0;
    if (way == POLL) {
        n = (int)CK(poll(&p, 1, ms));
        *events = (unsigned)p.revents;
    } else {
        n = (int)CK(epoll_wait(ep, &e, 1, ms));
        *events = e.events;
    }
    return n;
}

static void
side(int fd, int first)
{
    static const size_t sizes[] = {1, 100, 5000, 16384};
    static __thread char b[20000];
    int ep = (int)CK(epoll_create1(0)), wakeups = 0, empty = 0, torn = 0;
    unsigned ev = 0;
    app_fill(b, sizeof b, 0);
    app_nonblock(fd, 1);
    app_epoll_add(ep, fd, EPOLLIN | EPOLLRDHUP | (way == EDGE ? EPOLLET : 0u));
    if (first)
        app_put(fd, b, sizes[0]);
    for (int i = 0; i < ROUNDS; i++) {
        size_t want = sizes[i / 4 % 4];
        for (size_t got = 0; got < want;) {
            MUST(wait_one(fd, ep, &ev, APP_WAIT) == 1);
            wakeups++;
            ssize_t r = recv(fd, b, sizeof b, 0);
            if (r < 0) {
                MUST(errno == EAGAIN);
                empty++;
            } else {
                MUST(r > 0);
                got += (size_t)r;
                torn += got < want;
            }
        }
        size_t next = sizes[(first ? i + 1 : i) / 4 % 4];
        if (!first || i + 1 < ROUNDS)
            app_put(fd, b, next);
    }
    say("events beyond one a message %d, empty %d\n", wakeups - torn - ROUNDS, empty);
    if (first) {
        say("silence: %d\n", wait_one(fd, ep, &ev, APP_QUIET));
        CK(shutdown(fd, SHUT_WR));
        app_nonblock(fd, 0);
        RES(recv(fd, b, 1, 0));
    } else {
        wakeups = 0;
        do {
            MUST(wait_one(fd, ep, &ev, APP_WAIT) == 1);
            wakeups++;
        } while (recv(fd, b, 1, 0) != 0);
        say("end: %d event %s\n", wakeups, app_events(ev));
        if (way == EDGE)
            say("silence: %d\n", wait_one(fd, ep, &ev, APP_QUIET));
    }
    close(ep);
}

static void
pinger(int fd)
{
    side(fd, 1);
}

static void
ponger(int fd)
{
    side(fd, 0);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    for (way = POLL; way < WAYS; way++)
        app_talk(names[way], ponger, pinger);
    return 0;
}
