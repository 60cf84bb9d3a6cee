/* SPDX-License-Identifier: Apache-2.0
 *
 * shut_plain: a server ends its side (`wr`, `rdwr`), or its reading (`rd`), of a connection whose client is found to be none
 * of the mesh in that very call.
 */
/* run: modes wr rdwr rd */
/* run: nomesh */
#include "app_bare.h"

#include <sys/mman.h>

/* Not a gate: to wait for one would look at the connection. */
static _Atomic int *sent;

static int accepted;

static void
client(int unused)
{
    (void)unused;
    int fd = app_bare_client();
    app_pass(accepted);
    CK(write(fd, "hello", 5));
    *sent = 1;
    say("ends %s\n", app_events(app_poll(fd, POLLRDHUP, strcmp(app_mode, "rd") ? APP_WAIT : APP_QUIET)));
    CK(close(fd));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    char b[10];
    app_main(argc, argv);
    accepted = app_gate();
    sent = mmap(NULL, sizeof *sent, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(sent != MAP_FAILED);
    int lfd = app_listen();
    app_start_fork(&t, client, -1);
    int fd = (int)CK(accept(lfd, NULL, NULL));
    app_open(accepted);
    while (!*sent)
        ;
    int how = strcmp(app_mode, "wr") == 0 ? SHUT_WR : strcmp(app_mode, "rd") == 0 ? SHUT_RD : SHUT_RDWR;
    RES(shutdown(fd, how));
    RES(recv(fd, b, sizeof b, MSG_DONTWAIT));
    if (how != SHUT_WR)
        RES(recv(fd, b, sizeof b, MSG_DONTWAIT));
    app_join(&t, "client");
    CK(close(fd));
    return 0;
}
