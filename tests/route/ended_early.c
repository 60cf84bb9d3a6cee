/* SPDX-License-Identifier: Apache-2.0
 *
 * ended_early: a server is gone as soon as a connection to its service is open. Bare it leaves in order; meshed it
 * leaves a reset, as one that is killed before it has read the end of the handshake: of that the program knows
 * nothing, and its connect has succeeded. With poll, ppoll and SO_ERROR, as clients ask that take POLLHUP for a
 * failure (Java's NIO).
 */
#define _GNU_SOURCE
#include "app.h"
#include <sys/syscall.h>

static struct sockaddr_in sa = {.sin_family = AF_INET};

static void
serve(int gate, int go)
{
    struct linger gone = {1, 0};
    int one = 1, lfd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    CK(setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    CK(bind(lfd, (struct sockaddr *)&sa, sizeof sa));
    CK(listen(lfd, 10));
    app_open(gate);
    for (;;) {
        int fd = accept(lfd, NULL, NULL);
        app_pass(go); /* the client knows that it is connected */
        if (getenv("LIBMESH_RUN_DIR"))
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &gone, sizeof gone);
        close(fd);
    }
}

/* As the kernel has it. */
static int
has_ended(int fd)
{
    struct tcp_info ti = {0};
    socklen_t len = sizeof ti;
    CK(syscall(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &ti, &len));
    return ti.tcpi_state == TCP_CLOSE || ti.tcpi_state == TCP_CLOSE_WAIT;
}

static void
ask(int fd, int with_ppoll)
{
    struct timespec at_once = {0, 0};
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLRDHUP, 0};
    int no = -1;
    socklen_t len = sizeof no;
    int n = (int)CK(with_ppoll ? ppoll(&p, 1, &at_once, NULL) : poll(&p, 1, 0));
    say("%s: %d, events %s\n", with_ppoll ? "ppoll" : "poll", n, app_events((unsigned)p.revents));
    CK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &no, &len));
    say("SO_ERROR %d\n", no);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    sa.sin_port = htons(21070);
    sa.sin_addr.s_addr = htonl(0x7f470001);
    int gate = app_gate(), go = app_gate();
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0)
        serve(gate, go);
    app_pass(gate);
    for (int round = 0; round < 6; round++) {
        int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        RES(connect(fd, (struct sockaddr *)&sa, sizeof sa));
        MUST(app_poll(fd, POLLOUT, APP_WAIT) == POLLOUT);
        app_open(go);
        while (!has_ended(fd))
            usleep(1000);
        ask(fd, round % 2);
        close(fd);
    }
    kill(pid, SIGKILL);
    CK(waitpid(pid, NULL, 0));
    return 0;
}
