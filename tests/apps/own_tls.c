/* SPDX-License-Identifier: Apache-2.0
 *
 * own_tls: clients that libmesh is not in begin with a ClientHello, whole or in part, that names a server and so is
 * meant for the program; or with nothing. What the program and they see is what they see bare.
 */
/* run: modes half named room lowat lowat_conn spoke silent shut_rd shut_poll pass */
/* run: nomesh */
#include "app_bare.h"
#include "app_proc.h"

#define BEFORE_NAME 59
#define WITH_NAME   77
#define ROOM        6000

static unsigned char hello[ROOM];
static int go, there;

/* [RFC8446 4.1.2] TLS 1.3, server_name localhost, and padding [RFC7685]. */
static size_t
make_hello(size_t n)
{
    static const unsigned char head[] = {22, 3, 1, 0, 0, 1, 0, 0, 0, 3, 3},
                               lists[] = {0, 0, 2, 0x13, 1, 1, 0, 0, 0, 0, 43, 0, 3, 2, 3, 4},
                               name[] = {0, 0, 0, 14, 0, 12, 0, 0, 9, 'l', 'o', 'c', 'a', 'l', 'h', 'o', 's', 't', 0, 21};
    static const struct {
        size_t at, before;
    } lengths[] = {{3, 5}, {7, 9}, {50, 52}, {79, 81}};
    memcpy(hello, head, sizeof head);
    memcpy(hello + 43, lists, sizeof lists);
    memcpy(hello + BEFORE_NAME, name, sizeof name);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        hello[lengths[i].at] = (unsigned char)((n - lengths[i].before) >> 8);
        hello[lengths[i].at + 1] = (unsigned char)(n - lengths[i].before);
    }
    return n;
}

/* The server's kernel has it. */
static void
send_there(int fd, const void *p, size_t n)
{
    int left = 1;
    app_put(fd, p, n);
    while (left) {
        usleep(1000);
        CK(ioctl(fd, TIOCOUTQ, &left));
    }
}

static void
client(int unused)
{
    static char b[ROOM];
    size_t n = make_hello(strcmp(app_mode, "room") == 0 ? ROOM : 500);
    int fd = app_bare_client();
    (void)unused;
    if (strcmp(app_mode, "half") == 0) {
        app_put(fd, hello, BEFORE_NAME);
    } else if (strcmp(app_mode, "named") == 0) {
        app_put(fd, hello, WITH_NAME);
        RES(read(fd, b, 4));
        app_put(fd, hello + WITH_NAME, n - WITH_NAME);
    } else if (strncmp(app_mode, "lowat", 5) == 0) {
        send_there(fd, hello, BEFORE_NAME);
        app_open(go);
        app_pass(there);
        app_put(fd, hello + BEFORE_NAME, n - BEFORE_NAME);
        RES(read(fd, b, 4));
        send_there(fd, "ten bytes.", 10);
        app_open(go);
        RES(read(fd, b, 4));
        app_put(fd, b, 100);
    } else if (strcmp(app_mode, "spoke") == 0) {
        send_there(fd, hello, BEFORE_NAME);
        app_open(go);
        RES(read(fd, b, 4));
        app_put(fd, hello + BEFORE_NAME, n - BEFORE_NAME);
    } else if (strcmp(app_mode, "silent") == 0) {
        RES(read(fd, b, 1));
        app_put(fd, "late", 4);
    } else if (strcmp(app_mode, "pass") == 0 || strcmp(app_mode, "shut_poll") == 0) {
        app_pass(go);
        app_put(fd, "text", 4);
    } else if (strcmp(app_mode, "shut_rd") == 0) {
        app_pass(go);
        send_there(fd, "text", 4);
        app_open(there);
    } else {
        app_put(fd, hello, n);
    }
    if (strcmp(app_mode, "shut_rd") != 0)
        CK(shutdown(fd, SHUT_WR));
    RES(app_get(fd, b, sizeof b));
    close(fd);
}

