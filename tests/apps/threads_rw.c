/* SPDX-License-Identifier: Apache-2.0
 *
 * threads_rw: one thread writes and another reads the same connection, on both ends, blocking and
 * by poll; full duplex, more than the buffers hold.
 */
/* run: modes thread fork */
#include "app.h"

#define TOTAL (5 << 20)
static int nonblocking;

static void
wait_if(int fd, int events)
{
    if (nonblocking)
        MUST(app_poll(fd, events, APP_WAIT));
}

static void *
writer(void *arg)
{
    static __thread char b[30000];
    int fd = (int)(intptr_t)arg;
    uint64_t seed = 5, pos = 0;
    while (pos < TOTAL) {
        size_t n = app_rand(&seed) % sizeof b + 1;
        n = n > TOTAL - pos ? TOTAL - pos : n;
        app_fill(b, n, pos);
        for (size_t off = 0; off < n;) {
            wait_if(fd, POLLOUT);
            ssize_t r = send(fd, b + off, n - off, MSG_NOSIGNAL);
            MUST(r > 0 || (nonblocking && errno == EAGAIN));
            off += r > 0 ? (size_t)r : 0;
        }
        pos += n;
    }
    CK(shutdown(fd, SHUT_WR));
    return NULL;
}

static void
side(int fd)
{
    static __thread char b[50000];
    pthread_t t;
    uint64_t pos = 0;
    int wrong = 0;
    if (nonblocking)
        app_nonblock(fd, 1);
    MUST(pthread_create(&t, NULL, writer, (void *)(intptr_t)fd) == 0);
    for (;;) {
        wait_if(fd, POLLIN);
        ssize_t r = recv(fd, b, sizeof b, 0);
        MUST(r >= 0 || (nonblocking && errno == EAGAIN));
        if (r == 0)
            break;
        if (r < 0)
            continue;
        wrong |= app_match(b, (size_t)r, pos) != (size_t)r;
        pos += (uint64_t)r;
    }
    MUST(pthread_join(t, NULL) == 0);
    say("got %llu %s\n", (unsigned long long)pos, wrong ? "WRONG" : "right");
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_talk("blocking", side, side);
    nonblocking = 1;
    app_talk("non-blocking", side, side);
    return 0;
}
