/* SPDX-License-Identifier: Apache-2.0
 *
 * exec_accepted: a superserver whose listener does not block, so that accept comes back before the client has said a
 * word: the connection becomes the standard input and output of an image, and the superserver lets go of it at once.
 * What is still to be done for the connection then is the image's, or was done before.
 */
/* run: modes fork vfork */
#include "app_proc.h"

#define TIMES 8

static int
image(void)
{
    char b[5];
    MUST(app_get(0, b, 5) == 5);
    app_put(1, b, 5);
    return 0;
}

static void
ask(int lfd)
{
    char b[5];
    (void)lfd;
    for (int i = 0; i < TIMES; i++) {
        int fd = app_connect();
        app_put(fd, "hello", 5);
        size_t n = app_get(fd, b, 5);
        say("answer of %zu, end %zu\n", n, app_get(fd, b, 1));
        close(fd);
    }
}

int
main(int argc, char **argv)
{
    char self[PATH_MAX], *args[] = {self, (char *)"image", NULL};
    struct app_task t;
    if (argc > 1 && strcmp(argv[1], "image") == 0)
        return image();
    app_main(argc, argv);
    app_image(self, "exec_accepted");
    int lfd = app_listen();
    CK(fcntl(lfd, F_SETFL, O_NONBLOCK));
    app_start_fork(&t, ask, lfd);
    for (int i = 0; i < TIMES; i++) {
        int fd;
        do {
            MUST(app_poll(lfd, POLLIN, APP_WAIT) == POLLIN);
        } while ((fd = accept(lfd, NULL, NULL)) < 0);
        CK(fcntl(fd, F_SETFL, 0));
        pid_t pid = app_exec(self, args, fd, 1);
        close(fd);
        app_ended("image", pid);
    }
    app_join(&t, "client");
    return 0;
}
