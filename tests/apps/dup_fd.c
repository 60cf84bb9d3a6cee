/* SPDX-License-Identifier: Apache-2.0
 *
 * dup_fd: copies by dup, dup2, dup3 and F_DUPFD; one is closed, the others go on; the peer sees
 * the end only at the last close; dup2 onto a connection closes that one.
 */
/* run: modes thread fork */
#include "app_proc.h"

static void
say_hello(int fd, uint64_t pos)
{
    char b[3000];
    app_fill(b, sizeof b, pos);
    RES(write(fd, b, sizeof b));
    size_t n = app_get(fd, b, sizeof b);
    say("echoed %zu match %zu\n", n, app_match(b, n, pos));
}

static void
copies(int fd)
{
    int a = (int)CK(dup(fd)), b = 200, c = 201, d = 0, e = 0;
    say_hello(a, 0);
    RES(dup2(fd, b));
    RES(dup3(fd, c, O_CLOEXEC));
    RES(dup3(fd, fd, 0));
    RES(dup2(fd, fd) == fd ? 0 : -1);
    RES(d = fcntl(fd, F_DUPFD, 300));
    RES(e = fcntl(fd, F_DUPFD_CLOEXEC, 300));
    say("cloexec %d %d\n", fcntl(c, F_GETFD), fcntl(e, F_GETFD));
    RES(close(a));
    RES(write(a, "x", 1));
    say_hello(b, 5);
    RES(close(b));
    say_hello(c, 6);
    say_hello(d, 7);
    say_hello(e, 8);
    RES(close(c));
    RES(close(d));
    say_hello(fd, 9);
    RES(close(e));
    say_hello(fd, 10);
}

/* A connection is replaced under its number: by a pipe, then by another connection. */
static void
replaced(void)
{
    int c1 = 0, s1 = 0, c2 = 0, s2 = 0, p[2];
    char b[10];
    say("-- replaced\n");
    app_pair(&c1, &s1);
    app_pair(&c2, &s2);
    CK(pipe(p));
    app_put(c1, "one", 3);
    MUST(app_get(s1, b, 3) == 3);
    RES(dup2(p[1], c1) == c1 ? 0 : -1);
    RES(read(s1, b, 1));
    RES(write(c1, "raw", 3));
    RES(read(p[0], b, sizeof b));
    RES(dup2(c2, c1) == c1 ? 0 : -1);
    RES(write(c1, "two", 3));
    RES(read(s2, b, sizeof b));
    RES(close(c2));
    RES(write(c1, "still", 5));
    RES(read(s2, b, sizeof b));
    RES(dup2(c1, s1) == s1 ? 0 : -1);
    RES(close(c1));
    RES(write(s2, "back", 4));
    RES(read(s1, b, sizeof b));
    RES(shutdown(s1, SHUT_WR));
    RES(read(s2, b, sizeof b));
    close(s1);
    close(s2);
    close(p[0]);
    close(p[1]);
}

/* A number is used again at once for another thing. */
static void
reused(void)
{
    int c = 0, s = 0, p[2];
    char b[10];
    say("-- reused\n");
    for (int i = 0; i < 3; i++) {
        app_pair(&c, &s);
        RES(write(c, "abc", 3));
        RES(read(s, b, 10));
        int old = c;
        CK(close(c));
        CK(pipe(p));
        MUST(p[0] == old || p[1] == old);
        RES(write(p[1], "plain", 5));
        RES(read(p[0], b, 10));
        close(p[0]);
        close(p[1]);
        RES(read(s, b, 10));
        RES(close(s));
        RES(close(s));
        RES(read(s, b, 10));
    }
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_talk("copies", app_echo, copies);
    replaced();
    reused();
    return 0;
}
