/* SPDX-License-Identifier: Apache-2.0
 *
 * exit_heir: a shell's way to serve: the process that was executed with the connection lets a child
 * write a lot to it and ends after the child, without having touched the connection itself. The
 * client has sent its end long before; it gets every byte.
 */
#include "app.h"

#define MUCH 3000000

static int
image(void)
{
    static char b[MUCH];
    pid_t pid = fork();
    if (pid == 0) {
        memset(b, 'x', sizeof b);
        app_put(1, b, sizeof b);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    _exit(0);
}

static void
server(int lfd, const char *self)
{
    char *args[] = {(char *)(uintptr_t)self, (char *)(uintptr_t)"image", NULL};
    for (int i = 0; i < 3; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        if (fork() == 0) {
            dup2(fd, 0);
            dup2(fd, 1);
            close(fd);
            execv(self, args);
            _exit(9);
        }
        close(fd);
    }
    while (wait(NULL) > 0)
        ;
    exit(0);
}

int
main(int argc, char **argv)
{
    static char b[MUCH + 1];
    app_main(argc, argv);
    if (argc > 1)
        return image();
    int lfd = app_listen();
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0)
        server(lfd, argv[0]);
    for (int i = 0; i < 3; i++) {
        int fd = app_connect();
        RES(shutdown(fd, SHUT_WR));
        MUST(app_arrived(fd, 40000) >= 40000); /* the child writes, and is not soon done */
        say("got %zu\n", app_get(fd, b, sizeof b));
        close(fd);
    }
    CK(waitpid(pid, NULL, 0));
    return 0;
}
