/* SPDX-License-Identifier: Apache-2.0
 *
 * select_block: a blocking socket, select first and then a recv that trusts it. It must never
 * hang and select must never say readable without a byte (a partial record is none).
 */
/* run: modes thread fork */
#include "app.h"

#define TOTAL 600000

static void
server(int fd)
{
    static char b[40000];
    uint64_t seed = 7, pos = 0;
    while (pos < TOTAL) {
        size_t n = app_rand(&seed) % sizeof b + 1;
        n = n > TOTAL - pos ? TOTAL - pos : n;
        app_fill(b, n, pos);
        app_put(fd, b, n);
        pos += n;
    }
    say("sent %llu\n", (unsigned long long)pos);
    app_get(fd, b, 1);
}

static void
client(int fd)
{
    static char b[20000];
    uint64_t seed = 11, pos = 0;
    int empty = 0, wrong = 0;
    while (pos < TOTAL) {
        fd_set in;
        FD_ZERO(&in);
        FD_SET(fd, &in);
        CK(select(fd + 1, &in, NULL, NULL, NULL));
        ssize_t r = recv(fd, b, app_rand(&seed) % sizeof b + 1, MSG_DONTWAIT);
        if (r < 0) {
            MUST(errno == EAGAIN);
            empty++;
            continue;
        }
        wrong |= app_match(b, (size_t)r, pos) != (size_t)r;
        pos += (size_t)r;
    }
    say("got %llu, %s, empty wake-ups %s\n", (unsigned long long)pos, wrong ? "WRONG" : "right",
        empty <= 20 ? "ok" : "bad");
    app_put(fd, b, 1);
}

static void
client_blocking(int fd)
{
    static char b[20000];
    uint64_t seed = 13, pos = 0;
    int wrong = 0;
    while (pos < TOTAL) {
        fd_set in;
        FD_ZERO(&in);
        FD_SET(fd, &in);
        CK(select(fd + 1, &in, NULL, NULL, NULL));
        ssize_t r = CK(recv(fd, b, app_rand(&seed) % sizeof b + 1, 0));
        MUST(r > 0);
        wrong |= app_match(b, (size_t)r, pos) != (size_t)r;
        pos += (size_t)r;
    }
    say("got %llu, %s\n", (unsigned long long)pos, wrong ? "WRONG" : "right");
    app_put(fd, b, 1);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_talk("select, recv DONTWAIT", server, client);
    app_talk("select, blocking recv", server, client_blocking);
    return 0;
}
