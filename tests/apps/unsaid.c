/* SPDX-License-Identifier: Apache-2.0
 *
 * unsaid: the first call on a connection, each of them behind each thing that the other end may have done before: a server's,
 * whose client is one that libmesh is not in (`out`) or one that it is in (`mesh`), and a client's (`asks`); by a program that
 * blocks, or by one (`epoll`) that waits in a set of epoll and does not block.
 */
/* run: modes out out_epoll mesh mesh_epoll asks asks_epoll */
/* run: nomesh out */
/* run: nomesh out_epoll */
/* run: config accept_grace = "10s"; */
#include <stdbool.h>

#include "app_bare.h"

enum act { SILENT, DATA, END, DATA_END, HALF_END, CLOSED, DATA_CLOSED, HALF_CLOSED, RESET, DATA_RESET, ACTS };
static const char *const acts[] = {"silent", "data",         "end",          "data, end", "half of a hello, end",
                                   "closed", "data, closed", "half, closed", "reset",     "data, reset"};
enum move { READ, PEEK, WRITE, NOTHING, SHUT_OUT, SHUT_IN, SHUT_BOTH, CLOSE, ERROR, MOVES };
static const char *const moves[] = {"read",           "peek",     "write",  "nothing",  "shutdown out",
                                    "shutdown in", "shutdown", "close", "error"};

static enum act act;
static bool outside, asks, waits;
static int listener, done, over;

static bool
is_held(void)
{
    return act <= HALF_END;
}

static bool
has_said(void)
{
    return act == DATA || act == DATA_END || act == DATA_CLOSED || act == HALF_END || act == HALF_CLOSED;
}

static void
peer(int unused)
{
    char b[100];
    (void)unused;
    int fd = asks ? (int)CK(accept(listener, NULL, NULL)) : outside ? app_bare_client() : app_connect();
    if (act == HALF_END || act == HALF_CLOSED)
        CK(write(fd, "\x16\x03\x01", 3));
    else if (act == DATA || act == DATA_END || act == DATA_CLOSED || act == DATA_RESET)
        CK(write(fd, "ping", 4));
    if (act == END || act == DATA_END || act == HALF_END)
        CK(shutdown(fd, SHUT_WR));
    if (act == RESET || act == DATA_RESET)
        CK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)));
    if (!is_held())
        CK(close(fd));
    app_open(done);
    if (is_held()) {
        size_t n = 0;
        ssize_t r;
        while ((r = read(fd, b, sizeof b)) > 0)
            n += (size_t)r;
        say("got %zu, then %s\n", n, r < 0 ? strerrorname_np(errno) : "EOF");
        CK(close(fd));
    }
    app_pass(over);
}

static int
connected(void)
{
    if (!waits)
        return app_connect();
    struct epoll_event e = {0};
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)), ep = (int)CK(epoll_create1(0));
    if (connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) != 0)
        MUST(errno == EINPROGRESS);
    app_epoll_add(ep, fd, EPOLLOUT);
    MUST(CK(epoll_wait(ep, &e, 1, APP_WAIT)) == 1);
    CK(close(ep));
    return fd;
}

/* Until all is there that the act makes be there. */
static void
wait_for(int fd)
{
    unsigned ev = 0, due = has_said() ? POLLIN : 0;
    int ep = waits ? (int)CK(epoll_create1(0)) : -1;
    if (act != SILENT && act != DATA)
        due |= POLLIN | POLLRDHUP;
    if (act == RESET || act == DATA_RESET)
        due |= POLLERR | POLLHUP;
    if (ep >= 0)
        app_epoll_add(ep, fd, EPOLLIN | EPOLLRDHUP);
    for (int64_t until = app_ms() + (due ? APP_WAIT : APP_QUIET); (ev & due) != due || !due;) {
        int left = (int)(until - app_ms());
        struct epoll_event e = {0};
        if (left <= 0)
            break;
        if (ep >= 0 && CK(epoll_wait(ep, &e, 1, left)) > 0)
            ev = e.events;
        else if (ep < 0)
            ev = app_poll(fd, POLLIN | POLLRDHUP, left);
        if (ev && !due)
            break;
    }
    say("events %s\n", app_events(ev));
    if (ep >= 0)
        CK(close(ep));
}

static void
tail(int fd, enum move move)
{
    char b[20];
    RES(send(fd, "one", 3, MSG_NOSIGNAL));
    if (!is_held()) {
        app_hung_up(fd);
        RES(send(fd, "two", 3, MSG_NOSIGNAL));
        RES(read(fd, b, sizeof b));
    } else {
        if (move != SHUT_BOTH && move != SHUT_OUT)
            RES(shutdown(fd, SHUT_WR));
        app_nonblock(fd, 0);
        for (ssize_t r = 1; r > 0;)
            r = RES(read(fd, b, sizeof b));
    }
}

static void
call(enum move move)
{
    char b[20];
    int fd = asks ? connected() : (int)CK(accept4(listener, NULL, NULL, waits ? SOCK_NONBLOCK : 0)), have = 0;
    app_pass(done);
    bool quiet = act == SILENT;
    if (waits || move == NOTHING)
        wait_for(fd);
    switch (move) {
    case READ:
        RES(recv(fd, b, sizeof b, quiet ? MSG_DONTWAIT : 0));
        break;
    case PEEK:
        RES(recv(fd, b, sizeof b, MSG_PEEK | (quiet ? MSG_DONTWAIT : 0)));
        break;
    case WRITE:
        RES(send(fd, "hello", 5, MSG_NOSIGNAL));
        break;
    case SHUT_OUT:
        RES(shutdown(fd, SHUT_WR));
        break;
    case SHUT_IN:
        RES(shutdown(fd, SHUT_RD));
        break;
    case SHUT_BOTH:
        RES(shutdown(fd, SHUT_RDWR));
        break;
    case ERROR:
        say("SO_ERROR %s\n", app_so_error_name(fd));
        RES(ioctl(fd, FIONREAD, &have));
        say("%d there\n", have);
        break;
    default:
        break;
    }
    if (move != CLOSE)
        tail(fd, move);
    CK(close(fd));
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    outside = strncmp(app_mode, "out", 3) == 0;
    asks = strncmp(app_mode, "asks", 4) == 0;
    waits = strstr(app_mode, "epoll") != NULL;
    done = app_gate();
    over = app_gate();
    for (act = SILENT; act < ACTS; act++) {
        if (!outside && (act == HALF_END || act == HALF_CLOSED))
            continue; /* theirs is whole */
        for (enum move move = READ; move < MOVES; move++) {
            struct app_task t;
            listener = app_listen();
            say("-- %s, %s\n", acts[act], moves[move]);
            app_start_fork(&t, peer, -1);
            call(move);
            app_open(over);
            app_join(&t, "peer");
            CK(close(listener));
        }
    }
    return 0;
}
