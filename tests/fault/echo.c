/* SPDX-License-Identifier: Apache-2.0
 *
 * echo: the honest program between hostile peers. It knows nothing of the mesh.
 *
 *   echo server NOFILE      serves on an ephemeral port (prints "port N") until its standard input
 *                           ends; says LEAK when a byte of a hostile peer reached it
 *   echo client PORT ROUNDS SIZE
 *                           sends and compares; before every round but the first reads a byte from
 *                           standard input; exit 0 right, 1 no connection, 2 an error, 3 wrong
 * bytes echo listen FD          listens on an ephemeral port, passes the listener over Unix socket
 * FD and waits until that socket ends
 */
#include "app.h"

#define HOSTILE "HOSTILE"

struct conn {
    char tail[sizeof HOSTILE]; /* the newest bytes, for a marker that comes in pieces */
    char *out;                 /* what is still to be echoed */
    size_t left, off;
};

static int ep;
static struct conn *conns[65536];
static int listener, paused;

static void
drop(int fd, const char *why)
{
    say("end %s\n", why);
    free(conns[fd]->out);
    free(conns[fd]);
    conns[fd] = NULL;
    CK(close(fd));
    if (paused) {
        paused = 0;
        app_epoll_add(ep, listener, EPOLLIN);
    }
}

static void
accept_all(void)
{
    int fd = -1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        MUST(fd < (int)(sizeof conns / sizeof *conns));
        conns[fd] = calloc(1, sizeof *conns[fd]);
        MUST(conns[fd]);
        app_epoll_add(ep, fd, EPOLLIN);
    }
    if (errno == EMFILE) {
        paused = 1;
        CK(epoll_ctl(ep, EPOLL_CTL_DEL, listener, NULL));
    }
    if (errno != EAGAIN)
        say("accept %s\n", strerrorname_np(errno));
}

static void
look(struct conn *c, const char *b, size_t n)
{
    size_t keep = sizeof HOSTILE - 2, head = n < keep ? n : keep;
    char seam[2 * sizeof HOSTILE];
    memcpy(seam, c->tail, keep);
    memcpy(seam + keep, b, head);
    if (memmem(b, n, HOSTILE, sizeof HOSTILE - 1) ||
        memmem(seam, keep + head, HOSTILE, sizeof HOSTILE - 1))
        say("LEAK\n");
    memcpy(c->tail, seam + head, keep);
    if (n > keep)
        memcpy(c->tail, b + n - keep, keep);
}

static void
want(int fd, unsigned events)
{
    struct epoll_event e = {.events = events, .data.fd = fd};
    CK(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
}

static void
flush(int fd)
{
    struct conn *c = conns[fd];
    while (c->left) {
        ssize_t r = send(fd, c->out + c->off, c->left, MSG_NOSIGNAL);
        if (r < 0) {
            if (errno == EAGAIN)
                want(fd, EPOLLOUT);
            else
                drop(fd, strerrorname_np(errno));
            return;
        }
        c->off += (size_t)r;
        c->left -= (size_t)r;
    }
    want(fd, EPOLLIN);
}

static void
serve(int fd)
{
    struct conn *c = conns[fd];
    static char b[65536];
    if (c->left) {
        flush(fd);
        return;
    }
    ssize_t r = recv(fd, b, sizeof b, 0);
    if (r < 0 && errno == EAGAIN)
        return;
    if (r <= 0) {
        drop(fd, r == 0 ? "EOF" : strerrorname_np(errno));
        return;
    }
    look(c, b, (size_t)r);
    c->out = realloc(c->out, (size_t)r);
    MUST(c->out);
    memcpy(c->out, b, (size_t)r);
    c->left = (size_t)r;
    c->off = 0;
    flush(fd);
}

static int
server(unsigned long nofile)
{
    struct rlimit lim = {nofile, nofile};
    struct epoll_event e[64];
    if (nofile)
        CK(setrlimit(RLIMIT_NOFILE, &lim));
    listener = app_listen_at(INADDR_LOOPBACK, 4096, &app_addr);
    app_nonblock(listener, 1);
    ep = (int)CK(epoll_create1(0));
    app_epoll_add(ep, listener, EPOLLIN);
    app_epoll_add(ep, 0, EPOLLIN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    say("port %d\n", ntohs(app_addr.sin_port));
    for (;;) {
        int n = epoll_wait(ep, e, 64, -1);
        for (int i = 0; i < n; i++) {
            if (e[i].data.fd == 0)
                return 0;
            if (e[i].data.fd == listener)
                accept_all();
            else if (conns[e[i].data.fd])
                serve(e[i].data.fd);
        }
    }
}

static int
failed(const char *what, int code)
{
    say("%s %s\n", what, strerrorname_np(errno));
    return code;
}

static int
client(int port, int rounds, size_t size)
{
    struct timeval tv = {60, 0};
    char *b = malloc(size), *back = malloc(size), c;
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    MUST(b && back);
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    CK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    CK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv));
    app_addr = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                    .sin_port = htons((in_port_t)port)};
    if (connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) < 0)
        return failed("connect", 1);
    for (int i = 0; i < rounds; i++) {
        if (i && read(0, &c, 1) != 1)
            return 4;
        app_fill(b, size, (uint64_t)i);
        for (size_t off = 0, n = 0; off < size; off += n) {
            ssize_t r = send(fd, b + off, size - off, 0);
            if (r < 0)
                return failed("send", 2);
            n = (size_t)r;
        }
        for (size_t got = 0; got < size;) {
            ssize_t r = recv(fd, back + got, size - got, 0);
            if (r <= 0) {
                errno = r == 0 ? 0 : errno;
                return failed(r == 0 ? "EOF" : "recv", 2);
            }
            if (memcmp(back + got, b + got, (size_t)r)) {
                say("WRONG\n");
                return 3;
            }
            got += (size_t)r;
        }
        say("round\n");
    }
    close(fd);
    free(b);
    free(back);
    return 0;
}

static int
pass_listener(int to)
{
    int fd = app_listen_at(INADDR_LOOPBACK, 128, &app_addr);
    char c = 'f', ctl[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec v = {&c, 1};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
    CK(sendmsg(to, &m, 0));
    return read(to, &c, 1) < 0;
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    if (argc == 3 && strcmp(app_mode, "server") == 0)
        return server(strtoul(argv[2], NULL, 10));
    if (argc == 5 && strcmp(app_mode, "client") == 0)
        return client(atoi(argv[2]), atoi(argv[3]), strtoul(argv[4], NULL, 10));
    if (argc == 3 && strcmp(app_mode, "listen") == 0)
        return pass_listener(atoi(argv[2]));
    return 9;
}
