/* SPDX-License-Identifier: Apache-2.0
 *
 * second_names: a client that makes its calls by libc's second names, which old objects are linked
 * against (__read and the like; glibc exports them since 2.2.5).
 */
/* run: modes thread fork */
#include "app.h"

int __connect(int, const struct sockaddr *, socklen_t);
ssize_t __send(int, const void *, size_t, int);
ssize_t __read(int, void *, size_t);
ssize_t __write(int, const void *, size_t);
int __close(int);
int __dup2(int, int);
int __fcntl(int, int, ...);
int __poll(struct pollfd *, nfds_t, int);
int __select(int, fd_set *, fd_set *, fd_set *, struct timeval *);
int __nanosleep(const struct timespec *, struct timespec *);
pid_t __wait(int *);
pid_t __waitpid(pid_t, int *, int);

static void
server(int fd)
{
    char b[5000];
    say("got %zu\n", app_get(fd, b, sizeof b));
    say("match %zu\n", app_match(b, sizeof b, 0));
    app_put(fd, b, sizeof b);
    app_drain(fd, 0);
    close(fd);
}

static void
client(int unused)
{
    char b[5000];
    struct timespec ts = {0, 1};
    fd_set set;
    (void)unused;
    app_fill(b, sizeof b, 0);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    RES(__connect(s, (struct sockaddr *)&app_addr, sizeof app_addr));
    RES(__nanosleep(&ts, NULL));
    RES(__send(s, b, 2000, 0));
    RES(__write(s, b + 2000, 3000));
    int fd = s + 50;
    MUST(__dup2(s, fd) == fd);
    RES(__close(s));
    struct pollfd p = {fd, POLLIN, 0};
    RES(__poll(&p, 1, 10000));
    FD_ZERO(&set);
    FD_SET(fd, &set);
    RES(__select(fd + 1, &set, NULL, NULL, NULL));
    app_arrived(fd, sizeof b);
    RES(__read(fd, b, sizeof b));
    say("match %zu\n", app_match(b, sizeof b, 0));
    int copy = __fcntl(fd, F_DUPFD, 10);
    RES(__close(fd));
    RES(__write(copy, b, 1));
    RES(__close(copy));
    pid_t pid = fork();
    if (pid == 0)
        _exit(3);
    int st = 0;
    MUST(__waitpid(pid, &st, 0) == pid);
    say("status %x\n", (unsigned)st);
    if (strcmp(app_mode, "fork") == 0)
        RES(__wait(&st));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    int lfd = app_listen();
    app_start(&t, client, -1);
    server((int)CK(accept(lfd, NULL, NULL)));
    app_join(&t, "client");
    close(lfd);
    return 0;
}
