/* SPDX-License-Identifier: Apache-2.0
 *
 * exec_ended: a server has read the end of a client that libmesh is not in, which has sent nothing else; then it executes a
 * program that answers: the same (`same`), by posix_spawn (`spawn`), one that is not under libmesh (`other`, `other_spawn`); or
 * sends the connection to another process (`pass`); or splices (`splice`), sendfile (`file`), a stream (`stream`), an urgent
 * byte (`urgent`), a child that is forked then (`fork`).
 */
/* run: modes same spawn other other_spawn pass splice file stream fork urgent two */
/* run: nomesh */
#include "app_bare.h"
#include "app_proc.h"

#include <spawn.h>

static int
is(const char *mode)
{
    return strcmp(app_mode, mode) == 0;
}

static void
client(int unused)
{
    char b[100];
    (void)unused;
    int fd = app_bare_client();
    CK(shutdown(fd, SHUT_WR));
    say("got %zu\n", app_get(fd, b, sizeof b));
    CK(close(fd));
}

static void
wait_for(pid_t pid)
{
    int st = -1;
    MUST(waitpid(pid, &st, 0) == pid);
    say("status %x\n", (unsigned)st);
}

static void
run(char **argv, int fd, int spawn)
{
    pid_t pid;
    if (spawn) {
        posix_spawn_file_actions_t fa;
        MUST(posix_spawn_file_actions_init(&fa) == 0);
        MUST(posix_spawn_file_actions_adddup2(&fa, fd, 1) == 0);
        extern char **environ;
        MUST(posix_spawn(&pid, argv[0], &fa, NULL, argv, environ) == 0);
    } else if ((pid = (pid_t)CK(fork())) == 0) {
        dup2(fd, 1);
        execv(argv[0], argv);
        _exit(9);
    }
    wait_for(pid);
}

static void
receiver(int sock)
{
    int fd = app_take_fd(sock);
    RES(send(fd, "hello", 5, MSG_NOSIGNAL));
    CK(close(fd));
}

static void
pass(int fd)
{
    struct app_task t;
    int p[2];
    CK(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
    app_start_fork(&t, receiver, p[0]);
    app_pass_fd(p[1], fd);
    CK(close(fd));
    app_join(&t, "receiver");
}

static void
serve(int fd)
{
    char b[10];
    char *echo[] = {"/bin/echo", "hello", NULL};
    char image[PATH_MAX];
    char *other[] = {image, "say", "hello", NULL};
    app_image(image, "static_image");
    RES(read(fd, b, sizeof b));
    if (is("same") || is("spawn"))
        run(echo, fd, is("spawn"));
    else if (is("other") || is("other_spawn"))
        run(other, fd, is("other_spawn"));
    else if (is("pass"))
        return pass(fd);
    else if (is("splice")) {
        int p[2];
        CK(pipe(p));
        CK(write(p[1], "hello", 5));
        RES(splice(p[0], NULL, fd, NULL, 5, 0));
    } else if (is("file")) {
        char path[] = "/tmp/exec_ended.XXXXXX";
        int f = (int)CK(mkstemp(path));
        off_t at = 0;
        CK(write(f, "hello", 5));
        RES(sendfile(fd, f, &at, 5));
        say("at %ld\n", (long)at);
        CK(unlink(path));
    } else if (is("stream")) {
        FILE *f = fdopen(fd, "w");
        MUST(f);
        say("puts %d\n", fputs("hello", f) >= 0);
        RES(fclose(f));
        return;
    } else if (is("urgent"))
        RES(send(fd, "hello", 5, MSG_OOB));
    else if (is("fork") || is("two")) {
        pid_t pid = (pid_t)CK(fork());
        if (pid == 0) {
            int bad = send(fd, "hello", 5, MSG_NOSIGNAL) != 5;
            _exit(bad);
        }
        if (is("two"))
            RES(send(fd, "again", 5, MSG_NOSIGNAL));
        wait_for(pid);
        RES(send(fd, "again", 5, MSG_NOSIGNAL));
    }
    CK(close(fd));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    int lfd = app_listen();
    app_start_fork(&t, client, -1);
    CK(fcntl(lfd, F_SETFD, FD_CLOEXEC));
    serve((int)CK(accept(lfd, NULL, NULL)));
    app_join(&t, "client");
    return 0;
}
