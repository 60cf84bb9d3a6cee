/* SPDX-License-Identifier: Apache-2.0
 *
 * many_epoll: 500 connections at once, both ends in one process and one epoll set, level- and
 * edge-triggered; every connection carries three rounds of messages. Wake-ups are bounded.
 */
/* run: modes level edge */
/* run: timeout 60 */
#include "app.h"

#define CONNS 500
#define ROUNDS 3
#define SIZE 700

struct end {
    int fd, client, done;
    size_t in, out; /* bytes of the running round read, and of all rounds written */
    int round;
    char buf[SIZE];
};

static struct end ends[2 * CONNS];
static int ep, nends, finished, wrong;
static unsigned extra;

static struct end *
add(int fd, int client)
{
    struct end *e = &ends[nends++];
    *e = (struct end){.fd = fd, .client = client};
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | (client ? EPOLLOUT : 0u) | extra,
                             .data.ptr = e};
    CK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
    return e;
}

static void
send_round(struct end *e)
{
    app_fill(e->buf, SIZE, (uint64_t)e->round);
    MUST(send(e->fd, e->buf, SIZE, MSG_NOSIGNAL) == SIZE);
    e->out += SIZE;
}

static void
finish(struct end *e)
{
    if (e->done)
        return;
    e->done = 1;
    finished++;
    CK(close(e->fd));
}

/* The server echoes each whole message; the client checks it and sends the next. */
static void
readable(struct end *e)
{
    while (!e->done) {
        ssize_t r = recv(e->fd, e->buf + e->in, SIZE - e->in, 0);
        if (r < 0) {
            MUST(errno == EAGAIN);
            return;
        }
        if (r == 0) {
            finish(e);
            return;
        }
        e->in += (size_t)r;
        if (e->in < SIZE)
            continue;
        e->in = 0;
        wrong += app_match(e->buf, SIZE, (uint64_t)e->round) != SIZE;
        if (!e->client)
            send_round(e);
        e->round++;
        if (e->client && e->round == ROUNDS)
            finish(e);
        else if (e->client)
            send_round(e);
    }
}

int
main(int argc, char **argv)
{
    struct rlimit lim;
    struct epoll_event ev[64];
    unsigned long wakeups = 0;
    app_main(argc, argv);
    extra = strcmp(app_mode, "edge") == 0 ? EPOLLET : 0u;
    CK(getrlimit(RLIMIT_NOFILE, &lim));
    lim.rlim_cur = lim.rlim_max;
    CK(setrlimit(RLIMIT_NOFILE, &lim));
    ep = (int)CK(epoll_create1(0));
    int lfd = app_listen_at(INADDR_LOOPBACK, 1000, &app_addr);
    app_nonblock(lfd, 1);
    struct epoll_event le = {.events = EPOLLIN | extra, .data.ptr = NULL};
    CK(epoll_ctl(ep, EPOLL_CTL_ADD, lfd, &le));
    for (int i = 0; i < CONNS; i++) {
        int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        int r = connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr);
        MUST(r < 0 && errno == EINPROGRESS);
        add(fd, 1);
    }
    while (finished < 2 * CONNS) {
        int n = (int)CK(epoll_wait(ep, ev, 64, APP_WAIT));
        if (n == 0) {
            say("STALLED\n");
            break;
        }
        wakeups += (unsigned)n;
        for (int i = 0; i < n; i++) {
            struct end *e = ev[i].data.ptr;
            int fd = -1;
            if (!e) {
                while ((fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK)) >= 0)
                    add(fd, 0);
                continue;
            }
            if (!e->done && (ev[i].events & EPOLLOUT) && e->client && e->out == 0) {
                MUST(app_so_error(e->fd) == 0);
                send_round(e);
                if (!extra) {
                    struct epoll_event in = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = e};
                    CK(epoll_ctl(ep, EPOLL_CTL_MOD, e->fd, &in));
                }
            }
            if (!e->done && (ev[i].events & (EPOLLIN | EPOLLRDHUP)))
                readable(e);
        }
    }
    say("finished %d, wrong %d, events %s\n", finished, wrong,
        wakeups <= 2 * CONNS * (ROUNDS + 4) ? "ok" : "bad");
    return 0;
}
