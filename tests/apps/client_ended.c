/* SPDX-License-Identifier: Apache-2.0
 *
 * client_ended: a client that libmesh is not in sends its end and nothing else, and reads what the server says: to a server
 * that reads first (`read`), writes first (`write`), has written already (`wrote`), or waits with poll (`poll`). `gone`: it
 * has closed altogether; a first write succeeds all the same, and provokes a reset [tcp(7)]. `reset`: it has reset.
 */
/* run: modes read write wrote poll gone reset */
/* run: nomesh */
#include "app_bare.h"

static int ended, wrote;

static int
is(const char *mode)
{
    return strcmp(app_mode, mode) == 0;
}

static void
client(int unused)
{
    char b[100];
    (void)unused;
    int fd = app_bare_client();
    if (is("wrote"))
        app_pass(wrote);
    if (is("reset"))
        CK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)));
    if (is("gone") || is("reset"))
        CK(close(fd));
    else
        CK(shutdown(fd, SHUT_WR));
    app_open(ended);
    if (!is("gone") && !is("reset")) {
        say("got %zu\n", app_get(fd, b, sizeof b));
        CK(close(fd));
    }
}

static void
serve(int fd)
{
    char b[10];
    if (is("wrote")) {
        RES(write(fd, "hello", 5));
        app_open(wrote);
    }
    app_pass(ended);
    if (is("poll"))
        say("poll %s\n", app_events(app_poll(fd, POLLIN | POLLRDHUP, APP_WAIT)));
    if (is("poll") || is("read") || is("reset"))
        RES(read(fd, b, sizeof b));
    RES(send(fd, "world", 5, MSG_NOSIGNAL));
    if (is("gone")) {
        app_hung_up(fd);
        RES(send(fd, "again", 5, MSG_NOSIGNAL));
    }
    RES(read(fd, b, sizeof b));
    CK(close(fd));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    ended = app_gate();
    wrote = app_gate();
    int lfd = app_listen();
    app_start_fork(&t, client, -1);
    serve((int)CK(accept(lfd, NULL, NULL)));
    app_join(&t, "client");
    return 0;
}
