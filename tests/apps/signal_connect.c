/* SPDX-License-Identifier: Apache-2.0
 *
 * signal_connect: signals hit two threads that allocate and free without pause, most often inside malloc,
 * and the handler makes whole connections: connect and accept may be called there [signal-safety(7)].
 * connect: the handler connects, sends, receives and closes. accept: it serves who is waiting.
 * above: as connect, but the threads make connections too, so the handler stands above a connect, a recv
 * or a close in the same thread.
 */
/* run: modes connect accept above */
/* run: timeout 60 */
#include "app.h"

#include <stdatomic.h>

#define THREADS 2
#define TARGET  400 /* connections in handlers */

static int lfd;
static atomic_int made, wrong;
static atomic_int over;
static pthread_t thread[THREADS];

static int
client(void)
{
    char b[4] = "";
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int bad = fd < 0 || connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) != 0 ||
              send(fd, "abc", 3, 0) != 3 || recv(fd, b, 3, MSG_WAITALL) != 3 || memcmp(b, "abc", 3) != 0;
    return (fd >= 0 && close(fd) != 0) || bad;
}

static int
server(int fd)
{
    char b[3];
    int bad = recv(fd, b, 3, MSG_WAITALL) != 3 || send(fd, b, 3, 0) != 3;
    return close(fd) != 0 || bad;
}

static void
on_signal(int sig)
{
    int saved = errno, fd = -1;
    (void)sig;
    if (over)
        return;
    if (strcmp(app_mode, "accept") == 0) {
        fd = accept(lfd, NULL, NULL); /* non-blocking: another thread may be quicker */
        if (fd >= 0)
            fcntl(fd, F_SETFL, 0);
        wrong += fd >= 0 ? server(fd) : errno != EAGAIN;
    } else {
        wrong += client();
    }
    made += strcmp(app_mode, "accept") != 0 || fd >= 0;
    errno = saved;
}

static void *
work(void *arg)
{
    void *p[64] = {NULL};
    unsigned r = (unsigned)(uintptr_t)arg;
    while (!over) {
        for (int i = 0; i < 1000; i++) {
            r = r * 1664525 + 1013904223;
            void **q = &p[r >> 26];
            size_t n = (r >> 8) % 20000 + 1; /* most of them beyond what a thread keeps for itself */
            void *t = r & 64 ? realloc(*q, n) : (free(*q), malloc(n));
            *q = t;
            *(char *)t = 1;
        }
        if (strcmp(app_mode, "above") == 0)
            wrong += client();
    }
    for (int i = 0; i < 64; i++)
        free(p[i]);
    return NULL;
}

/* The other end of all connections. Each on its own: a client may wait for another one that its handler
 * is making. */
static void
serve(int stop)
{
    struct pollfd p[64] = {{stop, POLLIN, 0}, {lfd, POLLIN, 0}};
    nfds_t n = 2;
    char b[3];
    while (CK(poll(p, n, -1)) > 0 && !p[0].revents) {
        int fd = p[1].revents ? accept(lfd, NULL, NULL) : -1;
        for (nfds_t i = 2; i < n; i++) {
            if (!p[i].revents)
                continue;
            ssize_t r = recv(p[i].fd, b, sizeof b, MSG_WAITALL);
            if (r == 3 && send(p[i].fd, b, 3, 0) == 3)
                continue;
            close(p[i].fd);
            p[i--] = p[--n];
        }
        if (fd >= 0) {
            fcntl(fd, F_SETFL, 0);
            p[n++] = (struct pollfd){fd, POLLIN, 0};
            MUST(n < 64);
        }
    }
}

static void
ask(int stop)
{
    close(lfd); /* who waits when no more are accepted is to be told so */
    while (app_poll(stop, POLLIN, 0) == 0)
        (void)client();
}

int
main(int argc, char **argv)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct app_task t;
    int a, b, stop[2];
    app_main(argc, argv);
    app_pair(&a, &b); /* libmesh's own beginning is another matter */
    lfd = app_listen();
    CK(fcntl(lfd, F_SETFL, O_NONBLOCK));
    CK(pipe2(stop, O_CLOEXEC));
    app_start_fork(&t, strcmp(app_mode, "accept") == 0 ? ask : serve, stop[0]);
    CK(sigaction(SIGALRM, &sa, NULL));
    for (uintptr_t i = 0; i < THREADS; i++)
        MUST(pthread_create(&thread[i], NULL, work, (void *)(i + 1)) == 0);
    for (int i = 0; made < TARGET; i++) {
        MUST(pthread_kill(thread[i % THREADS], SIGALRM) == 0);
        usleep(500);
    }
    over = 1;
    for (int i = 0; i < THREADS; i++)
        MUST(pthread_join(thread[i], NULL) == 0);
    say("wrong %d\n", wrong);
    CK(write(stop[1], "", 1));
    CK(close(lfd));
    CK(waitpid(t.pid, NULL, 0));
    return 0;
}