static void
serve_rest(int fd)
{
    static char b[ROOM];
    size_t n = app_get(fd, b, sizeof b);
    say("got %zu, the hello's beginning: %d\n", n, memcmp(b, hello, n < 500 ? n : 500) == 0);
    RES(write(fd, "answer", 6));
}

/* Nothing of less than SO_RCVLOWAT, once the hello is over. */
static void
lowat(int fd)
{
    static char b[ROOM];
    int val = 0, ep = (int)CK(epoll_create1(0));
    socklen_t len = sizeof val;
    struct epoll_event e;
    RES(recv(fd, b, 500, MSG_WAITALL));
    CK(getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &val, &len));
    say("SO_RCVLOWAT %d\n", val);
    app_epoll_add(ep, fd, EPOLLIN);
    RES(write(fd, "more", 4));
    app_pass(go);
    RES(epoll_wait(ep, &e, 1, APP_QUIET));
    RES(write(fd, "more", 4));
    RES(epoll_wait(ep, &e, 1, APP_WAIT));
    close(ep);
    serve_rest(fd);
}

static void
worker(int sock)
{
    int fd = app_take_fd(sock);
    app_open(there);
    RES(app_poll(fd, POLLIN, APP_QUIET));
    app_open(go);
    RES(app_poll(fd, POLLIN, APP_WAIT));
    serve_rest(fd);
    close(fd);
}

int
main(int argc, char **argv)
{
    struct app_task t, w;
    char b[ROOM];
    int size = 2048, low = 100;
    app_main(argc, argv);
    go = app_gate();
    there = app_gate();
    signal(SIGPIPE, SIG_IGN);
    int lfd = app_listen();
    if (strcmp(app_mode, "room") == 0)
        CK(setsockopt(lfd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
    if (strcmp(app_mode, "lowat") == 0)
        CK(setsockopt(lfd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
    app_start_thread(&t, client, -1);
    int fd = (int)CK(accept(lfd, NULL, NULL));
    if (strcmp(app_mode, "named") == 0) {
        RES(recv(fd, b, WITH_NAME, MSG_WAITALL));
        RES(write(fd, "more", 4));
    } else if (strncmp(app_mode, "lowat", 5) == 0) {
        app_pass(go);
        app_poll(fd, POLLIN, APP_QUIET); /* so that it is looked at; what of half a hello is told is not the subject */
        if (strcmp(app_mode, "lowat_conn") == 0)
            CK(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
        app_open(there);
        lowat(fd);
    } else if (strcmp(app_mode, "spoke") == 0) {
        app_pass(go);
        RES(write(fd, "more", 4));
    } else if (strcmp(app_mode, "silent") == 0) {
        RES(shutdown(fd, SHUT_WR));
    } else if (strcmp(app_mode, "shut_poll") == 0) {
        RES(shutdown(fd, SHUT_RD));
        say("poll %s\n", app_events(app_poll(fd, POLLIN | POLLRDHUP, APP_WAIT)));
        app_open(go);
        usleep(20000);
    } else if (strcmp(app_mode, "shut_rd") == 0) {
        RES(shutdown(fd, SHUT_RD));
        app_open(go);
        app_pass(there);
        RES(recv(fd, b, 4, MSG_WAITALL));
        RES(recv(fd, b, 4, 0));
    } else if (strcmp(app_mode, "pass") == 0) {
        int pair[2];
        CK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
        app_start_fork(&w, worker, pair[1]);
        app_pass_fd(pair[0], fd);
        app_pass(there);
        close(fd);
        app_poll(w.pipe, POLLIN, APP_WAIT);
        app_join(&w, "worker");
    }
    if (strcmp(app_mode, "pass") != 0 && strcmp(app_mode, "shut_rd") != 0 && strncmp(app_mode, "lowat", 5) != 0)
        serve_rest(fd);
    if (strcmp(app_mode, "pass") != 0)
        close(fd);
    app_join(&t, "client");
    return 0;
}
