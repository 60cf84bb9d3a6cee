/* SPDX-License-Identifier: Apache-2.0
 *
 * app_proc: what the programs share whose connections go from process to process: by fork, by exec, over
 * a Unix socket.
 */
#ifndef APP_PROC_H
#define APP_PROC_H

#include "app.h"

#include <net/if.h>

/* In a network namespace of one's own: `lo`, or another address of it by the name `lo:1`. */
APP_FN void
app_loopback_up(const char *name, const char *address)
{
    int fd = (int)CK(socket(AF_INET, SOCK_DGRAM, 0));
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(address)};
    struct ifreq r = {0};
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    memcpy(&r.ifr_addr, &at, sizeof at);
    CK(ioctl(fd, SIOCSIFADDR, &r));
    r.ifr_flags = IFF_UP | IFF_RUNNING;
    CK(ioctl(fd, SIOCSIFFLAGS, &r));
    close(fd);
}

/* Sends n bytes to who echoes them, and says whether the same came back. */
APP_FN int
app_use(int fd, size_t n, uint64_t pos)
{
    static char b[40000];
    app_fill(b, n, pos);
    app_put(fd, b, n);
    return app_get(fd, b, n) == n && app_match(b, n, pos) == n;
}

APP_FN void
app_echo(int fd)
{
    static char b[65536];
    size_t total = 0;
    ssize_t r = 0;
    while ((r = CK(read(fd, b, sizeof b))) > 0) {
        app_put(fd, b, (size_t)r);
        total += (size_t)r;
    }
    say("echoed %zu\n", total);
}

/* Waits for a child and says how it ended. */
APP_FN void
app_ended(const char *who, pid_t pid)
{
    int st = 0;
    CK(waitpid(pid, &st, 0));
    say("%s: exit code %d, signal %d\n", who, WIFEXITED(st) ? WEXITSTATUS(st) : -1,
        WIFSIGNALED(st) ? WTERMSIG(st) : 0);
}

/* One client in a process of its own, and a child that serves it: the parent accepts, forks and lets go. */
APP_FN void
app_serve_by_child(app_side *client, app_side *child)
{
    struct app_task t;
    int lfd = app_listen();
    app_start_fork(&t, client, lfd);
    int fd = (int)CK(accept(lfd, NULL, NULL));
    fflush(stdout);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        close(lfd);
        child(fd);
    }
    RES(close(fd));
    app_join(&t, "client");
    app_ended("child", pid);
}

/* ---- exec ---- */

/* The path of another program of tests/apps. */
APP_FN void
app_image(char path[PATH_MAX], const char *name)
{
    ssize_t n = CK(readlink("/proc/self/exe", path, PATH_MAX - 1));
    path[n] = 0;
    char *at = strrchr(path, '/') + 1;
    snprintf(at, (size_t)(path + PATH_MAX - at), "%s", name);
}

/* Executes it in a child made by fork, or vfork in that mode. stdio: the connection is its standard
 * input and output, and fd is closed there. */
APP_FN pid_t
app_exec(const char *path, char **args, int fd, int stdio)
{
    pid_t pid = (pid_t)CK(strcmp(app_mode, "vfork") == 0 ? vfork() : fork());
    if (pid == 0) {
        if (stdio) {
            dup2(fd, 0);
            dup2(fd, 1);
            close(fd);
        }
        execv(path, args);
        _exit(9);
    }
    return pid;
}

#define APP_IMAGES 4

/* One connection to an image that echoes. */
APP_FN void
app_ask_image(void)
{
    static char b[50000];
    int fd = app_connect(), right = 1;
    for (size_t n = 1; n < sizeof b; n *= 7) {
        app_fill(b, n, n);
        app_put(fd, b, n);
        right &= app_get(fd, b, n) == n && app_match(b, n, n) == n;
    }
    CK(shutdown(fd, SHUT_WR));
    say("%s, end %zd\n", right ? "right" : "WRONG", read(fd, b, 1));
    close(fd);
}

/* The peer of app_serve_by_images. */
APP_FN void
app_ask_images(int lfd)
{
    (void)lfd;
    for (int i = 0; i < APP_IMAGES; i++)
        app_ask_image();
}

/* Each connection is served by an image that start() executes and that echoes: two have it as standard
 * input and output, two by its number, of which one each was already used before. */
APP_FN void
app_serve_by_images(pid_t (*start)(int fd, int stdio))
{
    struct app_task t;
    int lfd = app_listen();
    app_start_thread(&t, app_ask_images, lfd);
    for (int i = 0; i < APP_IMAGES; i++) {
        char b[1];
        int fd = (int)CK(accept(lfd, NULL, NULL));
        if (i & 1)
            MUST(recv(fd, b, 1, MSG_PEEK) == 1);
        pid_t pid = start(fd, i < 2);
        close(fd);
        app_ended("image", pid);
    }
    app_join(&t, "client");
}

/* ---- Unix sockets ---- */

APP_FN void
app_pass_fd(int sock, int fd)
{
    char c = 'f', ctl[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec v = {&c, 1};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
    MUST(sendmsg(sock, &m, 0) == 1);
}

APP_FN int
app_take_fd(int sock)
{
    int fd = -1;
    char c = 0, ctl[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec v = {&c, 1};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl};
    MUST(recvmsg(sock, &m, MSG_CMSG_CLOEXEC) == 1 && c == 'f');
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    MUST(h && h->cmsg_type == SCM_RIGHTS);
    memcpy(&fd, CMSG_DATA(h), sizeof fd);
    MUST(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    return fd;
}

#endif
