/* SPDX-License-Identifier: Apache-2.0
 *
 * nonblock: O_NONBLOCK by socket(), fcntl, FIONBIO and accept4; visible through dup; switched
 * back and forth in mid-stream; FD_CLOEXEC by fcntl and FIOCLEX; F_GETFL and F_GETFD unchanged.
 */
/* run: modes thread fork */
#include "app.h"

static int gate;

static void
sender(int fd)
{
    char b[100];
    app_fill(b, sizeof b, 0);
    for (int i = 0; i < 4; i++) {
        app_pass(gate);
        RES(write(fd, b, sizeof b));
    }
    MUST(app_get(fd, b, 1) == 0);
}

static void
flags(int fd)
{
    say("F_GETFL %x F_GETFD %x\n", (unsigned)CK(fcntl(fd, F_GETFL)),
        (unsigned)CK(fcntl(fd, F_GETFD)));
}

static void
receiver(int fd)
{
    char b[200];
    int on = 1, off = 0, copy = (int)CK(dup(fd));
    flags(fd);
    RES(fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK));
    flags(copy);
    RES(recv(copy, b, sizeof b, 0));
    app_open(gate);
    say("poll %s\n", app_events(app_poll(copy, POLLIN, APP_WAIT)));
    RES(recv(fd, b, sizeof b, 0));
    RES(recv(fd, b, sizeof b, 0));
    RES(ioctl(fd, FIONBIO, &off));
    flags(fd);
    app_open(gate);
    RES(recv(fd, b, 100, MSG_WAITALL));
    RES(recv(fd, b, 1, MSG_DONTWAIT));
    RES(ioctl(copy, FIONBIO, &on));
    flags(fd);
    RES(read(fd, b, sizeof b));
    app_open(gate);
    say("arrived %d\n", app_arrived(fd, 100));
    RES(recv(fd, b, 200, MSG_WAITALL));
    RES(fcntl(fd, F_SETFL, O_RDWR));
    app_open(gate);
    RES(recv(fd, b, 100, MSG_WAITALL));
    RES(fcntl(copy, F_SETFD, FD_CLOEXEC));
    flags(copy);
    flags(fd);
    RES(ioctl(fd, FIOCLEX));
    flags(fd);
    RES(ioctl(fd, FIONCLEX));
    flags(fd);
    RES(fcntl(fd, F_SETFL, O_RDWR | O_APPEND));
    flags(fd);
    RES(fcntl(fd, F_GETOWN));
    RES(fcntl(fd, 9999));
    RES(fcntl(fd, F_DUPFD, -1));
    close(copy);
}

/* How much a write took before EAGAIN, from position pos of the pattern on. */
static uint64_t
fill(int fd, uint64_t pos)
{
    static char b[30000];
    uint64_t taken = 0;
    for (;;) {
        app_fill(b, sizeof b, pos + taken);
        ssize_t r = write(fd, b, sizeof b);
        if (r < 0)
            return taken;
        taken += (uint64_t)r;
    }
}

/*
 * Non-blocking fill: the count that was taken arrives, no more and no less. What is on its way to
 * the peer may make room once more after an EAGAIN; then poll says so, and a write takes something, if not
 * at the first time: but who is told again and again that there is room finds some.
 */
#define IN_VAIN 100
static void
filler(int fd)
{
    char b[1000], msg[32];
    uint64_t pos = 0, taken = 0;
    ssize_t r = 0;
    unsigned events = 0;
    int in_vain = 0;
    app_nonblock(fd, 1);
    do {
        taken = fill(fd, pos);
        pos += taken;
        in_vain = taken ? 0 : in_vain + 1;
        events = app_poll(fd, POLLOUT, 50);
    } while (events && in_vain < IN_VAIN);
    say("full: %s, poll %s\n", strerrorname_np(errno), app_events(events));
    app_open(gate);
    say("poll %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
    app_fill(b, sizeof b, pos);
    r = CK(send(fd, b, sizeof b, 0));
    pos += (uint64_t)r;
    CK(shutdown(fd, SHUT_WR));
    app_nonblock(fd, 0);
    size_t k = app_get(fd, msg, sizeof msg - 1);
    msg[k] = 0;
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
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    flags(fd);
    close(fd);
    app_talk("flags", receiver, sender);
    app_talk("fill, server", filler, counter);
    app_talk("fill, client", counter, filler);
    return 0;
}
