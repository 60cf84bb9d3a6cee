/* SPDX-License-Identifier: Apache-2.0
 *
 * timeouts: SO_RCVTIMEO and SO_SNDTIMEO, on the connection, inherited from the listener, on
 * accept. The delay is the subject: what came before it counts, and it is not shorter or wildly
 * longer.
 */
/* run: modes thread fork */
#include "app.h"

static int gate;

static void
set(int fd, int opt, int ms)
{
    struct timeval tv = {ms / 1000, ms % 1000 * 1000};
    CK(setsockopt(fd, SOL_SOCKET, opt, &tv, sizeof tv));
}

static double
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

#define TIMED(ms, call)                                                                            \
    do {                                                                                           \
        double t0_ = now();                                                                        \
        RES(call);                                                                                 \
        double d_ = (now() - t0_) * 1000;                                                          \
        say("  after %s\n", d_<(ms) - 12 ? "too short" : d_>(ms) + 15000 ? "too long"              \
                            : ms                                        ? "the time"               \
                                                                        : "no time");              \
    } while (0)

static void
receiver(int fd)
{
    static char b[20000];
    struct iovec v = {b, sizeof b};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    set(fd, SO_RCVTIMEO, 100);
    TIMED(100, recv(fd, b, sizeof b, 0));
    TIMED(100, read(fd, b, sizeof b));
    TIMED(100, recvmsg(fd, &m, 0));
    TIMED(100, recv(fd, b, sizeof b, MSG_PEEK));
    TIMED(100, recv(fd, b, sizeof b, MSG_WAITALL));
    TIMED(0, recv(fd, b, sizeof b, MSG_DONTWAIT));
    app_open(gate);
    set(fd, SO_RCVTIMEO, 0);
    RES(recv(fd, b, 1000, MSG_WAITALL));
    say("arrived %d\n", app_arrived(fd, 500));
    set(fd, SO_RCVTIMEO, 100);
    TIMED(100, recv(fd, b, sizeof b, MSG_WAITALL));
    say("match %zu\n", app_match(b, 500, 1000));
    app_open(gate);
}

static void
quiet(int fd)
{
    char b[1500];
    app_fill(b, sizeof b, 0);
    app_pass(gate);
    RES(write(fd, b, sizeof b));
    app_pass(gate);
}

/* Fills the pipe until the time is over; every byte that was taken must arrive. */
static void
sender(int fd)
{
    static char b[50000];
    uint64_t pos = 0;
    int n = 4096;
    CK(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof n));
    set(fd, SO_SNDTIMEO, 150);
    ssize_t r = 0;
    double t0 = now();
    while (r >= 0) {
        app_fill(b, sizeof b, pos);
        t0 = now();
        r = send(fd, b, sizeof b, 0);
        pos += r > 0 ? (uint64_t)r : 0;
    }
    say("stopped with %s, %s\n", strerrorname_np(errno),
        now() - t0 > 0.138 ? "after the time" : "too short");
    app_open(gate);
    RES(shutdown(fd, SHUT_WR));
    char msg[32];
    size_t k = app_get(fd, msg, sizeof msg);
    msg[k < 31 ? k : 31] = 0;
    say("peer counted %s\n", strtoull(msg, NULL, 10) == pos ? "the same" : "ANOTHER number");
}

static void
counter(int fd)
{
    static char b[65536];
    uint64_t pos = 0;
    ssize_t r = 0;
    int wrong = 0;
    app_pass(gate);
    while ((r = read(fd, b, sizeof b)) > 0) {
        wrong |= app_match(b, (size_t)r, pos) != (size_t)r;
        pos += (uint64_t)r;
    }
    say("%s\n", wrong ? "WRONG" : "right");
    int n = snprintf(b, 32, "%llu", (unsigned long long)pos);
    app_put(fd, b, (size_t)n);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    gate = app_gate();
    int lfd = app_listen();
    set(lfd, SO_RCVTIMEO, 100);
    TIMED(100, accept(lfd, NULL, NULL));
    int c = app_connect(), s = (int)CK(accept(lfd, NULL, NULL));
    struct timeval tv = {0};
    CK(getsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, &(socklen_t){sizeof tv}));
    say("inherited %s\n",
        tv.tv_usec >= 100000 && tv.tv_usec < 120000 ? "100 ms" : "something else");
    char b[4];
    TIMED(100, recv(s, b, 4, 0));
    close(c);
    close(s);
    close(lfd);
    app_talk("receive", receiver, quiet);
    app_talk("send", counter, sender);
    return 0;
}
