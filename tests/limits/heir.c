/* SPDX-License-Identifier: Apache-2.0
 *
 * heir: several processes have a connection. One reads from it until nothing is there for now, and is gone or goes
 * on with something else; another one, which only waits until it is readable, gets the rest. For tests/limits/run.
 *
 *   heir WHEN HOW ADDRESS PORT BYTES
 *
 * WHEN: the other one is forked after that, and the first ends (`forked`); it was forked before, and the first ends
 * (`ended`) or closes (`closed`). HOW: poll, level.
 */
#include "app.h"

static size_t got, total;
static int epoll_fd = -1, done[2];

static void
pull(int fd)
{
    static char b[1 << 16];
    ssize_t r;
    while ((r = recv(fd, b, sizeof b, 0)) > 0) {
        MUST(app_match(b, (size_t)r, got) == (size_t)r);
        got += (size_t)r;
    }
    MUST(r < 0 && errno == EAGAIN);
}

static void
until_readable(int fd)
{
    struct epoll_event e;
    if (epoll_fd >= 0)
        MUST(epoll_wait(epoll_fd, &e, 1, APP_WAIT) == 1);
    else
        MUST(app_poll(fd, POLLIN, APP_WAIT) & POLLIN);
}

/* The one whose parent read `from` bytes. */
static void
inherit(int fd, int told)
{
    MUST(read(told, &got, sizeof got) == sizeof got);
    printf("%s\n", got > 0 && got < total ? "a part is left" : "NOT A PART");
    while (got < total) {
        until_readable(fd);
        pull(fd);
    }
    printf("all of it\n");
    MUST(write(done[1], "", 1) == 1);
}

static void
first(const char *when, int fd, int said, int told)
{
    pid_t heir = strcmp(when, "forked") == 0 ? -1 : (pid_t)CK(fork());
    if (heir == 0) {
        inherit(fd, told);
        _exit(0);
    }
    until_readable(fd);
    pull(fd);
    if (heir < 0 && (pid_t)CK(fork()) == 0) {
        inherit(fd, told);
        _exit(0);
    }
    if (strcmp(when, "closed") == 0) {
        close(epoll_fd);
        CK(close(fd));
    }
    MUST(write(said, &got, sizeof got) == sizeof got);
    if (strcmp(when, "closed") == 0)
        CK(syscall(SYS_pause));
    _exit(0);
}

int
main(int argc, char **argv)
{
    int said[2];
    char b[1 << 12];
    MUST(argc == 6);
    app_addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[4]))};
    inet_pton(AF_INET, argv[3], &app_addr.sin_addr);
    total = (size_t)atol(argv[5]);
    CK(pipe(done));
    CK(pipe(said));
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        int fd = app_connect();
        for (size_t at = 0; at < total; at += sizeof b) {
            size_t n = total - at < sizeof b ? total - at : sizeof b;
            app_fill(b, n, at);
            app_put(fd, b, n);
        }
        app_nonblock(fd, 1);
        if (strcmp(argv[2], "level") == 0) {
            epoll_fd = (int)CK(epoll_create1(0));
            app_epoll_add(epoll_fd, fd, EPOLLIN);
        }
        first(argv[1], fd, said[1], said[0]);
    }
    MUST(app_poll(done[0], POLLIN, 2 * APP_WAIT) == POLLIN);
    CK(kill(pid, SIGKILL));
    CK(waitpid(pid, NULL, 0));
    return 0;
}
