/* SPDX-License-Identifier: Apache-2.0
 *
 * fork_share: parent and child use one connection in turn, both for reading and writing; the
 * child ends (by exit, _exit or a signal), the parent goes on; then the parent ends first.
 */
/* run: modes thread fork */
#include "app_proc.h"

static int turn_child, turn_parent;

static void
alternate(int fd)
{
    int st = 0;
    for (int end = 0; end < 3; end++) {
        fflush(stdout);
        pid_t pid = (pid_t)CK(fork());
        if (pid == 0) {
            int right = 0;
            for (int i = 0; i < 4; i++) {
                app_pass(turn_child);
                right += app_use(fd, 1 + 9000u * (unsigned)i, 50 + (uint64_t)i);
                app_open(turn_parent);
            }
            if (end == 0)
                _exit(right);
            if (end == 1)
                exit(right);
            raise(SIGKILL);
        }
        int right = app_use(fd, 333, 1);
        for (int i = 0; i < 4; i++) {
            app_open(turn_child);
            app_pass(turn_parent);
            right += app_use(fd, 20000, 99);
        }
        CK(waitpid(pid, &st, 0));
        right += app_use(fd, 777, 3);
        say("parent %d, child %d by signal %d\n", right, WEXITSTATUS(st), WTERMSIG(st));
    }
}

/* The request is read by the parent, answered by the child; unread bytes stay for the child. */
static void
split_server(int fd)
{
    char b[10000];
    int st = 0;
    say("parent got %zu\n", app_get(fd, b, 1000));
    say("match %zu\n", app_match(b, 1000, 0));
    fflush(stdout);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        size_t n = app_get(fd, b, 9000);
        int right = n == 9000 && app_match(b, n, 1000) == n;
        app_put(fd, b, 5000);
        _exit(right);
    }
    CK(waitpid(pid, &st, 0));
    say("child was right: %d\n", WEXITSTATUS(st));
    app_put(fd, "end", 3);
    RES(read(fd, b, 1));
}

static void
split_client(int fd)
{
    char b[10000];
    app_fill(b, sizeof b, 0);
    RES(write(fd, b, sizeof b));
    say("got %zu\n", app_get(fd, b, 5003));
    say("match %zu\n", app_match(b, 5000, 1000));
}

/* The parent closes its copy and the child goes on for a while (a daemon that detaches). */
static void
detach(int fd)
{
    int p[2];
    char r = 0;
    CK(pipe(p));
    fflush(stdout);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        if (CK(fork()))
            _exit(0);
        app_pass(turn_child);
        r = (char)(app_use(fd, 30000, 5) && app_use(fd, 10, 6));
        app_put(p[1], &r, 1);
        _exit(0);
    }
    CK(waitpid(pid, NULL, 0));
    CK(close(fd));
    CK(open("/dev/null", O_RDONLY));
    app_open(turn_child);
    MUST(app_get(p[0], &r, 1) == 1);
    say("grandchild was right: %d\n", r);
    close(p[0]);
    close(p[1]);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    turn_child = app_gate();
    turn_parent = app_gate();
    app_talk("in turn", app_echo, alternate);
    app_talk("in turn, server", alternate, app_echo);
    app_talk("parent reads, child answers", split_server, split_client);
    app_talk("detached", app_echo, detach);
    return 0;
}
