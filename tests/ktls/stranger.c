/* SPDX-License-Identifier: Apache-2.0
 *
 * stranger: a connection that was in use goes to a static program, which no preload can follow, by
 * file actions of posix_spawn, by inheritance, by exec, and (mode pass) over a Unix socket. Both
 * programs use it in turn; then the first one goes on, and ends it. Mode leave: the first one closes it
 * before the static one has used it.
 */
/* run: modes spawn inherit fork vfork pass leave */
#include "app.h"
#include <spawn.h>

extern char **environ;
#define ROUNDS 3
static const char *image;
static int gate;

/* The sizes cross the record's limit both ways. */
static size_t
size_of(int round)
{
    return round == 0 ? 1 : round == 1 ? 5000 : 100001;
}

static void
give(int unix_fd, int fd)
{
    char b = 0, control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec v = {&b, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control,
                       .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    CK(sendmsg(unix_fd, &m, 0));
}

static pid_t
start(int fd, size_t n)
{
    char number[12], count[24];
    char *args[] = {(char *)(uintptr_t)image, number, count, NULL, NULL};
    int pair[2] = {-1, -1};
    pid_t pid = 0;
    int spawn = strcmp(app_mode, "spawn") == 0 || strcmp(app_mode, "leave") == 0;
    snprintf(number, sizeof number, "%d", spawn ? 0 : fd);
    snprintf(count, sizeof count, "%zu", n);
    if (spawn || strcmp(app_mode, "inherit") == 0) {
        posix_spawn_file_actions_t fa;
        posix_spawn_file_actions_init(&fa);
        if (spawn)
            posix_spawn_file_actions_adddup2(&fa, fd, 0);
        int e = posix_spawn(&pid, image, spawn ? &fa : NULL, NULL, args, environ);
        say("posix_spawn %s\n", e ? strerrorname_np(e) : "ok");
        posix_spawn_file_actions_destroy(&fa);
        return pid;
    }
    if (strcmp(app_mode, "pass") == 0) {
        CK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
        CK(fcntl(fd, F_SETFD, FD_CLOEXEC));
        snprintf(number, sizeof number, "%d", pair[1]);
        args[3] = args[2];
        args[2] = args[1];
        args[1] = (char *)(uintptr_t) "pass";
    }
    pid = (pid_t)CK(strcmp(app_mode, "vfork") == 0 ? vfork() : fork());
    if (pid == 0) {
        execv(image, args);
        _exit(9);
    }
    if (pair[0] >= 0) {
        give(pair[0], fd);
        close(pair[0]);
        close(pair[1]);
    }
    return pid;
}

static void
ask(int fd, size_t n)
{
    static char b[100001];
    app_fill(b, n, n);
    app_put(fd, b, n);
    memset(b, 0, n);
    size_t got = app_get(fd, b, n);
    say("got %zu match %zu\n", got, app_match(b, got, n));
}

static void
answer(int fd, size_t n)
{
    static char b[100001];
    MUST(app_get(fd, b, n) == n);
    app_put(fd, b, n);
}

static void
leave_server(int fd)
{
    int st = 0;
    answer(fd, size_of(0));
    pid_t pid = start(fd, size_of(2));
    CK(close(fd));
    app_open(gate);
    CK(waitpid(pid, &st, 0));
    say("stranger ended with %d\n", st);
}

static void
leave_client(int fd)
{
    char c;
    ask(fd, size_of(0));
    app_pass(gate);
    ask(fd, size_of(2));
    RES(read(fd, &c, 1));
}

static void
client(int fd)
{
    for (int i = 0; i < ROUNDS; i++)
        for (int r = 0; r < ROUNDS; r++)
            ask(fd, size_of(r));
    char c;
    RES(read(fd, &c, 1));
}

static void
server(int fd)
{
    for (int i = 0; i < ROUNDS; i++) {
        answer(fd, size_of(0)); /* ours, then the stranger's, then ours */
        int st = 0;
        pid_t pid = start(fd, size_of(1));
        if (pid) {
            CK(waitpid(pid, &st, 0));
            say("stranger ended with %d\n", st);
        } else {
            answer(fd, size_of(1));
        }
        answer(fd, size_of(2));
    }
}

int
main(int argc, char **argv)
{
    static char path[4096];
    app_main(argc, argv);
    snprintf(path, sizeof path, "%.*s/static_count", (int)(strrchr(argv[0], '/') - argv[0]), argv[0]);
    image = path;
    gate = app_gate();
    if (strcmp(app_mode, "leave") == 0)
        app_talk("leave", leave_server, leave_client);
    else
        app_talk("stranger", server, client);
    return 0;
}
