/* SPDX-License-Identifier: Apache-2.0
 *
 * spawn_other: file actions gave a connection to one program, and are gone. A static program that is spawned later with
 * other file actions has nothing to do with it, whether they lie at the same address or not.
 */
#include "app_proc.h"
#include <spawn.h>

extern char **environ;

static void
spawn_one(char *path, const posix_spawn_file_actions_t *fa, char *arg, char *text)
{
    pid_t pid = 0;
    char *args[] = {path, arg, text, NULL};
    RES(posix_spawn(&pid, path, fa, NULL, args, environ));
    if (pid > 0)
        app_ended("image", pid);
}

static void
client(int lfd)
{
    char b[16];
    (void)lfd;
    int fd = app_connect();
    say("got %zu\n", app_get(fd, b, 3));
    say("then %zd\n", read(fd, b, sizeof b));
}

int
main(void)
{
    struct app_task t;
    posix_spawn_file_actions_t fa, other;
    char image[PATH_MAX], echo[] = "/bin/echo", say_arg[] = "say", one[] = "hi", none[] = "";
    app_image(image, "static_image");
    int lfd = app_listen();
    app_start_fork(&t, client, lfd);
    int fd = (int)CK(accept4(lfd, NULL, NULL, SOCK_CLOEXEC));
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, fd, 1);
    spawn_one(echo, &fa, one, NULL);
    posix_spawn_file_actions_init(&other);
    posix_spawn_file_actions_addopen(&other, 1, "/dev/null", O_WRONLY, 0);
    spawn_one(image, &other, say_arg, none);
    posix_spawn_file_actions_destroy(&other);
    posix_spawn_file_actions_destroy(&fa);
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
    spawn_one(image, &fa, say_arg, none);
    posix_spawn_file_actions_destroy(&fa);
    CK(close(fd));
    app_join(&t, "client");
    return 0;
}
