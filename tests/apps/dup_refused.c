/* SPDX-License-Identifier: Apache-2.0
 *
 * dup_refused: dup2 or dup3 that the kernel refuses [fs/file.c: ksys_dup3] leaves the connection that it was to replace as
 * it is. `flags`: unknown ones. `limit`: the number is beyond RLIMIT_NOFILE by now. `early`: the handshake is under way.
 */
/* run: modes flags limit early */
#include "app.h"

static void
echo(int lfd)
{
    char b[64];
    int fd = (int)CK(accept(lfd, NULL, NULL));
    size_t n = app_get(fd, b, 11);
    say("got %zu\n", n);
    app_put(fd, b, n);
    CK(close(fd));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    char b[64] = "PLAINMARKER", c[64] = "";
    app_main(argc, argv);
    int lfd = app_listen();
    if (strcmp(app_mode, "early") != 0)
        app_start_fork(&t, echo, lfd);
    int fd = app_connect(), other = (int)CK(open("/dev/null", O_RDONLY));
    if (strcmp(app_mode, "limit") == 0) {
        struct rlimit r, old;
        CK(getrlimit(RLIMIT_NOFILE, &old));
        r = (struct rlimit){(rlim_t)fd, old.rlim_max};
        CK(setrlimit(RLIMIT_NOFILE, &r));
        RES(dup2(other, fd));
        CK(setrlimit(RLIMIT_NOFILE, &old));
    } else
        RES(dup3(other, fd, O_NONBLOCK));
    RES(send(fd, b, 11, MSG_NOSIGNAL));
    if (strcmp(app_mode, "early") == 0)
        app_start_fork(&t, echo, lfd);
    RES(read(fd, c, 11));
    say("%.11s\n", c);
    app_join(&t, "server");
    return 0;
}
