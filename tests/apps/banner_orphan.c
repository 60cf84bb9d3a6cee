/* SPDX-License-Identifier: Apache-2.0
 *
 * banner_orphan: of two processes that have a socket one begins to connect it and is killed; the other ends it for writing
 * (`wr`, after a look with recv: `recv_wr`) or altogether (`rdwr`), and still holds it. The server speaks first. Bare, it is
 * heard; in the mesh it is not, and in no case by who looks on.
 */
/* run: modes wr recv_wr rdwr poll_wr */
/* run: kills */
#include "app.h"

#define ROUNDS 10

static void
server(int lfd)
{
    char b[256];
    app_fill(b, sizeof b, 0);
    for (int i = 0; i <= ROUNDS; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        if (i < ROUNDS)
            (void)recv(fd, b, 1, 0);
        app_fill(b, sizeof b, 0);
        (void)send(fd, b, sizeof b, MSG_NOSIGNAL);
        (void)recv(fd, b, 1, 0);
        CK(close(fd));
    }
}

int
main(int argc, char **argv)
{
    struct app_task t;
    char b[256];
    app_main(argc, argv);
    int lfd = app_listen();
    app_start_fork(&t, server, lfd);
    for (int i = 0; i < ROUNDS; i++) {
        int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        fflush(stdout);
        pid_t pid = (pid_t)CK(fork());
        if (pid == 0) {
            (void)connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr);
            kill(getpid(), SIGKILL);
        }
        MUST(waitpid(pid, NULL, 0) == pid);
        if (strcmp(app_mode, "recv_wr") == 0)
            (void)recv(fd, b, sizeof b, 0);
        if (strcmp(app_mode, "poll_wr") == 0)
            (void)app_poll(fd, POLLOUT, 100);
        (void)shutdown(fd, strcmp(app_mode, "rdwr") == 0 ? SHUT_RDWR : SHUT_WR);
        (void)app_poll(fd, POLLIN, 300);
        (void)recv(fd, b, sizeof b, 0);
        CK(close(fd));
    }
    int fd = app_connect();
    CK(shutdown(fd, SHUT_WR));
    say("got %zu\n", app_get(fd, b, sizeof b));
    CK(close(fd));
    app_join(&t, "server");
    return 0;
}
