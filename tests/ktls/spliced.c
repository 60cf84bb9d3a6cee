/* SPDX-License-Identifier: Apache-2.0
 *
 * spliced: splice between a connection and a pipe, with nothing to fall back to: the kernel moves the
 * bytes. More is promised than comes (SPLICE_F_MORE, MSG_MORE, a sendfile beyond the end): what is there
 * arrives all the same. The end is 0. (A byte goes each way before: then the connection is in the kernel.)
 */
/* run: modes thread fork */
#include "app.h"

#define SIZE 30000

static void
sender(int fd)
{
    static char b[SIZE];
    int p[2];
    char c;
    FILE *f = tmpfile();
    MUST(f);
    CK(pipe(p));
    app_put(fd, "", 1);
    CK(read(fd, &c, 1));
    app_fill(b, sizeof b, 0);
    app_put(p[1], b, sizeof b);
    for (size_t left = SIZE; left;)
        left -= (size_t)CK(splice(p[0], NULL, fd, NULL, left, SPLICE_F_MOVE));
    CK(read(fd, &c, 1));
    app_put(p[1], b, 100);
    RES(splice(p[0], NULL, fd, NULL, 100, SPLICE_F_MORE));
    CK(read(fd, &c, 1));
    RES(send(fd, b, 100, MSG_MORE));
    CK(read(fd, &c, 1));
    app_put(fileno(f), b, 5000);
    CK(lseek(fileno(f), 0, SEEK_SET));
    RES(sendfile(fd, fileno(f), NULL, 1 << 20));
    CK(read(fd, &c, 1));
    fclose(f);
}

static void
receiver(int fd)
{
    static char b[SIZE];
    static const size_t sizes[] = {SIZE, 100, 100, 5000};
    int p[2];
    CK(pipe(p));
    CK(read(fd, b, 1));
    app_put(fd, b, 1);
    for (int i = 0; i < 4; i++) {
        size_t got = 0;
        while (got < sizes[i]) {
            ssize_t r = CK(splice(fd, NULL, p[1], NULL, sizes[i] - got, SPLICE_F_MOVE));
            MUST(r > 0 && app_get(p[0], b + got, (size_t)r) == (size_t)r);
            got += (size_t)r;
        }
        say("got %zu match %zu\n", got, app_match(b, got, 0));
        app_put(fd, b, 1);
    }
    RES(splice(fd, NULL, p[1], NULL, 10, 0));
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_talk("spliced", receiver, sender);
    return 0;
}
