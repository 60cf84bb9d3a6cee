/* SPDX-License-Identifier: Apache-2.0
 *
 * banner_unheard: a client is killed as it connects, or shuts the connection down, before it has said who it is; the server
 * speaks first. Nothing of that is for an observer to read: the client may have been of the mesh.
 */
/* run: modes killed shut */
#include "app.h"

#define ROUNDS 20

static void
server(int lfd)
{
    char b[100];
    app_fill(b, sizeof b, 0);
    for (int i = 0; i <= ROUNDS; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        if (i % 2)
            usleep(5000); /* the mesh may have seen its end, or not */
        (void)send(fd, b, sizeof b, MSG_NOSIGNAL);
        (void)recv(fd, b, 1, 0);
        CK(close(fd));
    }
}

static void
begin(void)
{
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) < 0 && errno == EINPROGRESS);
    if (strcmp(app_mode, "killed") == 0)
        CK(kill(getpid(), SIGKILL));
    (void)shutdown(fd, SHUT_RDWR);
    CK(close(fd));
    _exit(0);
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    int lfd = app_listen();
    app_start_fork(&t, server, lfd);
    fflush(stdout);
    for (int i = 0; i < ROUNDS; i++) {
        int st = -1;
        pid_t pid = (pid_t)CK(fork());
        if (pid == 0)
            begin();
        MUST(waitpid(pid, &st, 0) == pid);
        say("%s\n", WIFSIGNALED(st) ? "killed" : WEXITSTATUS(st) == 0 ? "ended" : "failed");
    }
    int fd = app_connect(); /* one that is heard */
    char b[100];
    say("got %zu\n", app_get(fd, b, sizeof b));
    CK(close(fd));
    app_join(&t, "server");
    return 0;
}
