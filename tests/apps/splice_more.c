/* SPDX-License-Identifier: Apache-2.0
 *
 * splice between a pipe and a connection, by a program that has no other way: counts, the end,
 * O_NONBLOCK on either side and SPLICE_F_NONBLOCK, every refusal, a pipe without a reader, and that
 * what one side has no room for stays on the other.
 */
/* run: modes thread fork */
#include "app.h"

#define BULK 3000000

static int held_back; /* a gate */

static int
held(int fd)
{
    int n = -1;
    CK(ioctl(fd, FIONREAD, &n));
    return n;
}

static void
take(int p, size_t n, uint64_t pos)
{
    static char b[65536];
    size_t got = app_get(p, b, n);
    say("pipe gave %zu of %zu, right %zu\n", got, n, app_match(b, got, pos));
}

static void
send_words(int fd)
{
    char go, b[5000];
    for (int i = 0; i < 4; i++) {
        app_fill(b, sizeof b, (uint64_t)i * sizeof b);
        app_put(fd, b, sizeof b);
        CK(read(fd, &go, 1));
    }
    CK(shutdown(fd, SHUT_WR));
    app_drain(fd, 0);
}

/* The receiving direction, small: what each call returns. */
static void
receive(int fd)
{
    int p[2];
    off_t off = 0;
    char full[65536];
    CK(pipe(p));
    app_arrived(fd, 5000);
    RES(splice(fd, NULL, p[1], NULL, 100, 0));
    take(p[0], 100, 0);
    RES(splice(fd, NULL, p[1], NULL, 0, 0));
    RES(splice(fd, NULL, p[1], NULL, 10, 64));
    RES(splice(fd, NULL, p[1], &off, 10, 0));
    RES(splice(fd, &off, p[1], NULL, 10, 0));
    RES(splice(fd, NULL, p[0], NULL, 10, 0));
    RES(splice(fd, NULL, 1000, NULL, 10, 0));
    RES(splice(fd, NULL, fd, NULL, 10, 0));
    say("held %d\n", held(fd));
    RES(splice(fd, NULL, p[1], NULL, 65536, SPLICE_F_MOVE));
    take(p[0], 4900, 100);
    app_nonblock(fd, 1);
    RES(splice(fd, NULL, p[1], NULL, 10, 0));
    app_put(fd, "g", 1);
    app_arrived(fd, 5000);
    /* A pipe that has no room */
    app_nonblock(fd, 0);
    app_nonblock(p[1], 1);
    app_fill(full, sizeof full, 0);
    app_put(p[1], full, sizeof full);
    RES(splice(fd, NULL, p[1], NULL, 10, 0));
    app_nonblock(p[1], 0);
    RES(splice(fd, NULL, p[1], NULL, 10, SPLICE_F_NONBLOCK));
    take(p[0], sizeof full, 0);
    app_put(p[1], full, 300);
    RES(splice(fd, NULL, p[1], NULL, 700, 0));
    say("in the pipe %d\n", held(p[0]));
    take(p[0], 300, 0);
    take(p[0], 700, 5000);
    /* SPLICE_F_NONBLOCK says nothing about the socket: this waits. */
    RES(splice(fd, NULL, p[1], NULL, 4300, SPLICE_F_NONBLOCK));
    take(p[0], 4300, 5700);
    app_put(fd, "g", 1);
    RES(splice(fd, NULL, p[1], NULL, 1, SPLICE_F_NONBLOCK));
    app_arrived(fd, 4999);
    RES(splice(fd, NULL, p[1], NULL, 9000, 0));
    take(p[0], 5000, 10000);
    app_put(fd, "g", 1);
    app_arrived(fd, 5000);
    CK(close(p[0]));
    RES(splice(fd, NULL, p[1], NULL, 10, 0));
    say("held %d\n", held(fd));
    CK(close(p[1]));
    CK(pipe(p));
    RES(splice(fd, NULL, p[1], NULL, 65536, 0));
    app_put(fd, "g", 1);
    RES(splice(fd, NULL, p[1], NULL, 65536, 0));
    RES(splice(fd, NULL, p[1], NULL, 65536, 0));
    take(p[0], 5000, 15000);
    CK(close(p[0]));
    CK(close(p[1]));
}

static void
drain_words(int fd)
{
    app_put(fd, "r", 1);
    app_drain(fd, 0);
}

