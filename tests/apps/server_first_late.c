/* SPDX-License-Identifier: Apache-2.0
 *
 * server_first_late: a client in a process of its own begins a connection without blocking and then
 * only computes, for longer than any server waits to hear from it. The server greets meanwhile.
 * When the client comes back, the greeting is there.
 */
/* run: modes fork */
#include "app.h"

#include <sys/mman.h>

#define GREET 300

static _Atomic int *greeted; /* shared by both processes */

static void
greet(int fd)
{
    char b[GREET];
    app_fill(b, sizeof b, 0);
    RES(write(fd, b, sizeof b));
    /* The client says nothing for now: that is the subject. */
    say("heard %s\n", app_events(app_poll(fd, POLLIN, 1000)));
    *greeted = 1;
    RES(read(fd, b, sizeof b));
    say("match %zu\n", app_match(b, 7, 900));
}

static void
compute(int unused)
{
    char b[GREET];
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    (void)unused;
    MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) == 0 || errno == EINPROGRESS);
    while (!*greeted)
        ;
    say("then %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
    say("SO_ERROR %d\n", app_so_error(fd));
    app_fill(b, 7, 900);
    RES(write(fd, b, 7));
    app_nonblock(fd, 0);
    say("got %zu\n", app_get(fd, b, sizeof b));
    say("match %zu\n", app_match(b, sizeof b, 0));
    RES(read(fd, b, 1));
    close(fd);
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    greeted = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(greeted != MAP_FAILED);
    int lfd = app_listen();
    app_start(&t, compute, -1);
    int fd = (int)CK(accept(lfd, NULL, NULL));
    greet(fd);
    close(fd);
    app_join(&t, "client");
    close(lfd);
    return 0;
}
