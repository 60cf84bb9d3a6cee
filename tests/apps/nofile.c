/* SPDX-License-Identifier: Apache-2.0
 *
 * nofile: RLIMIT_NOFILE is reached in socket, accept, dup and connect's time; EMFILE is what the
 * program sees, what is open goes on working, and after some closes everything works again. The
 * numbers that socket() returns are the lowest free ones, as many as the limit allows.
 */
#include "app.h"

#define LIMIT 48

static void
use(int c, int s)
{
    char b[5000];
    app_fill(b, sizeof b, 0);
    RES(write(c, b, sizeof b));
    say("got %zu\n", app_get(s, b, sizeof b));
    RES(write(s, b, 100));
    say("got %zu\n", app_get(c, b, 100));
}

int
main(void)
{
    struct rlimit lim = {LIMIT, LIMIT};
    int fd[LIMIT], n = 0, c = 0, s = 0;
    CK(setrlimit(RLIMIT_NOFILE, &lim));
    app_pair(&c, &s);
    int lfd = app_listen();
    int c2 = app_connect(), c3 = -1;
    while ((fd[n] = socket(AF_INET, SOCK_STREAM, 0)) >= 0)
        n++;
    say("sockets %d, last number %d, %s\n", n, fd[n - 1], strerrorname_np(errno));
    RES(accept(lfd, NULL, NULL));
    RES(accept4(lfd, NULL, NULL, SOCK_NONBLOCK));
    RES(dup(c));
    RES(fcntl(c, F_DUPFD, 3));
    RES(dup2(c, LIMIT));
    RES(epoll_create1(0));
    say("listener %s\n", app_events(app_poll(lfd, POLLIN, 0)));
    use(c, s);
    /* A connect needs no descriptor of its own. */
    RES(connect(fd[0], (struct sockaddr *)&app_addr, sizeof app_addr));
    RES(close(fd[--n]));
    int s2 = (int)RES(accept(lfd, NULL, NULL));
    use(c2, s2);
    RES(accept(lfd, NULL, NULL));
    RES(close(fd[--n]));
    c3 = fd[0];
    int s3 = (int)RES(accept(lfd, NULL, NULL));
    use(c3, s3);
    while (n > 1)
        CK(close(fd[--n]));
    int c4 = app_connect(), s4 = (int)RES(accept(lfd, NULL, NULL));
    use(c4, s4);
    use(c, s);
    use(c2, s2);
    return 0;
}
