/* SPDX-License-Identifier: Apache-2.0
 *
 * pidfd_take: a process takes a connection and a listener out of another one [pidfd_getfd(2)], which
 * knows nothing of it: unread bytes included, while the owner goes on with the same connection, and
 * after it has closed its own descriptor.
 * cousin: both had no connection yet when they parted. child: they share what they had before.
 * number: the same by syscall().
 */
/* run: modes cousin child number */
#include "app.h"

#include <sys/pidfd.h>
#include <sys/prctl.h>

static int link_[2];

static int
take(pid_t pid, int target)
{
    int p = (int)CK(pidfd_open(pid, 0)), fd;
    if (strcmp(app_mode, "number") == 0)
        fd = (int)CK(syscall(SYS_pidfd_getfd, p, target, 0));
    else
        fd = (int)CK(pidfd_getfd(p, target, 0));
    RES(fcntl(fd, F_GETFD));
    RES(pidfd_getfd(p, 9999, 0));
    close(p);
    return fd;
}

struct what {
    pid_t pid;
    int fd, lfd;
};

static void
taker(int unused)
{
    static char b[40000];
    struct what w;
    (void)unused;
    close(link_[0]);
    MUST(app_get(link_[1], &w, sizeof w) == sizeof w);
    int fd = take(w.pid, w.fd), lfd = take(w.pid, w.lfd);
    RES(recv(fd, b, 1000, MSG_WAITALL));
    say("match %zu\n", app_match(b, 1000, 500));
    app_fill(b, sizeof b, 0);
    RES(write(fd, b, sizeof b));
    app_put(link_[1], "d", 1);
    RES(recv(fd, b, 300, MSG_WAITALL));
    say("match %zu\n", app_match(b, 300, 77));
    RES(read(fd, b, 1));
    RES(close(fd));
    fd = (int)CK(accept(lfd, NULL, NULL));
    RES(recv(fd, b, 100, MSG_WAITALL));
    RES(write(fd, b, 100));
    RES(close(fd));
}

int
main(int argc, char **argv)
{
    static char b[40000];
    struct app_task t;
    int c = 0, s = 0, warm[2] = {-1, -1};
    app_main(argc, argv);
    CK(socketpair(AF_UNIX, SOCK_STREAM, 0, link_));
    if (strcmp(app_mode, "cousin") != 0)
        app_pair(&warm[0], &warm[1]);
    app_start_fork(&t, taker, -1);
    close(link_[1]);
    (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); /* as Yama wants it */
    app_pair(&c, &s);
    int lfd = app_listen();
    app_fill(b, 1500, 0);
    RES(write(c, b, 1500));
    RES(recv(s, b, 500, MSG_WAITALL));
    struct what w = {getpid(), s, lfd};
    app_put(link_[0], &w, sizeof w);
    say("got %zu\n", app_get(c, b, sizeof b));
    say("match %zu\n", app_match(b, sizeof b, 0));
    MUST(app_get(link_[0], b, 1) == 1);
    RES(write(s, "and I", 5));
    RES(recv(c, b, 5, MSG_WAITALL));
    RES(close(s));
    app_fill(b, 300, 77);
    RES(write(c, b, 300));
    RES(shutdown(c, SHUT_WR));
    RES(read(c, b, 1));
    RES(close(c));
    c = app_connect();
    app_fill(b, 100, 9);
    RES(write(c, b, 100));
    say("got %zu\n", app_get(c, b, sizeof b));
    RES(close(c));
    close(warm[0]);
    close(warm[1]);
    app_join(&t, "taker");
    return 0;
}
