/* SPDX-License-Identifier: Apache-2.0
 *
 * eintr: a blocking call and a signal. Without SA_RESTART recv, send, accept and connect-time waits
 * give EINTR; with it recv and accept go on; poll, select and epoll_wait always give EINTR; a
 * send that moved bytes gives their count; nothing is lost or doubled by any of it.
 */
/* run: modes thread fork */
/* run: notsan (it delays signals) */
#include "app.h"

static _Atomic int signals;
static int gate;

static void
on_signal(int sig)
{
    (void)sig;
    signals++;
}

static void
handle(int flags)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = flags};
    CK(sigaction(SIGUSR1, &sa, NULL));
    signals = 0;
}

struct pest {
    pthread_t target, thread;
    int stop, feed;
};

/* Signals the target every few ms until told to stop; after 5 that arrived, lets the peer send. */
static void *
pester(void *arg)
{
    struct pest *p = arg;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    while (!__atomic_load_n(&p->stop, __ATOMIC_ACQUIRE)) {
        pthread_kill(p->target, SIGUSR1);
        poll(NULL, 0, 5);
        if (p->feed && signals >= 5) {
            app_open(gate);
            p->feed = 0;
        }
    }
    return NULL;
}

static void
pest_start(struct pest *p, int feed)
{
    *p = (struct pest){.target = pthread_self(), .feed = feed};
    MUST(pthread_create(&p->thread, NULL, pester, p) == 0);
}

static void
pest_stop(struct pest *p)
{
    __atomic_store_n(&p->stop, 1, __ATOMIC_RELEASE);
    MUST(pthread_join(p->thread, NULL) == 0);
}

#define PESTERED(call)                                                                             \
    do {                                                                                           \
        struct pest p_;                                                                            \
        pest_start(&p_, 0);                                                                        \
        RES(call);                                                                                 \
        pest_stop(&p_);                                                                            \
    } while (0)

static void
interrupted(int fd)
{
    static char b[4 << 20];
    struct pollfd pfd = {.fd = fd, .events = POLLIN};
    struct epoll_event e = {0};
    struct iovec v = {b, 10};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    int ep = (int)CK(epoll_create1(0)), small = 65536;
    fd_set in;
    CK(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
    app_epoll_add(ep, fd, EPOLLIN);
    for (int restart = 0; restart < 2; restart++) {
        handle(restart ? SA_RESTART : 0);
        if (!restart) {
            PESTERED(recv(fd, b, 10, 0));
            PESTERED(read(fd, b, 10));
            PESTERED(recvmsg(fd, &m, 0));
            PESTERED(recv(fd, b, 10, MSG_WAITALL));
            PESTERED(recv(fd, b, 10, MSG_PEEK));
        }
        PESTERED(poll(&pfd, 1, APP_WAIT));
        PESTERED(epoll_wait(ep, &e, 1, APP_WAIT));
        FD_ZERO(&in);
        FD_SET(fd, &in);
        if (!restart)
            PESTERED(select(fd + 1, &in, NULL, NULL, NULL));
    }
    struct pest p;
    handle(SA_RESTART);
    pest_start(&p, 1);
    RES(recv(fd, b, 100, MSG_WAITALL));
    pest_stop(&p);
    say("match %zu, several signals %d\n", app_match(b, 100, 0), signals >= 5);
    handle(0);
    pest_start(&p, 1);
    size_t got = 0;
    while (got < 100) {
        ssize_t r = recv(fd, b + got, 100 - got, 0);
        MUST(r > 0 || errno == EINTR);
        got += r > 0 ? (size_t)r : 0;
    }
    pest_stop(&p);
    say("match %zu\n", app_match(b, 100, 0));

    /* A send that blocks is interrupted with the count of what went; the peer reads later. */
    app_fill(b, sizeof b, 0);
    size_t sent = 0;
    pest_start(&p, 0);
    ssize_t r = 0;
    while (sent < sizeof b && (r = send(fd, b + sent, sizeof b - sent, 0)) > 0)
        sent += (size_t)r;
    pest_stop(&p);
    say("send %s\n", r < 0 ? strerrorname_np(errno) : "took everything");
    app_open(gate);
    pest_start(&p, 0);
    while (sent < sizeof b) {
        r = send(fd, b + sent, sizeof b - sent, 0);
        MUST(r > 0 || errno == EINTR);
        sent += r > 0 ? (size_t)r : 0;
    }
    pest_stop(&p);
    say("sent %zu\n", sent);
    CK(shutdown(fd, SHUT_WR));
    RES(recv(fd, b, 1, 0));
    close(ep);
}

static void
peer(int fd)
{
    char b[100];
    app_fill(b, sizeof b, 0);
    for (int i = 0; i < 2; i++) {
        app_pass(gate);
        app_put(fd, b, sizeof b);
    }
    app_pass(gate);
    app_drain(fd, 0);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    gate = app_gate();
    int lfd = app_listen();
    handle(0);
    PESTERED(accept(lfd, NULL, NULL));
    close(lfd);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    struct timespec ts = {0, 50000000};
    struct pollfd none = {.fd = -1};
    app_talk("signals", interrupted, peer);
    handle(0);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    say("blocked: %d signals\n", (int)signals);
    RES(ppoll(&none, 1, &ts, &set));
    sigemptyset(&set);
    RES(ppoll(&none, 1, &ts, &set));
    say("unblocked by ppoll: %d signals\n", (int)signals);
    return 0;
}
