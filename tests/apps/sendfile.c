/* SPDX-License-Identifier: Apache-2.0
 *
 * sendfile: with and without an offset, in parts, past the end, to a non-blocking socket that
 * fills up; the file's position and the offset move as sendfile(2) says.
 */
/* run: modes thread fork */
#include "app.h"

#define FILE_SIZE 300000

static int
make_file(void)
{
    static char b[FILE_SIZE];
    FILE *f = tmpfile();
    MUST(f);
    app_fill(b, sizeof b, 0);
    app_put(fileno(f), b, sizeof b);
    return fileno(f);
}

static void
sender(int fd)
{
    int file = make_file(), in[2];
    off_t off = 1000;
    CK(lseek(file, 500, SEEK_SET));
    RES(sendfile(fd, file, &off, 2000));
    say("offset %ld position %ld\n", (long)off, (long)lseek(file, 0, SEEK_CUR));
    RES(sendfile(fd, file, NULL, 2500));
    say("position %ld\n", (long)lseek(file, 0, SEEK_CUR));
    off = FILE_SIZE - 10;
    RES(sendfile(fd, file, &off, 100));
    say("offset %ld\n", (long)off);
    RES(sendfile(fd, file, &off, 100));
    RES(sendfile(fd, file, &off, 0));
    RES(sendfile64(fd, file, NULL, FILE_SIZE));
    say("position %ld\n", (long)lseek(file, 0, SEEK_CUR));
    RES(sendfile(fd, file, NULL, 10));
    off = -5;
    RES(sendfile(fd, file, &off, 10));
    RES(sendfile(fd, -1, NULL, 10));
    RES(sendfile(-1, file, NULL, 10));
    CK(pipe(in));
    app_put(in[1], "xyz", 3);
    off = 0;
    RES(sendfile(fd, in[0], &off, 3));

    app_nonblock(fd, 1);
    off_t at = 0;
    int full = 0, loops = 0;
    while (at < FILE_SIZE) {
        ssize_t r = sendfile(fd, file, &at, (size_t)(FILE_SIZE - at));
        loops++;
        if (r < 0) {
            MUST(errno == EAGAIN);
            full++;
            app_poll(fd, POLLOUT, APP_WAIT);
        }
    }
    say("sent %ld, loops %s\n", (long)at, loops < 1000 && full < 500 ? "ok" : "bad");
    app_nonblock(fd, 0);
    CK(shutdown(fd, SHUT_WR));
    RES(sendfile(fd, in[0], NULL, 0));
    signal(SIGPIPE, SIG_IGN);
    at = 0;
    RES(sendfile(fd, file, &at, 10));
    say("offset %ld\n", (long)at);
    CK(read(fd, in, 1));
}

static void
part(int fd, const char *what, size_t n, uint64_t pos)
{
    static char b[FILE_SIZE];
    size_t got = app_get(fd, b, n);
    say("%s: %zu match %zu\n", what, got, app_match(b, got, pos));
}

static void
receiver(int fd)
{
    part(fd, "offset", 2000, 1000);
    part(fd, "position", 2500, 500);
    part(fd, "end", 10, FILE_SIZE - 10);
    part(fd, "all", FILE_SIZE - 3000, 3000);
    part(fd, "non-blocking", FILE_SIZE, 0);
    part(fd, "nothing", 10, 0);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_talk("sendfile", receiver, sender);
    return 0;
}
