/* SPDX-License-Identifier: Apache-2.0
 *
 * pass_back: clients that are executed by themselves pass their connections to a keeper and get them back, as mail servers
 * and their caches of connections do. The keeper has none of its own; more clients come than it knows trees at a time.
 */
/* run: timeout 60 */
#include "app.h"
#include "app_proc.h"

#define CLIENTS 12
#define ROUNDS  4

static void
give(int sock, int fd)
{
    app_pass_fd(sock, fd);
    CK(close(fd));
}

static void
keep(int sock)
{
    for (int i = 0; i < CLIENTS * ROUNDS; i++)
        give(sock, app_take_fd(sock));
}

static void
client(int sock, in_port_t port)
{
    char b[16];
    app_addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = port};
    int fd = app_connect();
    for (int i = 0; i < ROUNDS; i++) {
        app_put(fd, "PLAINMARKER", 11);
        MUST(app_get(fd, b, 11) == 11);
        say("%.11s\n", b);
        give(sock, fd);
        fd = app_take_fd(sock);
    }
    CK(close(fd));
}

static void
server(int lfd)
{
    char b[16];
    for (int i = 0; i < CLIENTS; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        for (int k = 0; k < ROUNDS && app_get(fd, b, 11) == 11; k++)
            app_put(fd, b, 11);
        say("then %zu\n", app_get(fd, b, 1));
        CK(close(fd));
    }
}

static pid_t
start(const char *what, int sock, int other)
{
    char number[2][16];
    snprintf(number[0], sizeof number[0], "%d", sock);
    snprintf(number[1], sizeof number[1], "%d", app_addr.sin_port);
    fflush(stdout);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        CK(close(other));
        CK(execl("/proc/self/exe", what, what, number[0], number[1], NULL));
    }
    return pid;
}

int
main(int argc, char **argv)
{
    struct app_task t;
    int p[2], st;
    if (argc > 3) {
        if (strcmp(argv[1], "keep") == 0)
            keep(atoi(argv[2]));
        else
            client(atoi(argv[2]), (in_port_t)atoi(argv[3]));
        return 0;
    }
    int lfd = app_listen();
    CK(fcntl(lfd, F_SETFD, FD_CLOEXEC));
    app_start_fork(&t, server, lfd);
    CK(fcntl(t.pipe, F_SETFD, FD_CLOEXEC));
    CK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
    pid_t keeper = start("keep", p[0], p[1]);
    CK(close(p[0]));
    for (int i = 0; i < CLIENTS; i++) {
        CK(waitpid(start("client", p[1], lfd), &st, 0));
        say("client %d: %x\n", i, (unsigned)st);
    }
    CK(close(p[1]));
    CK(waitpid(keeper, &st, 0));
    say("keeper: %x\n", (unsigned)st);
    app_join(&t, "server");
    return 0;
}
