/* SPDX-License-Identifier: Apache-2.0
 *
 * slices: a server of one thread writes more in a call than it should at once, without blocking, and comes back for the
 * rest as epoll says. level: as long as there is room. edge: it takes a short write for a full socket and waits for an
 * edge. both: in two sets, and it waits in the one that tells edges. late: first level-triggered, then not. file: by
 * sendfile. many: several messages a call, of which what was taken is counted. unheard: as edge, and the client does
 * nothing before the server has found the socket full.
 */
/* run: modes level edge both late file many unheard */
#include "app.h"

#include <sys/mman.h>

#define TOTAL (24 << 20)
#define CALL  (3 << 20)

static unsigned char *all;
static pid_t stopped; /* until the server has found the socket full */

static int
mode(const char *name)
{
    return strcmp(app_mode, name) == 0;
}

static void
client(int unused)
{
    (void)unused;
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | (mode("unheard") ? SOCK_NONBLOCK : 0), 0));
    int r = connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr);
    MUST(r == 0 || errno == EINPROGRESS);
    if (mode("unheard")) {
        raise(SIGSTOP);
        MUST(app_poll(fd, POLLOUT, APP_WAIT) == POLLOUT);
        app_nonblock(fd, 0);
    }
    app_drain(fd, 0);
    close(fd);
}

static int
watch(int fd, unsigned how)
{
    int ep = (int)CK(epoll_create1(0));
    app_epoll_add(ep, fd, EPOLLOUT | how);
    return ep;
}

static void
await(int ep)
{
    struct epoll_event e;
    MUST(CK(epoll_wait(ep, &e, 1, APP_WAIT)) == 1);
}

/* Two messages. The second counts only where the first one went whole: nothing may go behind a part of it. */
static ssize_t
put_many(int fd, unsigned char *at, size_t n)
{
    struct iovec v[2] = {{at, n / 2}, {at + n / 2, n - n / 2}};
    struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = &v[0], .msg_iovlen = 1}},
                           {.msg_hdr = {.msg_iov = &v[1], .msg_iovlen = 1}}};
    int r = sendmmsg(fd, m, 2, 0);
    MUST(r < 2 || m[0].msg_len == v[0].iov_len);
    return r < 1 ? r : (ssize_t)(m[0].msg_len + (r == 2 ? m[1].msg_len : 0));
}

static ssize_t
put(int fd, int file, off_t at, size_t n)
{
    if (mode("file"))
        return sendfile(fd, file, &at, n);
    return mode("many") ? put_many(fd, all + at, n) : write(fd, all + at, n);
}

static void
serve(int fd)
{
    int ep = watch(fd, mode("edge") || mode("unheard") ? EPOLLET : 0), file = (int)CK(memfd_create("all", 0));
    struct epoll_event to_edge = {.events = EPOLLOUT | EPOLLET, .data.fd = fd};
    int told = 0;
    if (mode("both"))
        ep = watch(fd, EPOLLET);
    if (mode("late"))
        CK(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &to_edge));
    if (mode("file"))
        app_put(file, all, TOTAL);
    await(ep);
    for (off_t at = 0; at < TOTAL;) {
        size_t n = TOTAL - at < CALL ? (size_t)(TOTAL - at) : CALL;
        ssize_t r = put(fd, file, at, n);
        MUST(r > 0 || errno == EAGAIN);
        at += r > 0 ? r : 0;
        if (r < (ssize_t)n) {
            if (mode("unheard") && !told++)
                CK(kill(stopped, SIGCONT));
            await(ep);
        }
    }
    RES(shutdown(fd, SHUT_WR));
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    int lfd = app_listen();
    MUST((all = malloc(TOTAL)));
    app_fill(all, TOTAL, 0);
    app_start_fork(&t, client, lfd);
    stopped = t.pid;
    if (mode("unheard"))
        CK(waitpid(stopped, NULL, WUNTRACED));
    int fd = (int)CK(accept4(lfd, NULL, NULL, SOCK_NONBLOCK));
    serve(fd);
    app_join(&t, "client");
    return 0;
}
