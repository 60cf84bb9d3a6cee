/* SPDX-License-Identifier: Apache-2.0
 *
 * accept_closed: the listener is closed while a thread sleeps in accept() on it, as servers do from a
 * signal handler when they stop. The kernel lets that accept have one more client, and it is served as
 * any other.
 */
#include "app.h"
#include "asleep.h"

static int lfd;
static _Atomic pid_t tid;

static void *
server(void *unused)
{
    char b[300];
    tid = (pid_t)syscall(SYS_gettid);
    int fd = (int)CK(accept(lfd, NULL, NULL));
    size_t n = app_get(fd, b, 200);
    say("server got %zu\n", n);
    app_put(fd, b, n);
    say("server end %zd\n", read(fd, b, 1));
    close(fd);
    return unused;
}

int
main(void)
{
    char b[300];
    pthread_t t;
    for (int i = 0; i < 3; i++) {
        lfd = app_listen();
        MUST(pthread_create(&t, NULL, server, NULL) == 0);
        while (!tid)
            ;
        app_asleep(tid);
        tid = 0;
        RES(close(lfd));
        int fd = app_connect();
        app_fill(b, 200, 0);
        app_put(fd, b, 200);
        say("match %zu of %zu\n", app_match(b, app_get(fd, b, 200), 0), (size_t)200);
        close(fd);
        MUST(pthread_join(t, NULL) == 0);
    }
    return 0;
}
