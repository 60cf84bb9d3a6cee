/* SPDX-License-Identifier: Apache-2.0
 *
 * fionread_queue: FIONREAD after each small read of a long queue that grows meanwhile, records
 * of every size in it. What it says can be read at once; it says nothing only when there is nothing.
 * Then two threads read the same socket, both asking. How much is looked at to find out is measured.
 */
/* run: modes thread fork */
/* run: looks 1.0 */
#include "app.h"

enum { TOTAL = 6 << 20, QUEUE = 100000, SMALL = 4000, BIG = 60000 };

static void
sender(int fd)
{
    static char b[40000];
    uint64_t seed = 1;
    for (size_t sent = 0; sent < TOTAL;) {
        uint64_t r = app_rand(&seed);
        size_t n = r % 4 == 0 ? 1 + (r >> 8) % 60 : r % 4 == 1 ? 1 + (r >> 8) % 1500 : sizeof b;
        n = n < TOTAL - sent ? n : TOTAL - sent;
        app_fill(b, n, sent);
        app_put(fd, b, n);
        sent += n;
    }
}

static int
inq(int fd)
{
    int n = -1;
    CK(ioctl(fd, FIONREAD, &n));
    return n;
}

/* Reads at most `most` of what FIONREAD says, which must be there; waits when it says 0. */
static size_t
some(int fd, char *b, int most)
{
    int n = inq(fd);
    if (n == 0) {
        n = 1;
        app_poll(fd, POLLIN, APP_WAIT);
    }
    n = n < most ? n : most;
    ssize_t got = CK(recv(fd, b, (size_t)n, MSG_DONTWAIT));
    if (got != n)
        say("FIONREAD promised %d, %zd could be read\n", n, got);
    return (size_t)got;
}

static void
receiver(int fd)
{
    static char b[BIG];
    int size = 1 << 20, turn = 0;
    CK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
    say("a queue: %d\n", app_arrived(fd, QUEUE) >= QUEUE);
    for (size_t at = 0; at < TOTAL; turn++) {
        size_t n = some(fd, b, turn % 64 ? SMALL : BIG);
        if (app_match(b, n, at) != n)
            app_die(__FILE__, __LINE__, "other bytes than were sent");
        at += n;
    }
    say("nothing left: %d\n", inq(fd));
}

static _Atomic long taken;
static _Atomic unsigned long sum;

static void *
reader(void *arg)
{
    char b[SMALL];
    int fd = *(int *)arg;
    for (;;) {
        int n = inq(fd);
        size_t want = n > 0 && n < SMALL ? (size_t)n : SMALL;
        ssize_t got = CK(recv(fd, b, want, 0));
        if (got == 0)
            return NULL;
        unsigned long part = 0;
        for (ssize_t i = 0; i < got; i++)
            part += (unsigned char)b[i];
        taken += got;
        sum += part;
    }
}

static void
two_readers(int fd)
{
    pthread_t t;
    static char b[40000];
    unsigned long want = 0;
    MUST(pthread_create(&t, NULL, reader, &fd) == 0);
    reader(&fd);
    MUST(pthread_join(t, NULL) == 0);
    for (size_t at = 0; at < TOTAL; at += sizeof b) {
        size_t n = TOTAL - at < sizeof b ? TOTAL - at : sizeof b;
        app_fill(b, n, at);
        for (size_t i = 0; i < n; i++)
            want += (unsigned char)b[i];
    }
    say("two readers: %ld bytes, sum %s\n", (long)taken, sum == want ? "right" : "WRONG");
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_talk("one reader", receiver, sender);
    app_talk("two readers", two_readers, sender);
    return 0;
}
