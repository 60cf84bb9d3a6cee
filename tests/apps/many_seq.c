/* SPDX-License-Identifier: Apache-2.0
 *
 * many_seq: 2000 connections one after the other, a small question and answer on each; nothing
 * is left behind (descriptors are counted).
 */
/* run: modes thread fork */
/* run: timeout 90 */
#include "app.h"
#include <dirent.h>

#define CONNS 2000

static int
open_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    MUST(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void
client(int lfd)
{
    char b[64];
    int right = 0, first = 0;
    (void)lfd;
    for (int i = 0; i < CONNS; i++) {
        int fd = app_connect();
        app_fill(b, 30, (uint64_t)i);
        app_put(fd, b, 30);
        right += app_get(fd, b, sizeof b) == 60 && app_match(b, 30, (uint64_t)i) == 30;
        close(fd);
        if (i == 0)
            first = open_fds();
    }
    say("right %d", right);
    if (strcmp(app_mode, "fork") == 0)
        say(", descriptors left %d", open_fds() - first);
    say("\n");
}

int
main(int argc, char **argv)
{
    struct app_task t;
    char b[64];
    int first = 0;
    app_main(argc, argv);
    int lfd = app_listen();
    app_start(&t, client, lfd);
    for (int i = 0; i < CONNS; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        MUST(app_get(fd, b, 30) == 30);
        memcpy(b + 30, b, 30);
        app_put(fd, b, 60);
        close(fd);
        if (i == 0 && strcmp(app_mode, "fork") == 0)
            first = open_fds();
    }
    if (strcmp(app_mode, "fork") == 0)
        say("server's descriptors left %d\n", open_fds() - first);
    app_join(&t, "client");
    return 0;
}
