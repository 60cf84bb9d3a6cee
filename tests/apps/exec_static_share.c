/* SPDX-License-Identifier: Apache-2.0
 *
 * exec_static_share: a shell that keeps a connection has static programs write to it: it is their
 * standard output, and still open under the shell's number. They read nothing of it, so the answers are
 * the shell's, and their end is not the connection's.
 */
/* run: modes fork vfork */
#include "app_proc.h"

#define ROUNDS 4
#define ANSWER 30000

static void
server(int fd)
{
    static char b[ANSWER];
    for (int i = 0; i < 2 * ROUNDS; i++) {
        size_t n = app_get(fd, b, 9);
        say("heard %.*s\n", (int)n, b);
        app_fill(b, sizeof b, (uint64_t)i);
        app_put(fd, b, sizeof b);
    }
    say("then %zu\n", app_get(fd, b, sizeof b));
}

static int
answered(int fd, int i)
{
    static char b[ANSWER];
    return app_get(fd, b, sizeof b) == sizeof b &&
           app_match(b, sizeof b, (uint64_t)i) == sizeof b;
}

static void
client(int fd)
{
    char image[PATH_MAX], text[] = "question", *args[] = {image, "say", text, NULL};
    app_image(image, "static_image");
    for (int i = 0; i < ROUNDS; i++) {
        fflush(stdout);
        pid_t pid = (pid_t)CK(strcmp(app_mode, "vfork") == 0 ? vfork() : fork());
        if (pid == 0) {
            dup2(fd, 1);
            execv(image, args);
            _exit(9);
        }
        app_ended("image", pid);
        say("its answer %d\n", answered(fd, 2 * i));
        app_put(fd, "shell's \n", 9);
        say("mine %d\n", answered(fd, 2 * i + 1));
    }
    RES(shutdown(fd, SHUT_WR));
    RES(read(fd, image, 1));
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_talk("in turn", server, client);
    return 0;
}
