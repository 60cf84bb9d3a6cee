/* SPDX-License-Identifier: Apache-2.0
 *
 * connect_signals: what interrupts a connect() that takes its time, outlasts it, or asks for it again. Bare, the
 * queue of the server at the address is full until the program has it emptied. Meshed (meshd.conf), the address
 * is a service's: of "hole" the first endpoint's queue is full for ever and the second is the server; of "refuse"
 * fifteen endpoints refuse, with pauses between them, before the server's turn comes.
 */
/* run: modes hole refuse */
/* run: timeout 120 */
#include "app.h"

#include <setjmp.h>
#include <stdbool.h>

#define SOON_MS 200 /* while connect() is under way */

static struct sockaddr_in asked; /* the address */
static int orders, gate;         /* to the server, and its "done" */
static volatile sig_atomic_t signals;
static bool frees; /* the handler has the queue emptied */
static sigjmp_buf out;

static struct sockaddr_in
at(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(0x7f470001)};
}

/* ---- the server ---- */

static int
listen_at(int port, int backlog)
{
    struct sockaddr_in sa = at(port);
    int one = 1, fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    CK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    CK(bind(fd, (struct sockaddr *)&sa, sizeof sa));
    CK(listen(fd, backlog));
    return fd;
}

/* One client that nobody accepts fills a queue of 0. */
static void
fill(int port)
{
    struct sockaddr_in sa = at(port);
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    (void)!connect(fd, (struct sockaddr *)&sa, sizeof sa);
    app_poll(fd, POLLOUT, 100);
    close(fd);
}

static void
echo(int lfd)
{
    char b[20];
    int fd = accept(lfd, NULL, NULL);
    ssize_t n = fd < 0 ? 0 : recv(fd, b, sizeof b, MSG_WAITALL);
    if (n == sizeof b)
        app_put(fd, b, sizeof b);
    close(fd);
}

/* 'f': from now on the queue at the address is full; 'e': it is emptied. */
static void
serve(int port, int in)
{
    int hole = listen_at(21031, 0), lfd = -1;
    struct pollfd p[4] = {{in, POLLIN, 0}, {-1, POLLIN, 0}, {listen_at(21032, 50), POLLIN, 0},
                          {listen_at(21056, 50), POLLIN, 0}};
    fill(21031);
    MUST(hole >= 0);
    app_open(gate);
    while (CK(poll(p, 4, -1)) > 0) {
        char c = 0;
        if (p[0].revents && CK(read(in, &c, 1)) == 0)
            _exit(0);
        if (c == 'f') {
            close(lfd);
            lfd = listen_at(port, 0);
            p[1].fd = -1;
            fill(port);
            app_open(gate);
        } else if (c == 'e') {
            p[1].fd = lfd;
        }
        for (int i = 1; i < 4; i++)
            if (p[i].fd >= 0 && p[i].revents)
                echo(p[i].fd);
    }
}

static void
order(char c)
{
    MUST(write(orders, &c, 1) == 1);
    if (c == 'f')
        app_pass(gate);
}

/* ---- the client ---- */

static void
on_signal(int sig)
{
    int saved = errno;
    (void)sig;
    signals++;
    if (frees)
        (void)!write(orders, "e", 1);
    errno = saved;
}

static void
on_alarm_leave(int sig)
{
    (void)sig;
    siglongjmp(out, 1);
}

static void
signal_soon(void (*handler)(int), int flags, int every_ms)
{
    struct sigaction sa = {.sa_handler = handler, .sa_flags = flags};
    struct itimerval t = {{0, every_ms * 1000}, {0, SOON_MS * 1000}};
    CK(sigaction(SIGALRM, &sa, NULL));
    signals = 0;
    CK(setitimer(ITIMER_REAL, &t, NULL));
}

static void
no_signal(void)
{
    CK(setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL));
}

static int
fresh(const char *what, int type)
{
    say("-- %s\n", what);
    frees = false;
    order('f');
    return (int)CK(socket(AF_INET, SOCK_STREAM | type, 0));
}

static int
go(int fd)
{
    return connect(fd, (struct sockaddr *)&asked, sizeof asked);
}

static void
talk(int fd)
{
    struct sockaddr_in peer;
    socklen_t len = sizeof peer;
    char b[20];
    app_nonblock(fd, 0);
    RES(getpeername(fd, (struct sockaddr *)&peer, &len));
    app_fill(b, sizeof b, 0);
    RES(send(fd, b, sizeof b, 0));
    RES(recv(fd, b, sizeof b, MSG_WAITALL));
    say("match %zu\n", app_match(b, sizeof b, 0));
    CK(close(fd));
}

