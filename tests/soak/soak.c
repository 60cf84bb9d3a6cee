/* SPDX-License-Identifier: Apache-2.0
 *
 * soak server fork|thread PORT     a child, or a thread, for each connection
 * soak client PORT SECONDS [SEED [COUNT]]
 *                              one connection after the other, checked; prints how many. With COUNT that
 *                              many instead, which carry little; SEED 0: all with an orderly end
 *
 * The client's first bytes are a letter and a length. The server echoes that many bytes, and then:
 *   c  closes and ends properly    x  exits without close    k  kills itself    e  executes cat
 * so that connections end in every way in which processes can.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct head {
    char how;
    char pad[3];
    uint32_t len;
};

static int
all(int fd, void *p, size_t n, int out)
{
    for (size_t at = 0; at < n;) {
        ssize_t r = out ? send(fd, (char *)p + at, n - at, MSG_NOSIGNAL) : read(fd, (char *)p + at, n - at);
        if (r <= 0)
            return -1;
        at += (size_t)r;
    }
    return 0;
}

static int
echo(int fd, char *how)
{
    char b[8192];
    struct head h;
    if (all(fd, &h, sizeof h, 0))
        return -1;
    *how = h.how;
    for (size_t left = h.len; left > 0;) {
        size_t n = left < sizeof b ? left : sizeof b;
        if (all(fd, b, n, 0) || all(fd, b, n, 1))
            return -1;
        left -= n;
    }
    return 0;
}

static void
child(int fd)
{
    char how = 'c', *args[] = {(char *)(uintptr_t)"cat", NULL};
    if (echo(fd, &how) || how == 'c') {
        close(fd);
        exit(0);
    }
    if (how == 'k')
        kill(getpid(), SIGKILL);
    if (how == 'e') {
        dup2(fd, 0);
        dup2(fd, 1);
        close(fd);
        execvp("cat", args);
    }
    _exit(0);
}

static void *
thread(void *arg)
{
    char how;
    int fd = (int)(intptr_t)arg;
    (void)echo(fd, &how);
    close(fd);
    return NULL;
}

static int
server(int threads, int port)
{
    int one = 1, l = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(l, (struct sockaddr *)&sa, sizeof sa) || listen(l, 128))
        return 1;
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        pthread_t t;
        int fd = accept(l, NULL, NULL);
        if (fd < 0)
            continue;
        if (threads) {
            if (pthread_create(&t, NULL, thread, (void *)(intptr_t)fd) == 0)
                pthread_detach(t);
            else
                close(fd);
            continue;
        }
        if (fork() == 0)
            child(fd);
        close(fd);
    }
}

static unsigned seed = 1;

static unsigned
rnd(unsigned n)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 8) % n;
}

/* 0: as it should be. */
static int
talk(int port, unsigned longest, int orderly)
{
    static const char hows[] = "cccxkk";
    static char b[200000], c[200000];
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct head h = {.how = hows[rnd(sizeof hows - 1)], .len = rnd(10) ? rnd(3000) : rnd(sizeof b)};
    h.how = orderly ? 'c' : rnd(longest < sizeof b ? 50 : 7) ? h.how : 'e';
    h.len = h.len < longest ? h.len : h.len % longest;
    int fd = socket(AF_INET, SOCK_STREAM, 0), bad = 1;
    for (size_t i = 0; i < h.len; i++)
        b[i] = (char)rnd(256);
    if (connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0 && !all(fd, &h, sizeof h, 1)) {
        bad = 0;
        for (size_t at = 0; at < h.len && !bad; at += 8192) {
            size_t n = h.len - at < 8192 ? h.len - at : 8192;
            bad = all(fd, b + at, n, 1) || all(fd, c + at, n, 0);
        }
        bad = bad || memcmp(b, c, h.len) != 0;
        ssize_t r = 1;
        if (!bad && h.how == 'e') /* cat, if there are processes */
            bad = shutdown(fd, SHUT_WR) || read(fd, c, sizeof c) != 0;
        else if (!bad)
            r = read(fd, c, 1);
        bad = bad || (r < 0 && errno != ECONNRESET) || (h.how == 'c' && r != 0 && r != 1);
    }
    close(fd);
    return bad;
}

int
main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "server") == 0)
        return server(strcmp(argv[2], "thread") == 0, atoi(argv[3]));
    if (argc < 4)
        return 2;
    unsigned good = 0, bad = 0, count = argc > 5 ? (unsigned)atoi(argv[5]) : 0;
    time_t end = time(NULL) + atoi(argv[3]);
    seed = argc > 4 ? (unsigned)atoi(argv[4]) : 1;
    int orderly = seed == 0;
    while (count ? good + bad < count : time(NULL) < end)
        *(talk(atoi(argv[2]), count ? 64 : UINT32_MAX, orderly) ? &bad : &good) += 1;
    printf("%u good, %u bad\n", good, bad);
    return bad != 0;
}
