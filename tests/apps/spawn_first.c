/* SPDX-License-Identifier: Apache-2.0
 *
 * spawn_first: the first connection that a process ever has, close-on-exec, becomes the standard input and output of what
 * it starts by posix_spawn; the client is a process that was there before anything was listened to.
 */
#include "app_proc.h"
#include <spawn.h>

extern char **environ;

static int
image(void)
{
    static char b[20000];
    ssize_t r = 0;
    while ((r = read(0, b, sizeof b)) > 0)
        app_put(1, b, (size_t)r);
    return r == 0 ? 0 : 1;
}

static void
client(int from)
{
    MUST(app_get(from, &app_addr, sizeof app_addr) == sizeof app_addr);
    app_ask_image();
}

int
main(int argc, char **argv)
{
    struct app_task t;
    posix_spawn_file_actions_t fa;
    char self[PATH_MAX], image_arg[] = "image", *args[] = {self, image_arg, NULL};
    pid_t pid = 0;
    int to[2];
    app_main(argc, argv);
    if (strcmp(app_mode, "image") == 0)
        return image();
    app_image(self, "spawn_first");
    CK(pipe2(to, O_CLOEXEC));
    app_start_fork(&t, client, to[0]);
    int lfd = app_listen();
    app_put(to[1], &app_addr, sizeof app_addr);
    int fd = (int)CK(accept4(lfd, NULL, NULL, SOCK_CLOEXEC));
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, fd, 0);
    posix_spawn_file_actions_adddup2(&fa, fd, 1);
    MUST(posix_spawn(&pid, self, &fa, NULL, args, environ) == 0);
    posix_spawn_file_actions_destroy(&fa);
    CK(close(fd));
    app_ended("image", pid);
    app_join(&t, "client");
    return 0;
}
