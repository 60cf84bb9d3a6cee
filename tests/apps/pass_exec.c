/* SPDX-License-Identifier: Apache-2.0
 *
 * pass_exec: who has got a connection from another executed program, and has none of its own, executes a third. It cannot go
 * on there: it ends, and nothing is written to it raw, which the runner sees by what is counted and on the wire.
 */
/* run: modes shell static */
#include "app.h"
#include "app_proc.h"

static void
go_on(int sock, int is_static)
{
    char image[PATH_MAX];
    int fd = app_take_fd(sock), null = (int)CK(open("/dev/null", O_WRONLY));
    CK(dup2(fd, 1));
    CK(dup2(null, 2));
    CK(close(fd));
    app_image(image, "static_image");
    if (is_static)
        CK(execl(image, image, "say", "PLAINMARKER", NULL));
    CK(execl("/bin/sh", "sh", "-c", "echo PLAINMARKER", NULL));
}

static void
server(int lfd)
{
    char b[64];
    int fd = (int)CK(accept(lfd, NULL, NULL));
    (void)recv(fd, b, sizeof b, MSG_WAITALL); /* bare it has what the image says */
    CK(close(fd));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    int p[2];
    if (argc > 2) {
        go_on(atoi(argv[2]), strcmp(argv[1], "static") == 0);
        return 0;
    }
    app_main(argc, argv);
    CK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", p[0]);
        CK(close(p[1]));
        CK(execl("/proc/self/exe", "other", app_mode, number, NULL));
    }
    CK(close(p[0]));
    int lfd = app_listen();
    app_start_fork(&t, server, lfd);
    int fd = app_connect();
    app_pass_fd(p[1], fd);
    CK(close(fd));
    MUST(waitpid(pid, NULL, 0) == pid);
    app_join(&t, "server");
    return 0;
}
