/* SPDX-License-Identifier: Apache-2.0
 *
 * exec_plain: a server executes another image for a client that libmesh is not in, as inetd does, before the client has
 * said anything, or after a part of a ClientHello. The image speaks first, and reads what was there.
 */
/* run: modes silent half vfork_silent vfork_half */
/* run: nomesh */
#include "app_bare.h"

static int go;

static void
client(int unused)
{
    static const unsigned char half[] = {22, 3, 1, 1, 0, 1, 0};
    char b[100];
    (void)unused;
    int fd = app_bare_client();
    if (strstr(app_mode, "half"))
        app_put(fd, half, sizeof half);
    app_open(go);
    say("banner %zu\n", app_get(fd, b, 5));
    app_put(fd, "more", 4);
    CK(shutdown(fd, SHUT_WR));
    say("end %zu\n", app_get(fd, b, sizeof b));
    close(fd);
}

static int
image(int fd)
{
    char b[100];
    RES(write(fd, "hello", 5));
    say("got %zu\n", app_get(fd, b, sizeof b));
    return 0;
}

int
main(int argc, char **argv)
{
    struct app_task t;
    char number[20];
    int st = 0;
    app_main(argc, argv);
    if (argc > 2)
        return image(atoi(argv[2]));
    go = app_gate();
    int lfd = app_listen();
    app_start_fork(&t, client, -1);
    int fd = (int)CK(accept(lfd, NULL, NULL));
    app_pass(go);
    snprintf(number, sizeof number, "%d", fd);
    fflush(stdout);
    pid_t pid = strncmp(app_mode, "vfork", 5) == 0 ? vfork() : fork();
    if (pid == 0) {
        execl("/proc/self/exe", argv[0], app_mode, number, NULL);
        _exit(9);
    }
    close(fd);
    CK(waitpid(pid, &st, 0));
    say("status %x\n", (unsigned)st);
    app_join(&t, "client");
    return 0;
}
