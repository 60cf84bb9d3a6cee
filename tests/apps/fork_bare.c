/* SPDX-License-Identifier: Apache-2.0
 *
 * fork_bare: a process becomes two by a way on which libc runs no handlers of fork: clone(2) as libc has
 * it, the calls by their numbers, _Fork; and forkpty and daemon, where libc calls fork itself. Both
 * processes go on with the connection in turn; the child ends, the parent goes on; then the parent lets
 * go of it first, which is no end for the peer. Or the child, which puts the connection on its standard
 * input, has it from the beginning, the parent having closed its own at once. A child that shares the
 * memory (vm) touches descriptors of its own, and its parent's connection is as it was. The last thing
 * that a child of clone does is to return, with bytes written that have not left yet.
 */
/* run: modes clone fork_nr clone_nr clone3_nr Fork forkpty daemon vm */
/* cc: -lutil */
#include "app_proc.h"
#include <linux/sched.h>
#include <pty.h>
#include <sched.h>

#define ANSWERED (100 + 3 * (5000 + 3000) + 30000 + 20000) /* what is written but for the last piece */

static int go_child, go_parent;

static void
echo(int fd)
{
    static char b[65536];
    size_t total = 0;
    ssize_t r;
    while ((r = CK(read(fd, b, sizeof b))) > 0) {
        total += (size_t)r;
        if (total <= ANSWERED)
            app_put(fd, b, (size_t)r);
    }
    say("heard %zu\n", total);
}

/* In the child, in turn with the parent. 0 when all was well. */
static int
child(void *arg)
{
    int fd = *(int *)arg, ok = 1;
    for (int i = 0; i < 3; i++) {
        app_pass(go_child);
        ok &= app_use(fd, 3000, 50);
        app_open(go_parent);
    }
    return !ok;
}

/* The parent has closed its copy; what is written last is read by nobody here. */
static int
last_child(void *arg)
{
    int fd = *(int *)arg, ok;
    static char b[100000];
    app_pass(go_child);
    ok = app_use(fd, 20000, 7);
    app_fill(b, sizeof b, 0);
    app_put(fd, b, sizeof b);
    return !ok;
}

/* By the mode's way; the child runs fn and ends with its result. */
static pid_t
split(int (*fn)(void *), int fd)
{
    static char stack[256 << 10] __attribute__((aligned(16)));
    pid_t pid = -1;
    fflush(stdout);
    if (strcmp(app_mode, "clone") == 0)
        return (pid_t)CK(clone(fn, stack + sizeof stack, SIGCHLD, &fd));
    if (strcmp(app_mode, "fork_nr") == 0)
#ifdef SYS_fork
        pid = (pid_t)syscall(SYS_fork);
#else
        pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#endif
    else if (strcmp(app_mode, "clone_nr") == 0)
        pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    else if (strcmp(app_mode, "clone3_nr") == 0) {
        struct clone_args a = {.exit_signal = SIGCHLD};
        pid = (pid_t)syscall(SYS_clone3, &a, sizeof a);
    } else if (strcmp(app_mode, "Fork") == 0)
        pid = _Fork();
    else if (strcmp(app_mode, "forkpty") == 0) {
        int master;
        pid = forkpty(&master, NULL, NULL, NULL);
    } else { /* daemon: by a child whose child it is */
        pid = fork();
        if (pid == 0)
            CK(daemon(1, 1));
    }
    CK(pid);
    if (pid == 0)
        _exit(fn(&fd));
    return pid;
}

static void
in_turn(int fd)
{
    pid_t pid = split(child, fd);
    for (int i = 0; i < 3; i++) {
        say("parent %d\n", app_use(fd, 5000, 20));
        app_open(go_child);
        app_pass(go_parent);
    }
    app_ended("child", pid);
    say("parent alone %d\n", app_use(fd, 30000, 1));
}

static void
parent_first(int fd)
{
    pid_t pid = split(last_child, fd);
    RES(close(fd));
    app_open(go_child);
    app_ended("child", pid);
}

/* As of a server whose parent only accepts. */
static int
serve(void *arg)
{
    static char b[1000];
    ssize_t r;
    CK(dup2(*(int *)arg, 0));
    CK(close(*(int *)arg));
    app_put(0, "over to me", 10);
    while ((r = CK(read(0, b, sizeof b))) > 0) /* silently: with daemon nobody waits for us */
        app_put(0, b, (size_t)r);
    return 0;
}

static void
hand_over(int fd)
{
    pid_t pid = split(serve, fd);
    RES(close(fd));
    app_ended("server", pid);
}

static int
changes_descriptors(void *arg)
{
    int fd = *(int *)arg;
    int copy = dup(fd);
    if (copy < 0 || dup2(fd, 200) != 200 || close(fd) != 0 || close(copy) != 0 || close(200) != 0)
        _exit(1);
    _exit(write(fd, "x", 1) < 0 && errno == EBADF ? 0 : 2);
}

/* Without CLONE_FILES: the child has its own descriptors, and our memory. */
static void
shared_memory(int fd)
{
    static char stack[256 << 10] __attribute__((aligned(16)));
    for (int i = 0; i < 5; i++) {
        app_ended("child", (pid_t)CK(clone(changes_descriptors, stack + sizeof stack,
                              CLONE_VM | CLONE_VFORK | SIGCHLD, &fd)));
        say("parent %d\n", app_use(fd, 5000, 20));
    }
    RES(shutdown(fd, SHUT_WR));
    app_drain(fd, 0);
    RES(close(fd));
}

/* Reads all that comes, and only then says that it was there. */
static void
connector(int lfd)
{
    close(lfd);
    for (int i = 0; i < 2; i++) {
        int fd = app_connect();
        echo(fd);
        close(fd);
    }
    if (strcmp(app_mode, "vm") == 0)
        return;
    char b[10];
    int fd = app_connect();
    say("told %zu\n", app_get(fd, b, sizeof b));
    say("served %d\n", app_use(fd, 30000, 0));
    RES(shutdown(fd, SHUT_WR));
    RES(read(fd, b, 1));
    RES(close(fd));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    go_child = app_gate();
    go_parent = app_gate();
    int lfd = app_listen();
    app_start_fork(&t, connector, lfd);
    for (int i = 0; i < 2; i++) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        say("first %d\n", app_use(fd, 100, 0));
        if (strcmp(app_mode, "vm") == 0) {
            shared_memory(fd);
            continue;
        }
        in_turn(fd);
        parent_first(fd);
    }
    if (strcmp(app_mode, "vm") != 0)
        hand_over((int)CK(accept(lfd, NULL, NULL)));
    app_join(&t, "peer");
    return 0;
}
