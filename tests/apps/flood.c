/* SPDX-License-Identifier: Apache-2.0
 *
 * flood: records of random sizes as fast as they go into a reader that is slower, for receive
 * buffers of 2 KB to 4 MB, level- and edge-triggered. The edge-triggered reader trusts short
 * reads (what came short was all) and EPOLLRDHUP for the end. Every byte is checked; reads that
 * find nothing are counted against a bound, so a spinning reader fails.
 */
/* run: modes level edge slow-level slow-edge */
/* run: timeout 120 */
#include "app.h"

#define TOTAL (6 << 20)
static const int rcvbufs[] = {2048, 8192, 16384, 65536, 262144, 4 << 20, 0};
static int slow, edge, round_no;

static void
sender(int fd)
{
    static char b[16384];
    uint64_t seed = (uint64_t)round_no + 1, pos = 0;
    size_t total = slow ? TOTAL / 4 : TOTAL;
    while (pos < total) {
        size_t n = app_rand(&seed) % sizeof b + 1;
        n = n > total - pos ? total - pos : n;
        app_fill(b, n, pos);
        app_put(fd, b, n);
        pos += n;
    }
    say("sent %llu\n", (unsigned long long)pos);
    CK(shutdown(fd, SHUT_WR));
    app_get(fd, b, 1);
}

struct count {
    uint64_t pos, reads, empty, wakeups;
    int wrong, end;
};

/* One read of a random size. False when nothing more may be expected without another event. */
static int
take(int fd, struct count *c, uint64_t *seed)
{
    static char b[60000];
    size_t want = app_rand(seed) % (app_rand(seed) % 4 ? sizeof b : 200) + 1;
    ssize_t r = recv(fd, b, want, 0);
    c->reads++;
    if (r < 0) {
        MUST(errno == EAGAIN);
        c->empty++;
        return 0;
    }
    if (r == 0)
        c->end = 1;
    c->wrong |= app_match(b, (size_t)r, c->pos) != (size_t)r;
    c->pos += (uint64_t)r;
    if (slow)
        for (volatile int i = 0; i < 60000; i++)
            ;
    return r > 0 && (size_t)r == want;
}

static void
reader(int fd)
{
    struct count c = {0};
    uint64_t seed = (uint64_t)round_no + 99;
    int ep = (int)CK(epoll_create1(0));
    app_nonblock(fd, 1);
    app_epoll_add(ep, fd, EPOLLIN | EPOLLRDHUP | (edge ? EPOLLET : 0u));
    while (!c.end) {
        struct epoll_event e = {0};
        if (CK(epoll_wait(ep, &e, 1, APP_WAIT)) == 0) {
            say("STALLED at %llu\n", (unsigned long long)c.pos);
            break;
        }
        c.wakeups++;
        if (!edge)
            take(fd, &c, &seed);
        else
            while (!c.end && (take(fd, &c, &seed) || (e.events & EPOLLRDHUP)))
                ;
    }
    /* A record that is larger than the receive buffer may wake the reader early, not for ever. */
    say("got %llu, %s, empty reads %s, wake-ups %s\n", (unsigned long long)c.pos,
        c.wrong ? "WRONG" : "right", c.empty <= 200 + c.pos / 2000 ? "ok" : "bad",
        c.wakeups <= 200 + c.reads ? "ok" : "bad");
    close(ep);
}

static int
listen_with(int rcvbuf)
{
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    socklen_t len = sizeof app_addr;
    app_addr =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (rcvbuf)
        CK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf));
    CK(bind(fd, (struct sockaddr *)&app_addr, len));
    CK(listen(fd, 5));
    CK(getsockname(fd, (struct sockaddr *)&app_addr, &len));
    return fd;
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    slow = strncmp(app_mode, "slow", 4) == 0;
    edge = strstr(app_mode, "edge") != NULL;
    for (round_no = 0; round_no < (int)(sizeof rcvbufs / sizeof *rcvbufs); round_no++) {
        struct app_task t;
        int lfd = listen_with(rcvbufs[round_no]);
        say("-- SO_RCVBUF %d\n", rcvbufs[round_no]);
        app_server_side = reader;
        app_client_side = sender;
        if (slow)
            app_start_thread(&t, app_connect_run, lfd);
        else
            app_start_fork(&t, app_connect_run, lfd);
        app_accept_run(lfd);
        app_join(&t, "sender");
        close(lfd);
    }
    return 0;
}
