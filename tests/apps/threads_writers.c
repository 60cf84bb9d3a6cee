/* SPDX-License-Identifier: Apache-2.0
 *
 * threads_writers: several threads write whole records to one connection, each in one call; with
 * room in the send buffer none is torn and each thread's own come in order. Then several threads
 * read one connection: every byte goes to exactly one of them.
 */
/* run: modes thread fork */
#include "app.h"

#define THREADS 4
#define RECORDS 200
#define SIZE 250

struct record {
    uint32_t who, number;
    char body[SIZE - 8];
};

static int the_fd;

static void *
writer(void *arg)
{
    struct record r = {.who = (uint32_t)(uintptr_t)arg};
    for (r.number = 0; r.number < RECORDS; r.number++) {
        app_fill(r.body, sizeof r.body, r.who * 1000 + r.number);
        struct iovec v[2] = {{&r, 100}, {(char *)&r + 100, sizeof r - 100}};
        ssize_t n = r.who & 1 ? writev(the_fd, v, 2) : send(the_fd, &r, sizeof r, 0);
        MUST(n == (ssize_t)sizeof r);
    }
    return NULL;
}

static void
writers(int fd)
{
    pthread_t t[THREADS];
    int n = 4 << 20;
    char b[1];
    CK(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof n));
    the_fd = fd;
    for (uintptr_t i = 0; i < THREADS; i++)
        MUST(pthread_create(&t[i], NULL, writer, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++)
        MUST(pthread_join(t[i], NULL) == 0);
    CK(shutdown(fd, SHUT_WR));
    RES(read(fd, b, 1));
}

static void
checker(int fd)
{
    struct record r;
    uint32_t next[THREADS] = {0}, torn = 0;
    while (app_get(fd, &r, sizeof r) == sizeof r) {
        if (r.who >= THREADS || r.number != next[r.who] ||
            app_match(r.body, sizeof r.body, r.who * 1000 + r.number) != sizeof r.body) {
            torn++;
            continue;
        }
        next[r.who]++;
    }
    say("torn %u, whole %u %u %u %u\n", torn, next[0], next[1], next[2], next[3]);
}

static _Atomic uint64_t bytes, sum;

static void *
reader(void *arg)
{
    char b[3000];
    ssize_t r = 0;
    while ((r = recv(the_fd, b, sizeof b, 0)) > 0) {
        uint64_t s = 0;
        for (ssize_t i = 0; i < r; i++)
            s += (unsigned char)b[i];
        sum += s;
        bytes += (uint64_t)r;
    }
    MUST(r == 0);
    return arg;
}

static void
readers(int fd)
{
    pthread_t t[THREADS];
    the_fd = fd;
    for (int i = 0; i < THREADS; i++)
        MUST(pthread_create(&t[i], NULL, reader, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        MUST(pthread_join(t[i], NULL) == 0);
    say("bytes %llu, sum %llu\n", (unsigned long long)bytes, (unsigned long long)sum);
}

static void
feeder(int fd)
{
    static char b[10000];
    for (uint64_t pos = 0; pos < 2000000; pos += sizeof b) {
        app_fill(b, sizeof b, pos);
        app_put(fd, b, sizeof b);
    }
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_talk("several writers", checker, writers);
    app_talk("several readers", readers, feeder);
    return 0;
}