static void
interrupted(void)
{
    int fd = fresh("interrupted, then polled", 0);
    signal_soon(on_signal, 0, 0);
    RES(go(fd));
    say("signals %d\n", (int)signals);
    order('e');
    say("poll: %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
    say("SO_ERROR %s\n", app_so_error_name(fd));
    RES(go(fd));
    RES(go(fd));
    talk(fd);

    fd = fresh("interrupted, then asked again", 0);
    signal_soon(on_signal, 0, 0);
    RES(go(fd));
    order('e');
    RES(go(fd));
    RES(go(fd));
    talk(fd);

    fd = fresh("interrupted, and given up", 0);
    signal_soon(on_signal, 0, 0);
    RES(go(fd));
    CK(close(fd));
}

static void
restarted(void)
{
    int fd = fresh("a handler with SA_RESTART", 0);
    frees = true;
    signal_soon(on_signal, SA_RESTART, 0);
    RES(go(fd));
    say("signals %d\n", (int)signals);
    talk(fd);
}

/* Each call ends with the first signal that comes to it; one may have come just before. */
static void
many_signals(void)
{
    int fd = fresh("a signal every 20 ms", 0), calls = 0, late = 0, r;
    signal_soon(on_signal, 0, 20);
    while ((r = go(fd)) < 0 && errno == EINTR) {
        late += signals > 2;
        signals = 0;
        if (++calls == 5)
            order('e');
    }
    no_signal();
    say("connect = %d %s, interrupted %s, %d times too late\n", r, r ? strerrorname_np(errno) : "",
        calls > 5 ? "often" : "HARDLY", late);
    talk(fd);
}

static void
timed_out(void)
{
    struct timeval tv = {0, SOON_MS * 1000}, never = {0}, long_one = {20, 0};
    int fd = fresh("SO_SNDTIMEO", 0);
    CK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv));
    RES(go(fd));
    RES(go(fd));
    order('e');
    CK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &never, sizeof never));
    RES(go(fd));
    talk(fd);

    /* [signal(7)]: with a timeout no connect() starts again. */
    fd = fresh("SO_SNDTIMEO, and a handler with SA_RESTART", 0);
    CK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &long_one, sizeof long_one));
    signal_soon(on_signal, SA_RESTART, 0);
    RES(go(fd));
    order('e');
    RES(go(fd));
    talk(fd);
}

static void
left_by_a_jump(void)
{
    int fd = fresh("left by siglongjmp", 0);
    if (sigsetjmp(out, 1) == 0) {
        signal_soon(on_alarm_leave, 0, 0);
        RES(go(fd));
    } else {
        say("jumped\n");
    }
    app_nonblock(fd, 1);
    RES(go(fd));
    order('e');
    say("poll: %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
    talk(fd);
}

static void *
second(void *arg)
{
    int *p = arg;
    p[1] = go(p[0]) == 0 ? 0 : errno;
    return NULL;
}

static void
two_threads(void)
{
    pthread_t t;
    int p[2] = {fresh("two threads", 0), -1};
    MUST(pthread_create(&t, NULL, second, p) == 0);
    frees = true;
    signal_soon(on_signal, SA_RESTART, 0);
    RES(go(p[0]));
    MUST(pthread_join(t, NULL) == 0);
    say("the other: %d\n", p[1]);
    talk(p[0]);
}

static void
nonblocking(const char *what, uint32_t events)
{
    struct epoll_event e = {0};
    int fd = fresh(what, SOCK_NONBLOCK), ep = (int)CK(epoll_create1(0));
    RES(go(fd));
    RES(go(fd));
    if (events)
        app_epoll_add(ep, fd, events);
    say("poll: %s\n", app_events(app_poll(fd, POLLIN | POLLOUT, SOON_MS)));
    RES(go(fd));
    order('e');
    if (events) {
        RES(epoll_wait(ep, &e, 1, APP_WAIT));
        say("events %s\n", app_events(e.events));
    } else {
        say("poll: %s\n", app_events(app_poll(fd, POLLIN | POLLOUT, APP_WAIT)));
    }
    RES(go(fd));
    RES(go(fd));
    if (events & EPOLLET)
        RES(epoll_wait(ep, &e, 1, APP_QUIET));
    CK(close(ep));
    talk(fd);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    int port = strcmp(app_mode, "hole") == 0 ? 21030 : 21040, in[2];
    asked = at(port);
    gate = app_gate();
    CK(pipe(in));
    orders = in[1];
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        close(in[1]);
        serve(port, in[0]);
    }
    app_pass(gate);
    interrupted();
    restarted();
    many_signals();
    timed_out();
    left_by_a_jump();
    two_threads();
    nonblocking("poll", 0);
    nonblocking("epoll level", EPOLLIN | EPOLLOUT);
    nonblocking("epoll edge", EPOLLIN | EPOLLOUT | EPOLLET);
    CK(close(in[1]));
    CK(waitpid(pid, NULL, 0));
    return 0;
}
