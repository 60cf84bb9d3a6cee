/* SPDX-License-Identifier: Apache-2.0
 *
 * fork_exec: a connection outlives exec: inetd hands it to a program as its standard input and
 * output; a program executes itself with the descriptor's number; also by posix_spawn and vfork.
 */
/* run: modes fork vfork spawn */
#include "app_proc.h"
#include <spawn.h>

extern char **environ;

/* What the executed image does: echoes until the end, from fd in to fd out. */
static int
image(int in, int out)
{
    static char b[20000];
    ssize_t r = 0;
    while ((r = read(in, b, sizeof b)) > 0)
        app_put(out, b, (size_t)r);
    return r == 0 ? 0 : 1;
}

static char self[PATH_MAX];

static pid_t
spawn(char **args, int fd, int stdio)
{
    pid_t pid = 0;
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    if (stdio) {
        posix_spawn_file_actions_adddup2(&fa, fd, 0);
        posix_spawn_file_actions_adddup2(&fa, fd, 1);
        posix_spawn_file_actions_addclose(&fa, fd);
    }
    MUST(posix_spawn(&pid, self, &fa, NULL, args, environ) == 0);
    posix_spawn_file_actions_destroy(&fa);
    return pid;
}

static pid_t
start(int fd, int stdio)
{
    char number[12] = "0", *args[] = {self, number, NULL};
    if (!stdio)
        snprintf(number, sizeof number, "%d", fd);
    return strcmp(app_mode, "spawn") == 0 ? spawn(args, fd, stdio) : app_exec(self, args, fd, stdio);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    if (argc > 1 && app_mode[0] >= '0' && app_mode[0] <= '9')
        return image(atoi(app_mode), app_mode[0] == '0' ? 1 : atoi(app_mode));
    app_image(self, "fork_exec");
    app_serve_by_images(start);
    return 0;
}
