/* SPDX-License-Identifier: Apache-2.0
 *
 * fd_pass: connections and a listener travel to another process by SCM_RIGHTS; the receiver goes
 * on with the connection, unread bytes included, after the sender closed its copy.
 */
#include "app_proc.h"

static int unix_pair[2];

static void
worker(int unused)
{
    static char b[40000];
    (void)unused;
    close(unix_pair[0]);
    int fd = app_take_fd(unix_pair[1]);
    RES(recv(fd, b, 1000, MSG_WAITALL));
    say("match %zu\n", app_match(b, 1000, 500));
    app_fill(b, sizeof b, 0);
    RES(write(fd, b, sizeof b));
    RES(read(fd, b, 10));
    close(fd);
    int lfd = app_take_fd(unix_pair[1]);
    app_put(unix_pair[1], "r", 1);
    fd = (int)CK(accept(lfd, NULL, NULL));
    close(lfd);
    RES(recv(fd, b, 100, MSG_WAITALL));
    say("match %zu\n", app_match(b, 100, 9));
    RES(write(fd, b, 100));
    app_pass_fd(unix_pair[1], fd);
    RES(close(fd));
}

int
main(void)
{
    static char b[40000];
    struct app_task t;
    CK(socketpair(AF_UNIX, SOCK_STREAM, 0, unix_pair));
    app_start_fork(&t, worker, -1);
    close(unix_pair[1]);
    int c = 0, s = 0;
    app_pair(&c, &s);
    app_fill(b, 1500, 0);
    RES(write(c, b, 1500));
    RES(recv(s, b, 500, MSG_WAITALL));
    app_pass_fd(unix_pair[0], s);
    RES(close(s));
    say("got %zu\n", app_get(c, b, sizeof b));
    say("match %zu\n", app_match(b, sizeof b, 0));
    RES(close(c));
    int lfd = app_listen();
    app_pass_fd(unix_pair[0], lfd);
    RES(close(lfd));
    MUST(app_get(unix_pair[0], b, 1) == 1);
    c = app_connect();
    app_fill(b, 100, 9);
    RES(write(c, b, 100));
    say("got %zu\n", app_get(c, b, 100));
    s = app_take_fd(unix_pair[0]);
    app_join(&t, "worker");
    RES(write(s, b, 100));
    say("got %zu\n", app_get(c, b, 100));
    RES(write(c, b, 50));
    say("got %zu\n", app_get(s, b, 50));
    RES(close(s));
    RES(read(c, b, 1));
    return 0;
}
