/* SPDX-License-Identifier: Apache-2.0
 *
 * connect_anew: a non-blocking connect succeeds, and its listener goes before it has accepted. A second connect() says so
 * and leaves a socket that can connect again [connect(2)]: to nobody first, then to who listens there again.
 */
/* run: config accept_grace = "20ms"; */
#include "app.h"

static struct sockaddr *const at = (struct sockaddr *)&app_addr;
static int gate[2];

static int
listen_again(void)
{
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0)), on = 1;
    CK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    CK(bind(fd, at, sizeof app_addr));
    CK(listen(fd, 8));
    return fd;
}

static void
server(int lfd)
{
    char b[8];
    app_pass(gate[0]);
    CK(close(lfd));
    app_open(gate[1]);
    app_pass(gate[0]);
    lfd = listen_again();
    app_open(gate[1]);
    int fd = (int)CK(accept(lfd, NULL, NULL));
    say("got %zu\n", app_get(fd, b, 5));
}

int
main(void)
{
    struct app_task t;
    struct sockaddr_in peer;
    char b[8];
    gate[0] = app_gate();
    gate[1] = app_gate();
    int lfd = app_listen();
    app_start_fork(&t, server, lfd);
    CK(close(lfd));
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    RES(connect(fd, at, sizeof app_addr));
    say("poll %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
    app_open(gate[0]);
    app_pass(gate[1]);
    app_hung_up(fd);
    RES(connect(fd, at, sizeof app_addr));
    RES(getpeername(fd, (struct sockaddr *)&peer, &(socklen_t){sizeof peer}));
    RES(read(fd, b, sizeof b));
    say("poll %s\n", app_events(app_poll(fd, POLLIN | POLLOUT | POLLRDHUP, 0)));
    app_open(gate[0]);
    app_pass(gate[1]);
    RES(connect(fd, at, sizeof app_addr));
    say("poll %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
    RES(connect(fd, at, sizeof app_addr));
    RES(write(fd, "again", 5));
    app_join(&t, "server");
    return 0;
}
