/* SPDX-License-Identifier: Apache-2.0
 *
 * splice: programs try splice and fall back to read and write on EINVAL; all bytes arrive either
 * way. copy_file_range and tee never work on sockets.
 */
/* run: modes thread fork */
#include "app.h"

#define TOTAL 400000

/* Moves up to n bytes by splice, or by read and write when splice does not serve this pair. */
static ssize_t
move(int from, int to, size_t n)
{
    char b[16384];
    ssize_t r = splice(from, NULL, to, NULL, n, SPLICE_F_MOVE);
    if (r >= 0 || errno != EINVAL)
        return CK(r);
    r = CK(read(from, b, n < sizeof b ? n : sizeof b));
    app_put(to, b, (size_t)r);
    return r;
}

static void
sender(int fd)
{
    static char b[TOTAL];
    int p[2];
    CK(pipe(p));
    app_fill(b, sizeof b, 0);
    for (size_t pos = 0; pos < TOTAL;) {
        size_t n = TOTAL - pos > 20000 ? 20000 : TOTAL - pos;
        app_put(p[1], b + pos, n);
        pos += n;
        while (n)
            n -= (size_t)move(p[0], fd, n);
    }
    CK(shutdown(fd, SHUT_WR));
    say("echoed %zu\n", app_get(fd, b, TOTAL));
    say("match %zu\n", app_match(b, TOTAL, 0));
    RES(tee(p[0], fd, 10, 0));
    say("copy_file_range %s\n",
        copy_file_range(fd, NULL, p[1], NULL, 10, 0) < 0 ? "fails" : "works");
}

static void
echo(int fd)
{
    static char b[TOTAL];
    size_t got = 0;
    int p[2];
    CK(pipe(p));
    for (;;) {
        ssize_t r = move(fd, p[1], 16384);
        if (r == 0)
            break;
        CK(app_get(p[0], b + got, (size_t)r) == (size_t)r ? 0 : -1);
        got += (size_t)r;
    }
    say("got %zu match %zu\n", got, app_match(b, got, 0));
    app_put(fd, b, got);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_talk("splice", echo, sender);
    return 0;
}
