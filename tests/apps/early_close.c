/* SPDX-License-Identifier: Apache-2.0
 *
 * early_close: a child writes to a connection on which the other end has not said a word yet, closes it
 * and ends, while its parent still has it. What was written arrives, once and before what the parent
 * writes afterwards. server: a child greets a client that has connected and makes no further call yet.
 * client: the server has not accepted yet. both: the parent had written before it forked.
 */
/* run: modes server client both */
#include "app.h"

#include <sched.h>
#include <stdbool.h>
#include <sys/mman.h>

#define PART 10u

static _Atomic int *ready;

/* Without a call that could move the connection on. */
static void
await_ready(void)
{
    while (!*ready)
        sched_yield();
}

static void
in_child(int fd, uint64_t pos)
{
    char b[PART];
    fflush(stdout);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        app_fill(b, sizeof b, pos);
        app_put(fd, b, sizeof b);
        CK(close(fd));
        *ready = 1;
        exit(0);
    }
    await_ready();
    int st = 0;
    CK(waitpid(pid, &st, 0));
    say("child %d\n", st);
}

static void
quiet_client(void)
{
    char b[100];
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) == 0 || errno == EINPROGRESS);
    await_ready();
    app_nonblock(fd, 0);
    size_t n = app_get(fd, b, 2 * PART);
    _exit(n == 2 * PART && app_match(b, n, 0) == n && read(fd, b, 1) == 0 ? 0 : 1);
}

static void
late_server(int lfd, size_t n)
{
    char b[100];
    await_ready();
    int fd = (int)CK(accept(lfd, NULL, NULL));
    size_t got = app_get(fd, b, n);
    _exit(got == n && app_match(b, n, 0) == n && read(fd, b, 1) == 0 ? 0 : 1);
}

int
main(int argc, char **argv)
{
    char b[PART];
    app_main(argc, argv);
    bool server = strcmp(app_mode, "server") == 0, both = strcmp(app_mode, "both") == 0;
    int lfd = app_listen(), st = 0, fd;
    ready = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(ready != MAP_FAILED);
    pid_t peer = (pid_t)CK(fork());
    if (peer == 0) {
        if (server)
            quiet_client();
        late_server(lfd, both ? 3 * PART : 2 * PART);
    }
    fd = server ? (int)CK(accept(lfd, NULL, NULL)) : app_connect();
    if (both) {
        app_fill(b, sizeof b, 0);
        app_put(fd, b, sizeof b);
    }
    in_child(fd, both ? PART : 0);
    app_fill(b, sizeof b, both ? 2 * PART : PART);
    app_put(fd, b, sizeof b);
    CK(close(fd));
    CK(waitpid(peer, &st, 0));
    say("peer %d\n", st);
    return 0;
}
