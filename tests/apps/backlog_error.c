/* SPDX-License-Identifier: Apache-2.0
 *
 * backlog_error: clients are told that they are connected, then the listener is closed that never
 * accepted them. The reset is a pending error [tcp_reset, SO_ERROR in socket(7)]: whichever call comes
 * first has it, and only that one.
 */
/* run: nomesh */
#include "app.h"

enum { ASK, READ, SEND, CONNECT, KINDS };

static int told, gone;

static int
connect_told(const struct sockaddr_in *at, int nonblock)
{
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | (nonblock ? SOCK_NONBLOCK : 0), 0));
    int r = connect(fd, (const struct sockaddr *)at, sizeof *at);
    if (nonblock) {
        MUST(r < 0 && errno == EINPROGRESS);
        say("poll %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
    } else {
        CK(r);
    }
    return fd;
}

static void
ask(int fd, const struct sockaddr_in *at, int first)
{
    char b[1] = "";
    for (int i = 0; i < KINDS; i++) {
        switch ((first + i) % KINDS) {
        case ASK:
            say("SO_ERROR %s\n", app_so_error_name(fd));
            break;
        case READ:
            RES(recv(fd, b, 1, 0));
            break;
        case SEND:
            RES(send(fd, b, 1, MSG_NOSIGNAL));
            break;
        case CONNECT:
            RES(connect(fd, (const struct sockaddr *)at, sizeof *at));
            i = KINDS; /* the kernel begins anew after the error: not this test's */
            break;
        }
    }
}

static void
client(int lfd)
{
    struct sockaddr_in at = app_addr;
    int fd[2 * KINDS];
    CK(close(lfd));
    for (int i = 0; i < 2 * KINDS; i++)
        fd[i] = connect_told(&at, i < KINDS);
    app_open(told);
    app_pass(gone);
    for (int i = 0; i < 2 * KINDS; i++) {
        say("%s, first %d\n", i < KINDS ? "non-blocking" : "blocking", i % KINDS);
        ask(fd[i], &at, i % KINDS);
        CK(close(fd[i]));
    }
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    told = app_gate();
    gone = app_gate();
    int lfd = app_listen();
    app_start_fork(&t, client, lfd);
    app_pass(told);
    CK(close(lfd));
    app_open(gone);
    app_join(&t, "client");
    return 0;
}
