/* SPDX-License-Identifier: Apache-2.0
 *
 * backlog_gone: the server closes its listener as soon as a client is in its backlog, and never
 * accepts it (a passive FTP server that has nothing to send). That client's connect has succeeded;
 * what became of it the next call says.
 */
/* run: nomesh */
#include "app.h"

#define TIMES 5
static int ready;

static void
client(int lfd)
{
    char b[1];
    struct sockaddr_in at = app_addr;
    CK(close(lfd));
    for (int i = 0; i < TIMES; i++) {
        app_pass(ready);
        int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
        RES(connect(fd, (struct sockaddr *)&at, sizeof at));
        RES(read(fd, b, 1));
        RES(read(fd, b, 1));
        RES(close(fd));
    }
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    ready = app_gate();
    int lfd = app_listen(), one = 1;
    app_start_fork(&t, client, lfd);
    for (int i = 0; i < TIMES; i++) {
        if (i > 0) {
            lfd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
            CK(setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
            CK(bind(lfd, (struct sockaddr *)&app_addr, sizeof app_addr));
            CK(listen(lfd, 8));
        }
        app_open(ready);
        CK(app_poll(lfd, POLLIN, APP_WAIT));
        CK(close(lfd));
    }
    app_join(&t, "client");
    return 0;
}
