/* SPDX-License-Identifier: Apache-2.0
 *
 * epoll_closed: what is closed is in no set any more [epoll(7)], whatever its connection still has to send: nothing of it
 * is told afterwards. `full`: of a socket that took no more. `early`: of one that connects. `asleep`: while another
 * thread sleeps on the set, which was told of all that there is: it is not woken.
 */
/* run: modes full early asleep */
#include "app.h"

#define ALL (EPOLLIN | EPOLLOUT | EPOLLRDHUP)
#define ROUNDS 100

static int gate;
static size_t written;

static void
quiet(int ep)
{
    struct epoll_event e;
    say("events %d\n", (int)CK(epoll_wait(ep, &e, 1, APP_QUIET)));
}

static void
reader(int lfd)
{
    static char b[65536];
    int fd = (int)CK(accept(lfd, NULL, NULL));
    size_t n = 0;
    ssize_t r;
    app_pass(gate);
    (void)send(fd, "x", 1, MSG_NOSIGNAL); /* nobody is there to read it */
    while ((r = read(fd, b, sizeof b)) > 0)
        n += (size_t)r;
    MUST(n > 0);
    CK(close(fd));
}

static void
full(int ep, int lfd)
{
    static char b[65536];
    struct app_task t;
    app_start_fork(&t, reader, lfd);
    int fd = app_connect();
    app_nonblock(fd, 1);
    app_epoll_add(ep, fd, ALL);
    app_fill(b, sizeof b, 0);
    ssize_t r;
    while ((r = write(fd, b, sizeof b)) > 0)
        written += (size_t)r;
    MUST(r < 0 && errno == EAGAIN && written > 0);
    CK(close(fd));
    quiet(ep);
    app_open(gate);
    quiet(ep);
    quiet(ep);
    app_join(&t, "reader");
}

static void
early(int ep, int lfd)
{
    struct app_task t;
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    MUST(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) < 0 && errno == EINPROGRESS);
    app_epoll_add(ep, fd, ALL);
    say("poll %s\n", app_events(app_poll(fd, POLLOUT, APP_WAIT)));
    app_put(fd, "hello", 5);
    CK(close(fd));
    quiet(ep);
    app_start_fork(&t, reader, lfd);
    app_open(gate);
    quiet(ep);
    app_join(&t, "reader");
}

static _Atomic int told;
static int set;

static void *
sleeper(void *arg)
{
    struct epoll_event e;
    (void)arg;
    while (CK(epoll_wait(set, &e, 1, -1)) == 1 && e.data.fd >= 0)
        told++;
    return NULL;
}

static void
readers(int lfd)
{
    for (int i = 0; i < ROUNDS; i++)
        reader(lfd);
}

static void
asleep(int ep, int lfd)
{
    struct app_task t;
    struct epoll_event stop = {.events = EPOLLIN, .data.fd = -1};
    pthread_t id;
    int end[2];
    set = ep;
    app_start_fork(&t, readers, lfd);
    MUST(pipe(end) == 0 && pthread_create(&id, NULL, sleeper, NULL) == 0);
    for (int i = 1; i <= ROUNDS; i++) {
        int fd = app_connect();
        app_nonblock(fd, 1);
        app_epoll_add(ep, fd, ALL | EPOLLET);
        while (told < i)
            usleep(1000); /* asleep again */
        app_put(fd, "hello", 5);
        CK(close(fd));
        app_open(gate);
    }
    app_join(&t, "reader");
    usleep(APP_QUIET * 1000);
    say("told %d\n", told);
    CK(epoll_ctl(ep, EPOLL_CTL_ADD, end[0], &stop));
    CK(write(end[1], "x", 1));
    MUST(pthread_join(id, NULL) == 0);
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    gate = app_gate();
    int lfd = app_listen(), ep = (int)CK(epoll_create1(0));
    fflush(NULL);
    (strcmp(app_mode, "full") == 0 ? full : strcmp(app_mode, "early") == 0 ? early : asleep)(ep, lfd);
    return 0;
}
