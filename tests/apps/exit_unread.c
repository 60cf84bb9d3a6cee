/* SPDX-License-Identifier: Apache-2.0
 *
 * exit_unread: a server process answers and ends without close, and without having read its client's
 * end, which is there already. The client gets the whole answer and a proper end, as it does when
 * the end is no byte that could be unread.
 */
/* run: modes exit _exit quick stdio */
#include "app.h"

static int client_is_done[2];

static void
server(int lfd)
{
    char b[3], go;
    int fd = (int)CK(accept(lfd, NULL, NULL));
    MUST(app_get(fd, b, sizeof b) == sizeof b);
    MUST(read(client_is_done[0], &go, 1) == 1);
    for (int i = 0; i < 20; i++)
        app_put(fd, "an answer in pieces\n", 20);
    if (strcmp(app_mode, "_exit") == 0)
        _exit(0);
    if (strcmp(app_mode, "quick") == 0)
        quick_exit(0);
    if (strcmp(app_mode, "stdio") == 0)
        fprintf(fdopen(fd, "w"), "and one from a stream\n");
    exit(0);
}

int
main(int argc, char **argv)
{
    char b[1000];
    app_main(argc, argv);
    CK(pipe(client_is_done));
    int lfd = app_listen();
    for (int i = 0; i < 5; i++) {
        pid_t pid = (pid_t)CK(fork());
        if (pid == 0)
            server(lfd);
        int fd = app_connect();
        app_put(fd, "req", 3);
        RES(shutdown(fd, SHUT_WR));
        MUST(write(client_is_done[1], "g", 1) == 1);
        CK(waitpid(pid, NULL, 0));
        say("got %zu\n", app_get(fd, b, sizeof b));
        RES(read(fd, b, 1));
        close(fd);
    }
    return 0;
}
