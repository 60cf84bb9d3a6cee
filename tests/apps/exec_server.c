/* SPDX-License-Identifier: Apache-2.0
 *
 * exec_server: a program connects to its own listener, and only then executes who accepts there. The connection is
 * inherited, too (nobody asked for close-on-exec), and exec must not wait for its handshake: it could not end.
 * A look of ten seconds is far less than a handshake may take here, and far more than an exec.
 */
/* run: modes fork vfork spawn */
/* run: config handshake_timeout = "60s"; */
#include "app_proc.h"
#include <spawn.h>

extern char **environ;

static int
image(int listener, int news)
{
    char b[5];
    MUST(write(news, "", 1) == 1);
    int fd = (int)CK(accept(listener, NULL, NULL));
    MUST(app_get(fd, b, sizeof b) == sizeof b && memcmp(b, "hello", 5) == 0);
    app_put(fd, "ok", 2);
    close(fd);
    return 0;
}

int
main(int argc, char **argv)
{
    char self[PATH_MAX], listener[12], news[12], *args[] = {self, listener, news, NULL}, b[3];
    int p[2];
    pid_t pid = 0;
    if (argc > 2)
        return image(atoi(argv[1]), atoi(argv[2]));
    app_main(argc, argv);
    app_image(self, "exec_server");
    int lfd = app_listen();
    CK(pipe(p));
    snprintf(listener, sizeof listener, "%d", lfd);
    snprintf(news, sizeof news, "%d", p[1]);
    int fd = app_connect();
    app_put(fd, "hello", 5);
    alarm(20); /* posix_spawn, or vfork, is what may not come back */
    if (strcmp(app_mode, "spawn") == 0)
        MUST(posix_spawn(&pid, self, NULL, NULL, args, environ) == 0);
    else
        pid = app_exec(self, args, -1, 0);
    say("it %s\n", app_poll(p[0], POLLIN, 10000) == POLLIN ? "runs" : "does not run");
    alarm(0);
    MUST(app_get(fd, b, 2) == 2);
    say("%.2s, end %zu\n", b, app_get(fd, b, 1));
    app_ended("server", pid);
    return 0;
}