/* The sending direction, small. */
static void
transmit(int fd)
{
    int p[2];
    off_t off = 0;
    char b[3000];
    CK(read(fd, b, 1));
    CK(pipe(p));
    app_fill(b, sizeof b, 0);
    app_put(p[1], b, sizeof b);
    RES(splice(p[0], NULL, fd, NULL, 0, 0));
    RES(splice(p[0], NULL, fd, NULL, 10, 64));
    RES(splice(p[0], &off, fd, NULL, 10, 0));
    RES(splice(p[0], NULL, fd, &off, 10, 0));
    RES(splice(p[1], NULL, fd, NULL, 10, 0));
    RES(splice(1000, NULL, fd, NULL, 10, 0));
    RES(splice(p[0], NULL, fd, NULL, 1000, SPLICE_F_MORE));
    RES(splice(p[0], NULL, fd, NULL, 70000, 0));
    RES(splice(p[0], NULL, fd, NULL, 10, SPLICE_F_NONBLOCK));
    app_nonblock(p[0], 1);
    RES(splice(p[0], NULL, fd, NULL, 10, 0));
    app_nonblock(p[0], 0);
    app_put(p[1], b + 1, 10);
    CK(shutdown(fd, SHUT_WR));
    RES(splice(p[0], NULL, fd, NULL, 10, 0));
    say("in the pipe %d\n", held(p[0]));
    take(p[0], 10, 1);
    CK(close(p[1]));
    RES(splice(p[0], NULL, fd, NULL, 10, 0));
    CK(close(p[0]));
}

/* A relay with one pipe, both ways non-blocking, that knows only splice. */
static void
echo_bulk(int fd)
{
    int p[2], end = 0;
    long in_pipe = 0, total = 0;
    CK(pipe2(p, O_NONBLOCK));
    app_nonblock(fd, 1);
    while (!end || in_pipe) {
        short want = (short)((end || in_pipe >= 32768 ? 0 : POLLIN) | (in_pipe ? POLLOUT : 0));
        struct pollfd f = {fd, want, 0};
        MUST(poll(&f, 1, APP_WAIT) == 1);
        if (f.revents & POLLIN) {
            ssize_t r = splice(fd, NULL, p[1], NULL, 65536, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
            MUST(r >= 0 || errno == EAGAIN);
            end = r == 0;
            in_pipe += r > 0 ? r : 0;
        }
        if (f.revents & POLLOUT && in_pipe) {
            ssize_t r = splice(p[0], NULL, fd, NULL, (size_t)in_pipe, SPLICE_F_NONBLOCK);
            MUST(r > 0 || errno == EAGAIN);
            in_pipe -= r > 0 ? r : 0;
            total += r > 0 ? r : 0;
        }
    }
    say("relayed %ld\n", total);
    CK(close(p[0]));
    CK(close(p[1]));
}

static void *
write_bulk(void *arg)
{
    static char b[BULK];
    app_fill(b, sizeof b, 0);
    app_put(*(int *)arg, b, sizeof b);
    CK(shutdown(*(int *)arg, SHUT_WR));
    return NULL;
}

static void
bulk(int fd)
{
    pthread_t t;
    MUST(pthread_create(&t, NULL, write_bulk, &fd) == 0);
    app_drain(fd, 0);
    MUST(pthread_join(t, NULL) == 0);
}

/* The socket takes less than the pipe holds: the rest stays, and nothing is lost. */
static void
stall(int fd)
{
    int p[2];
    char b[50000];
    uint64_t pos = 0;
    size_t in_pipe = 0;
    CK(pipe2(p, O_NONBLOCK));
    app_nonblock(fd, 1);
    for (int full = 0; !full;) {
        if (in_pipe == 0) {
            app_fill(b, sizeof b, pos);
            app_put(p[1], b, sizeof b);
            in_pipe = sizeof b;
            pos += sizeof b;
        }
        ssize_t r = splice(p[0], NULL, fd, NULL, in_pipe, 0);
        full = r < 0;
        MUST(r > 0 || errno == EAGAIN);
        in_pipe -= r > 0 ? (size_t)r : 0;
    }
    say("the rest is in the pipe: %d\n", (size_t)held(p[0]) == in_pipe);
    app_nonblock(fd, 0);
    CK(close(p[1]));
    app_open(held_back);
    while (in_pipe)
        in_pipe -= (size_t)CK(splice(p[0], NULL, fd, NULL, in_pipe, 0));
    CK(shutdown(fd, SHUT_WR));
    CK(close(p[0]));
}

static void
read_late(int fd)
{
    static char b[65536];
    uint64_t pos = 0;
    int wrong = 0;
    ssize_t r;
    app_pass(held_back);
    while ((r = CK(read(fd, b, sizeof b))) > 0) {
        wrong |= app_match(b, (size_t)r, pos) != (size_t)r;
        pos += (uint64_t)r;
    }
    say("%s, wrong %d\n", pos % 50000 ? "a part" : "all of it", wrong);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    app_talk("receive", receive, send_words);
    app_talk("transmit", transmit, drain_words);
    held_back = app_gate();
    app_talk("stall", stall, read_late);
    app_talk("bulk", echo_bulk, bulk);
    return 0;
}
