/* SPDX-License-Identifier: Apache-2.0
 *
 * backlog_many: 20 peers (threads or processes) all connect first; then they are accepted, and
 * each talks. No peer may wait for another one's accept.
 */
/* run: modes thread fork */
#include "app.h"

#define PEERS 20
static int connected, go;

static void
peer(int number)
{
    char b[2000];
    int fd = app_connect();
    app_open(connected);
    app_pass(go);
    app_fill(b, sizeof b, 0);
    b[0] = (char)number;
    app_put(fd, b, sizeof b);
    MUST(app_get(fd, b, sizeof b) == sizeof b);
    say("back: %d, match %zu\n", b[0], 1 + app_match(b + 1, sizeof b - 1, 1));
    close(fd);
}

int
main(int argc, char **argv)
{
    struct app_task t[PEERS];
    int fd[PEERS], seen[PEERS] = {0};
    char b[2000], who[20];
    app_main(argc, argv);
    connected = app_gate();
    go = app_gate();
    int lfd = app_listen();
    for (int i = 0; i < PEERS; i++)
        app_start(&t[i], peer, i);
    for (int i = 0; i < PEERS; i++)
        app_pass(connected);
    say("all connected\n");
    for (int i = 0; i < PEERS; i++)
        fd[i] = (int)CK(accept(lfd, NULL, NULL));
    app_nonblock(lfd, 1);
    RES(accept(lfd, NULL, NULL));
    for (int i = 0; i < PEERS; i++)
        app_open(go);
    for (int i = 0; i < PEERS; i++) {
        MUST(app_get(fd[i], b, sizeof b) == sizeof b);
        seen[(int)b[0]]++;
        app_put(fd[i], b, sizeof b);
        MUST(read(fd[i], b, 1) == 0);
        close(fd[i]);
    }
    for (int i = 0; i < PEERS; i++) {
        snprintf(who, sizeof who, "peer %d (%d)", i, seen[i]);
        app_join(&t[i], who);
    }
    return 0;
}
