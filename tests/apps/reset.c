/* SPDX-License-Identifier: Apache-2.0
 *
 * reset: SO_LINGER {1,0} and a close with unread bytes reset the connection; the peer, blocked in
 * recv, in poll or about to send, sees ECONNRESET once and EOF afterwards, EPIPE when it sends.
 */
/* run: modes thread fork */
#include "asleep.h"

static int ready, done, who[2];

/* The next call of this thread sleeps, and the reset comes then. The kernel sets the error before
 * the state: to whom looks meanwhile it would show a part of what a sleeper sees. */
static void
will_sleep(void)
{
    pid_t me = gettid();
    MUST(write(who[1], &me, sizeof me) == sizeof me);
}

static void
until_asleep(void)
{
    pid_t tid = 0;
    MUST(read(who[0], &tid, sizeof tid) == sizeof tid);
    app_asleep(tid);
}

/* One byte each way first, so that both sides are connected and awake. */
static void
hello(int fd)
{
    char c = 'x';
    app_put(fd, &c, 1);
    MUST(app_get(fd, &c, 1) == 1);
}

static void
resetter(int fd)
{
    struct linger l = {1, 0};
    hello(fd);
    until_asleep();
    RES(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l));
}

static void
blocked_reader(int fd)
{
    char b[10];
    hello(fd);
    will_sleep();
    RES(recv(fd, b, sizeof b, 0));
    RES(recv(fd, b, sizeof b, 0));
    RES(send(fd, b, 1, MSG_NOSIGNAL));
    say("SO_ERROR %s\n", app_so_error_name(fd));
}

static void
poller(int fd)
{
    char b[10];
    hello(fd);
    app_nonblock(fd, 1);
    will_sleep();
    say("poll %s\n", app_events(app_poll(fd, POLLIN | POLLRDHUP, APP_WAIT)));
    say("poll %s\n", app_events(app_poll(fd, POLLIN | POLLOUT | POLLRDHUP, 0)));
    say("SO_ERROR %s\n", app_so_error_name(fd));
    say("SO_ERROR %s\n", app_so_error_name(fd));
    RES(recv(fd, b, sizeof b, 0));
    RES(send(fd, b, 1, MSG_NOSIGNAL));
}

static void
edge_poller(int fd)
{
    struct epoll_event e = {0};
    char b[10];
    int ep = (int)CK(epoll_create1(0));
    hello(fd);
    app_epoll_add(ep, fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
    will_sleep();
    RES(epoll_wait(ep, &e, 1, APP_WAIT));
    say("epoll %s\n", app_events(e.events));
    RES(recv(fd, b, sizeof b, 0));
    RES(recv(fd, b, sizeof b, 0));
    /* The kernel wakes twice, and who is quick sees both. */
    CK(epoll_wait(ep, &e, 1, APP_QUIET));
    RES(epoll_wait(ep, &e, 1, APP_QUIET));
    close(ep);
}

static void
sender(int fd)
{
    char b[10] = {0};
    hello(fd);
    will_sleep();
    app_poll(fd, POLLIN, APP_WAIT);
    RES(send(fd, b, 1, MSG_NOSIGNAL));
    RES(send(fd, b, 1, MSG_NOSIGNAL));
    RES(recv(fd, b, 1, 0));
}

/* What had arrived before the reset can still be read; ECONNRESET comes after it. */
static void
data_resetter(int fd)
{
    struct linger l = {1, 0};
    char b[3000];
    hello(fd);
    app_fill(b, sizeof b, 0);
    RES(send(fd, b, sizeof b, 0));
    app_pass(ready);
    CK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l));
}

static void
data_reader(int fd)
{
    char b[3000];
    hello(fd);
    say("arrived %d\n", app_arrived(fd, 3000));
    RES(recv(fd, b, 10, 0));
    app_open(ready);
    while (!(app_poll(fd, POLLIN | POLLRDHUP, APP_WAIT) & POLLERR))
        ;
    RES(recv(fd, b, 10, 0));
    RES(recv(fd, b, sizeof b, 0));
    say("match %zu\n", app_match(b, 2980, 20));
    RES(recv(fd, b, 10, 0));
    RES(recv(fd, b, 10, 0));
}

/* Close with unread data resets too [RFC2525 2.17]. */
static void
unread_closer(int fd)
{
    hello(fd);
    say("arrived %d\n", app_arrived(fd, 100));
    app_open(done);
}

static void
unread_peer(int fd)
{
    char b[100];
    hello(fd);
    app_fill(b, sizeof b, 0);
    RES(send(fd, b, sizeof b, 0));
    app_pass(done);
    RES(recv(fd, b, sizeof b, 0));
    RES(recv(fd, b, sizeof b, 0));
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    CK(pipe(who));
    ready = app_gate();
    done = app_gate();
    app_talk("reader blocked", resetter, blocked_reader);
    app_talk("poller", resetter, poller);
    app_talk("edge-triggered", resetter, edge_poller);
    app_talk("sender", resetter, sender);
    app_talk("client resets", blocked_reader, resetter);
    app_talk("data before the reset", data_resetter, data_reader);
    app_talk("close with unread data", unread_closer, unread_peer);
    return 0;
}
