/* SPDX-License-Identifier: Apache-2.0
 *
 * jump_out: a thread that sleeps in a call on a connection leaves it by siglongjmp in a handler, or is
 * cancelled; the connection is used afterwards, by this thread and by others, in both directions. In
 * recv, read, send, accept, connect, poll, select and epoll_wait. Who waits until the thread sleeps is
 * another thread (a cancelled thread's frames stay poisoned for the address sanitizer), so that the way out is from the kernel, where a bare program always is.
 */
/* run: modes jump cancel */
/* run: notsan */
/* run: timeout 60 */
/* run: noasan cancel */
#include "app.h"
#include "asleep.h"
#include <setjmp.h>

static sigjmp_buf out;
static _Atomic pid_t sleeper;
static pthread_t sleeping;

static void
on_signal(int sig)
{
    (void)sig;
    siglongjmp(out, 1);
}

static char big[4 << 20];

static void
do_recv(int fd)
{
    char b[100];
    recv(fd, b, sizeof b, 0);
}

static void
do_waitall(int fd)
{
    static char b[20000];
    recv(fd, b, sizeof b, MSG_WAITALL);
}

static void
do_read(int fd)
{
    char b[100];
    read(fd, b, sizeof b);
}

static void
do_send(int fd)
{
    for (;;)
        send(fd, big, sizeof big, 0);
}

static void
do_accept(int fd)
{
    accept(fd, NULL, NULL);
}

static void
do_poll(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    poll(&p, 1, -1);
}

static void
do_select(int fd)
{
    fd_set s;
    FD_ZERO(&s);
    FD_SET(fd, &s);
    select(fd + 1, &s, NULL, NULL, NULL);
}

static void
do_epoll(int fd)
{
    struct epoll_event e;
    static int ep;
    if (!ep) {
        ep = epoll_create1(0);
        app_epoll_add(ep, fd, EPOLLIN);
    }
    epoll_wait(ep, &e, 1, -1);
}

static void
do_connect(int fd)
{
    connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr);
}

struct doing {
    void (*call)(int);
    int fd;
    int left; /* not by return */
};

static void *
run(void *arg)
{
    struct doing *d = arg;
    d->left = 1;
    sleeper = gettid();
    if (strcmp(app_mode, "jump") != 0 || sigsetjmp(out, 1) == 0) {
        d->call(d->fd);
        d->left = 0;
    }
    return NULL;
}

static void *
disturb(void *arg)
{
    (void)arg;
    while (!sleeper)
        poll(NULL, 0, 1);
    app_asleep(sleeper);
    if (strcmp(app_mode, "jump") == 0)
        CK(syscall(SYS_tgkill, getpid(), sleeper, SIGUSR1));
    else
        pthread_cancel(sleeping);
    return NULL;
}

/* Sleeps in the call and leaves it. A jump stays in this thread; who is cancelled is another one. */
static void
leave(const char *name, void (*call)(int), int fd)
{
    struct doing d = {call, fd, 0};
    pthread_t t;
    sleeper = 0;
    if (strcmp(app_mode, "jump") == 0) {
        MUST(pthread_create(&t, NULL, disturb, NULL) == 0);
        run(&d);
        MUST(pthread_join(t, NULL) == 0);
    } else {
        MUST(pthread_create(&sleeping, NULL, run, &d) == 0);
        disturb(NULL);
        MUST(pthread_join(sleeping, NULL) == 0);
    }
    say("left %s %d\n", name, d.left);
}

static void *
talk_thread(void *arg)
{
    int *p = arg;
    app_both_ways(p[0], p[1]);
    return NULL;
}

static void
talk_elsewhere(int a, int b)
{
    pthread_t t;
    int p[2] = {a, b};
    MUST(pthread_create(&t, NULL, talk_thread, p) == 0);
    MUST(pthread_join(t, NULL) == 0);
}

static void
listener(void)
{
    int lfd = app_listen();
    leave("accept", do_accept, lfd);
    leave("poll of a listener", do_poll, lfd);
    int c = app_connect(), s = (int)CK(accept(lfd, NULL, NULL));
    app_both_ways(c, s);
    close(c);
    close(s);
    close(lfd);
}

/* Nobody accepts and the backlog is full: connect sleeps in the kernel. */
static void
connecting(void)
{
    int lfd = app_listen_at(INADDR_LOOPBACK, 0, &app_addr), c[2];
    c[0] = socket(AF_INET, SOCK_STREAM, 0);
    CK(connect(c[0], (struct sockaddr *)&app_addr, sizeof app_addr));
    c[1] = socket(AF_INET, SOCK_STREAM, 0);
    leave("connect", do_connect, c[1]);
    close(c[1]);
    int s = (int)CK(accept(lfd, NULL, NULL));
    app_both_ways(c[0], s);
    close(c[0]);
    close(s);
    close(lfd);
}

/* How it ended. Said by who waits for it: two threads' lines would come in any order. */
static void *
drain(void *arg)
{
    char b[65536];
    size_t n = 0;
    int fd = *(int *)arg;
    ssize_t r;
    while ((r = read(fd, b, sizeof b)) > 0)
        n += (size_t)r;
    return (void *)(uintptr_t)(r == 0 && n > 0 ? "end" : strerrorname_np(errno));
}

int
main(int argc, char **argv)
{
    struct sigaction sa = {.sa_handler = on_signal};
    int c, s;
    app_main(argc, argv);
    CK(sigaction(SIGUSR1, &sa, NULL));
    app_pair(&c, &s);
    app_both_ways(c, s);
    leave("recv", do_recv, c);
    app_both_ways(c, s);
    leave("read", do_read, s);
    leave("recv all", do_waitall, s);
    talk_elsewhere(c, s);
    leave("poll", do_poll, c);
    leave("select", do_select, s);
    leave("epoll_wait", do_epoll, s);
    app_both_ways(c, s);
    listener();
    connecting();
    talk_elsewhere(c, s);
    leave("send", do_send, c);
    pthread_t t;
    void *ended;
    MUST(pthread_create(&t, NULL, drain, &s) == 0);
    app_put(c, big, 1000);
    RES(shutdown(c, SHUT_WR));
    MUST(pthread_join(t, &ended) == 0);
    say("then %s\n", (const char *)ended);
    RES(close(c));
    RES(close(s));
    return 0;
}
