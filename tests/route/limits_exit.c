/* SPDX-License-Identifier: Apache-2.0
 *
 * limits_exit: a server has a process for each connection, which ends without having closed it; so does
 * the image that it executes. The connection does not count any more: the limit is of what there is at once.
 */
/* run: modes fork exec */
#include "app_proc.h"

#define TURNS 10 /* more than the limit */

static int
echo(int in, int out)
{
    char b[64];
    ssize_t r = 0;
    while ((r = read(in, b, sizeof b)) > 0)
        app_put(out, b, (size_t)r);
    return r == 0 ? 0 : 1;
}

static void
ask(int lfd)
{
    (void)lfd;
    for (int i = 0; i < TURNS; i++) {
        char b[5] = "";
        int fd = app_connect();
        ssize_t put = send(fd, "hello", 5, MSG_NOSIGNAL), got = recv(fd, b, 5, MSG_WAITALL);
        say("%zd %zd %.5s\n", put, got, b);
        CK(shutdown(fd, SHUT_WR));
        say("end %zd\n", recv(fd, b, 1, 0));
        CK(close(fd));
    }
}

int
main(int argc, char **argv)
{
    static char self[PATH_MAX];
    char zero[] = "0", *args[] = {self, zero, NULL};
    struct app_task t;
    app_main(argc, argv);
    if (strcmp(app_mode, "0") == 0)
        return echo(0, 1);
    app_image(self, "limits_exit");
    int lfd = app_listen();
    app_start_thread(&t, ask, lfd);
    for (int i = 0; i < TURNS; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        int images = strcmp(app_mode, "exec") == 0;
        pid_t pid = images ? app_exec(self, args, fd, 1) : (pid_t)CK(fork());
        if (pid == 0)
            exit(echo(fd, fd));
        close(fd);
        app_ended("server", pid);
    }
    app_join(&t, "client");
    return 0;
}
