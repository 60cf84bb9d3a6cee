/* SPDX-License-Identifier: Apache-2.0
 *
 * fd_pass_syn: a socket is passed on while not even TCP is connected: the listener's queue is full. The
 * receiver waits until it is, and talks; the sender has closed its copy long before, or keeps it.
 */
/* run: modes close keep */
#include "app_proc.h"

#define MOST 16

static int unix_pair[2];

static void
worker(int unused)
{
    (void)unused;
    close(unix_pair[0]);
    int fd = app_take_fd(unix_pair[1]);
    app_put(unix_pair[1], "r", 1);
    say("writable %d\n", app_poll(fd, POLLOUT, APP_WAIT) == POLLOUT);
    say("SO_ERROR %s\n", app_so_error_name(fd));
    app_nonblock(fd, 0);
    say("right %d\n", app_use(fd, 20000, 7));
    CK(shutdown(fd, SHUT_WR));
    close(fd);
}

/* The newest connection is the one that was passed. */
static void
serve(int lfd)
{
    int fd[MOST + 1], n = 0;
    char count = 0;
    close(unix_pair[1]);
    MUST(app_get(unix_pair[0], &count, 1) == 1);
    for (; n < count; n++)
        fd[n] = (int)CK(accept(lfd, NULL, NULL));
    app_echo(fd[n - 1]);
    while (n > 0)
        close(fd[--n]);
}

static int
state(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    CK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
    return info.tcpi_state;
}

int
main(int argc, char **argv)
{
    struct app_task w, s;
    int fd[MOST], n = 0, to_worker, to_server;
    char count, b[1];
    app_main(argc, argv);
    CK(socketpair(AF_UNIX, SOCK_STREAM, 0, unix_pair));
    app_start_fork(&w, worker, -1);
    close(unix_pair[1]);
    to_worker = unix_pair[0];
    int lfd = app_listen_at(INADDR_LOOPBACK, 0, &app_addr);
    CK(socketpair(AF_UNIX, SOCK_STREAM, 0, unix_pair));
    to_server = unix_pair[1];
    app_start_fork(&s, serve, lfd);
    close(lfd);
    do {
        MUST(n < MOST);
        fd[n] = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        MUST(connect(fd[n], (struct sockaddr *)&app_addr, sizeof app_addr) == -1 && errno == EINPROGRESS);
    } while (state(fd[n++]) != TCP_SYN_SENT);
    app_pass_fd(to_worker, fd[n - 1]);
    if (strcmp(app_mode, "close") == 0)
        CK(close(fd[n - 1]));
    MUST(app_get(to_worker, b, 1) == 1);
    count = (char)n;
    app_put(to_server, &count, 1);
    app_join(&w, "worker");
    while (n > 0)
        close(fd[--n]);
    app_join(&s, "server");
    return 0;
}
