/* SPDX-License-Identifier: Apache-2.0
 *
 * fork_dup: the server forks before the client has said a word; the child puts the connection on
 * other numbers and closes the first, and its child (mode twice) or itself (once) serves. The client's
 * connect is not blocking, and it makes no further call until the server has come that far. nofiles:
 * the server speaks first, and has allowed itself no descriptors any more, so that it cannot poll.
 */
/* run: modes once twice nofiles */
#include "app_proc.h"

#include <sched.h>
#include <sys/mman.h>

static _Atomic int *ready;

static void
serve(int fd)
{
    char b[1000];
    ssize_t r = 0;
    struct rlimit none = {0, 0};
    if (strcmp(app_mode, "nofiles") == 0) {
        CK(setrlimit(RLIMIT_NOFILE, &none));
        MUST(poll(&(struct pollfd){.fd = fd}, 1, 0) < 0 && errno == EINVAL);
        *ready = 1;
        if (write(fd, "hello", 5) != 5)
            _exit(5);
    }
    *ready = 1;
    while ((r = read(fd, b, sizeof b)) > 0)
        app_put(fd, b, (size_t)r);
    _exit(r == 0 ? 3 : 4);
}

static void
child(int fd)
{
    int st = 0;
    CK(dup2(fd, 100));
    CK(dup2(fd, 101));
    CK(close(fd));
    if (strcmp(app_mode, "twice") != 0)
        serve(100);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        CK(close(100));
        serve(101);
    }
    CK(close(100));
    CK(close(101));
    CK(waitpid(pid, &st, 0));
    _exit(WEXITSTATUS(st));
}

static void
client(int lfd)
{
    static char b[30000];
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    (void)lfd;
    app_nonblock(fd, 1);
    MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) == 0 || errno == EINPROGRESS);
    while (!*ready)
        sched_yield();
    CK(app_poll(fd, POLLOUT, APP_WAIT));
    say("connected: %d\n", app_so_error(fd));
    app_nonblock(fd, 0);
    if (strcmp(app_mode, "nofiles") == 0)
        say("greeting %zu\n", app_get(fd, b, 5));
    app_fill(b, sizeof b, 0);
    app_put(fd, b, sizeof b);
    memset(b, 0, sizeof b);
    size_t n = app_get(fd, b, sizeof b);
    say("answer %zu, right up to %zu\n", n, app_match(b, n, 0));
    RES(shutdown(fd, SHUT_WR));
    RES(read(fd, b, 1));
    RES(close(fd));
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    ready = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(ready != MAP_FAILED);
    app_serve_by_child(client, child);
    return 0;
}
