/* SPDX-License-Identifier: Apache-2.0
 *
 * epipe: writing to a peer that is gone: the first write may pass, then EPIPE and SIGPIPE; none
 * with MSG_NOSIGNAL, none when ignored; each writing call; the signal kills by default.
 */
/* run: modes thread fork */
#include "app.h"

static volatile sig_atomic_t pipes;

static void
on_pipe(int sig)
{
    (void)sig;
    pipes++;
}

static void
closer(int fd)
{
    char c;
    MUST(app_get(fd, &c, 1) == 1);
}

/* Waits for the peer's end, then for the reset that the first write provokes. */
static void
broken(int fd)
{
    char c = 'x';
    app_put(fd, &c, 1);
    RES(recv(fd, &c, 1, 0));
    RES(send(fd, &c, 1, MSG_NOSIGNAL));
    while (!(app_poll(fd, POLLIN, APP_WAIT) & POLLERR) && !(app_poll(fd, POLLIN, 0) & POLLHUP))
        ;
}

static void
writer(int fd)
{
    char b[100] = {0};
    struct iovec v = {b, sizeof b};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    struct mmsghdr mm = {.msg_hdr = m};
    broken(fd);
    signal(SIGPIPE, on_pipe);
    RES(write(fd, b, sizeof b));
    say("signals %d\n", (int)pipes);
    RES(send(fd, b, sizeof b, MSG_NOSIGNAL));
    say("signals %d\n", (int)pipes);
    RES(send(fd, b, sizeof b, 0));
    RES(writev(fd, &v, 1));
    RES(sendmsg(fd, &m, 0));
    RES(sendto(fd, b, sizeof b, 0, NULL, 0));
    RES(sendmmsg(fd, &mm, 1, 0));
    RES(pwritev2(fd, &v, 1, -1, 0));
    say("signals %d\n", (int)pipes);
    RES(sendmsg(fd, &m, MSG_NOSIGNAL));
    RES(sendmmsg(fd, &mm, 1, MSG_NOSIGNAL));
    say("signals %d\n", (int)pipes);
    RES(write(fd, b, 0));
    RES(send(fd, b, 0, MSG_NOSIGNAL));
    say("signals %d\n", (int)pipes);
    signal(SIGPIPE, SIG_IGN);
    RES(write(fd, b, sizeof b));
    say("signals %d\n", (int)pipes);
    pipes = 0;
    signal(SIGPIPE, SIG_DFL);
}

static int heard;

/* Closes, and lives until its client knows. */
static void
leaver(int fd)
{
    int null = (int)CK(open("/dev/null", O_RDWR));
    CK(dup2(null, fd));
    CK(close(null));
    app_pass(heard);
}

/* The reset that the very first write provoked is a pending error. */
static void
asker(int fd)
{
    char c = 'x';
    RES(recv(fd, &c, 1, 0));
    app_open(heard);
    RES(send(fd, &c, 1, MSG_NOSIGNAL));
    MUST(app_poll(fd, POLLPRI, APP_WAIT) & POLLERR);
    say("SO_ERROR %s\n", app_so_error_name(fd));
    say("SO_ERROR %s\n", app_so_error_name(fd));
    RES(send(fd, &c, 1, MSG_NOSIGNAL));
}

/* The signal by default ends the process. */
static void
victim(int fd)
{
    int st = 0;
    broken(fd);
    fflush(stdout);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        signal(SIGPIPE, SIG_DFL);
        _exit(write(fd, "x", 1) == 1 ? 1 : 2);
    }
    CK(waitpid(pid, &st, 0));
    say("child ended by %s\n", WIFSIGNALED(st) ? sigabbrev_np(WTERMSIG(st)) : "nothing");
}

/* A blocked writer of much data learns of the close in the middle. */
static void
middle_closer(int fd)
{
    char b[1000];
    app_get(fd, b, sizeof b);
}

static void
middle_writer(int fd)
{
    static char b[100000];
    ssize_t r = 0;
    app_fill(b, sizeof b, 0);
    while ((r = send(fd, b, sizeof b, MSG_NOSIGNAL)) > 0)
        ;
    say("ended with %s\n",
        errno == EPIPE || errno == ECONNRESET ? "EPIPE or ECONNRESET" : strerrorname_np(errno));
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    heard = app_gate();
    app_talk("writes", closer, writer);
    app_talk("asks", leaver, asker);
    app_talk("default action", closer, victim);
    app_talk("server writes", writer, closer);
    app_talk("closed in the middle", middle_closer, middle_writer);
    return 0;
}
