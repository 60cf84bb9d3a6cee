/* SPDX-License-Identifier: Apache-2.0
 *
 * app: what the test programs share. They know nothing of the mesh: sockets, threads, forks.
 * A program prints what calls returned and what bytes arrived, never a port, pid or time, so that
 * two runs can be compared line by line; the runner compares a bare one with a meshed one.
 *
 * Every side of a test writes its lines into a log of its own (say, RES); the logs are printed one
 * after the other, so the transcript does not depend on how threads and processes interleave.
 * Bytes come from app_fill: position-dependent, with PLAINMARKER at every 256th position, which
 * the wire check looks for.
 *
 * Lines that the runner reads at the head of a program:
 *   run: modes A B    runs it once with each argument (default: once, no argument)
 *   run: nomesh MODE  no mesh connection is expected in that mode (default: all)
 *   run: strace       the system calls must be equal, between access("/app/trace/begin", ...) and end
 *   run: timeout N    seconds on an idle machine (default 30)
 *   run: config TEXT  what meshd's configuration holds
 *   run: kills        processes die while they change a connection: that may be counted
 *   run: notsan MODE  that mode (default: all) is left out under the thread sanitizer
 *   run: noasan MODE  the same under the address sanitizer
 *   cc: FLAGS         further compiler flags
 */
#ifndef APP_H
#define APP_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define APP_FN static __attribute__((unused))
#define APP_SILENT 7777 /* an errno that no call sets */
#define APP_WAIT 60000  /* ms; longer than anything that works takes, on a busy machine too */
#define APP_QUIET 60    /* ms of silence that must follow, where silence is the subject */

static __thread FILE *app_log;

/* Line by line, so that a run that hangs shows how far it came. */
__attribute__((constructor)) static void
app_init(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
}

APP_FN __attribute__((format(printf, 1, 2))) void
say(const char *fmt, ...)
{
    int keep = errno;
    va_list ap;
    va_start(ap, fmt);
    vfprintf(app_log ? app_log : stdout, fmt, ap);
    va_end(ap);
    errno = keep;
}

APP_FN __attribute__((noreturn)) void
app_die(const char *file, int line, const char *what)
{
    int keep = errno;
    if (app_log)
        fflush(app_log);
    printf("FAILED %s:%d %s: %s\n", file, line, what, strerrorname_np(keep));
    fflush(stdout);
    _exit(1);
}

/* A call that must work: stops the program otherwise. */
#define CK(call)                                                                                   \
    ({                                                                                             \
        long ck_r_ = (long)(call);                                                                 \
        if (ck_r_ < 0)                                                                             \
            app_die(__FILE__, __LINE__, #call);                                                    \
        ck_r_;                                                                                     \
    })
#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond))                                                                               \
            app_die(__FILE__, __LINE__, #cond);                                                    \
    } while (0)

APP_FN long
app_res(const char *text, long r)
{
    int e = errno;
    if (r < 0)
        say("%s = -1 %s\n", text, strerrorname_np(e));
    else
        say("%s = %ld%s\n", text, r, e == APP_SILENT ? "" : " and errno was touched");
    errno = e;
    return r;
}

/* A call whose result belongs into the transcript: value, or errno by name; success must leave
 * errno alone. */
#define RES(call) app_res(#call, (errno = APP_SILENT, (long)(call)))

/* ---- bytes ---- */

APP_FN unsigned char
app_byte(uint64_t pos)
{
    uint32_t in = (uint32_t)(pos & 255);
    if (in < 11)
        return (unsigned char)"PLAINMARKER"[in];
    uint64_t x = pos * UINT64_C(0x9E3779B97F4A7C15);
    return (unsigned char)(x >> 56);
}

APP_FN void
app_fill(void *buf, size_t n, uint64_t pos)
{
    for (size_t i = 0; i < n; i++)
        ((unsigned char *)buf)[i] = app_byte(pos + i);
}

/* Number of the first byte that is not what app_fill writes, or n. */
APP_FN size_t
app_match(const void *buf, size_t n, uint64_t pos)
{
    for (size_t i = 0; i < n; i++)
        if (((const unsigned char *)buf)[i] != app_byte(pos + i))
            return i;
    return n;
}

APP_FN uint64_t
app_hash(const void *buf, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const unsigned char *)buf)[i]) * UINT64_C(0x100000001b3);
    return h;
}

APP_FN uint32_t
app_rand(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

APP_FN void
app_put(int fd, const void *buf, size_t n)
{
    const char *p = buf;
    while (n) {
        ssize_t r = CK(write(fd, p, n));
        p += r;
        n -= (size_t)r;
    }
}

/* Reads n bytes or to the end; returns how many came. */
APP_FN size_t
app_get(int fd, void *buf, size_t n)
{
    size_t got = 0;
    while (got < n) {
        ssize_t r = CK(read(fd, (char *)buf + got, n - got));
        if (r == 0)
            break;
        got += (size_t)r;
    }
    return got;
}

/* Reads to the end, checks every byte against app_fill from pos on; says the count. */
APP_FN void
app_drain(int fd, uint64_t pos)
{
    static __thread char buf[65536];
    size_t total = 0;
    int wrong = 0;
    ssize_t r = 0;
    while ((r = read(fd, buf, sizeof buf)) > 0) {
        wrong |= app_match(buf, (size_t)r, pos + total) != (size_t)r;
        total += (size_t)r;
    }
    say("drained %zu bytes%s, then %s\n", total, wrong ? " WRONG" : "",
        r == 0 ? "EOF" : strerrorname_np(errno));
}

/* ---- readiness ---- */

/* The same bits have the same names for poll and epoll. */
APP_FN const char *
app_events(unsigned ev)
{
    static __thread char s[64];
    s[0] = 0;
    if (ev & POLLIN)
        strcat(s, "|IN");
    if (ev & POLLPRI)
        strcat(s, "|PRI");
    if (ev & POLLOUT)
        strcat(s, "|OUT");
    if (ev & POLLERR)
        strcat(s, "|ERR");
    if (ev & POLLHUP)
        strcat(s, "|HUP");
    if (ev & POLLNVAL)
        strcat(s, "|NVAL");
    if (ev & POLLRDHUP)
        strcat(s, "|RDHUP");
    return s[0] ? s + 1 : "none";
}

/* Polls and returns revents; 0 for a timeout. */
APP_FN unsigned
app_poll(int fd, int events, int ms)
{
    struct pollfd p = {.fd = fd, .events = (short)events};
    CK(poll(&p, 1, ms));
    return (unsigned short)p.revents;
}

/* Waits until the connection is over both ways: a reset tells its error first, and then that [tcp_reset]. */
APP_FN void
app_hung_up(int fd)
{
    while (!(app_poll(fd, POLLRDHUP, APP_WAIT) & POLLHUP))
        ;
}

/* Waits until FIONREAD is at least n. The wait is for arrival; the caller prints what it is
 * then. */
APP_FN int
app_arrived(int fd, int n)
{
    int have = 0;
    for (int i = 0; i < APP_WAIT; i++) {
        CK(ioctl(fd, FIONREAD, &have));
        if (have >= n)
            break;
        CK(poll(NULL, 0, 1));
    }
    return have;
}

APP_FN int
app_so_error(int fd)
{
    int e = 0;
    socklen_t l = sizeof e;
    CK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &l));
    return e;
}

APP_FN const char *
app_so_error_name(int fd)
{
    return strerrorname_np(app_so_error(fd));
}

APP_FN void
app_nonblock(int fd, int on)
{
    int fl = (int)CK(fcntl(fd, F_GETFL));
    CK(fcntl(fd, F_SETFL, on ? fl | O_NONBLOCK : fl & ~O_NONBLOCK));
}

APP_FN void
app_epoll_add(int ep, int fd, unsigned events)
{
    struct epoll_event e = {.events = events, .data.fd = fd};
    CK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
}

/* ---- sockets ---- */

static struct sockaddr_in app_addr; /* of the newest app_listen */

APP_FN int
app_listen_at(uint32_t ip, int backlog, struct sockaddr_in *at)
{
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    socklen_t len = sizeof *at;
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(ip)};
    CK(bind(fd, (struct sockaddr *)at, len));
    CK(listen(fd, backlog));
    CK(getsockname(fd, (struct sockaddr *)at, &len));
    return fd;
}

APP_FN int
app_listen(void)
{
    return app_listen_at(INADDR_LOOPBACK, 128, &app_addr);
}

APP_FN int
app_connect(void)
{
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    CK(connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr));
    return fd;
}

/* ---- the two sides of a test ---- */

static const char *app_mode = ""; /* argv[1]: "thread", "fork", or the program's own */

APP_FN void
app_main(int argc, char **argv)
{
    if (argc > 1)
        app_mode = argv[1];
}

typedef void app_side(int fd);

struct app_task {
    app_side *fn;
    int fd;
    char *log;
    size_t len;
    pthread_t thread;
    pid_t pid; /* 0: a thread */
    int pipe;
};

APP_FN void *
app_task_thread(void *arg)
{
    struct app_task *t = arg;
    app_log = open_memstream(&t->log, &t->len);
    t->fn(t->fd);
    fclose(app_log);
    app_log = NULL;
    return NULL;
}

APP_FN void
app_start_thread(struct app_task *t, app_side *fn, int fd)
{
    *t = (struct app_task){.fn = fn, .fd = fd};
    MUST(pthread_create(&t->thread, NULL, app_task_thread, t) == 0);
}

APP_FN void
app_start_fork(struct app_task *t, app_side *fn, int fd)
{
    int p[2];
    *t = (struct app_task){.fn = fn, .fd = fd};
    CK(pipe(p));
    fflush(stdout);
    t->pid = (pid_t)CK(fork());
    if (t->pid == 0) {
        close(p[0]);
        app_task_thread(t);
        app_put(p[1], t->log, t->len);
        exit(0);
    }
    close(p[1]);
    t->pipe = p[0];
}

APP_FN void
app_start(struct app_task *t, app_side *fn, int fd)
{
    if (strcmp(app_mode, "fork") == 0)
        app_start_fork(t, fn, fd);
    else
        app_start_thread(t, fn, fd);
}

/* Waits for a side and prints its log, every line after "who: ". */
APP_FN void
app_join(struct app_task *t, const char *who)
{
    if (t->pid) {
        int st = 0;
        t->log = malloc(65536);
        MUST(t->log);
        t->len = app_get(t->pipe, t->log, 65535);
        t->log[t->len] = 0;
        close(t->pipe);
        CK(waitpid(t->pid, &st, 0));
        if (st)
            say("%s: status %x\n", who, (unsigned)st);
    } else {
        MUST(pthread_join(t->thread, NULL) == 0);
    }
    for (char *save = NULL, *l = strtok_r(t->log, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
        say("%s: %s\n", who, l);
    free(t->log);
}

/* A connection with one side each: the server accepts and runs, the client connects and runs. */
static app_side *app_server_side, *app_client_side;

APP_FN void
app_accept_run(int lfd)
{
    int fd = (int)CK(accept(lfd, NULL, NULL));
    app_server_side(fd);
    close(fd);
}

APP_FN void
app_connect_run(int lfd)
{
    if (strcmp(app_mode, "fork") == 0)
        close(lfd);
    int fd = app_connect();
    app_client_side(fd);
    close(fd);
}

APP_FN void
app_talk(const char *name, app_side *server, app_side *client)
{
    struct app_task t;
    int lfd = app_listen();
    say("-- %s\n", name);
    app_server_side = server;
    app_client_side = client;
    app_start(&t, app_connect_run, lfd);
    app_accept_run(lfd);
    app_join(&t, "client");
    close(lfd);
}

/* Both ends in this thread's hands, a thread having accepted meanwhile. */
APP_FN void *
app_pair_accept(void *arg)
{
    int *p = arg;
    p[1] = (int)CK(accept(p[0], NULL, NULL));
    return NULL;
}

APP_FN void
app_pair(int *client, int *server)
{
    pthread_t t;
    int p[2] = {app_listen(), -1};
    MUST(pthread_create(&t, NULL, app_pair_accept, p) == 0);
    *client = app_connect();
    MUST(pthread_join(t, NULL) == 0);
    *server = p[1];
    close(p[0]);
}

/* Both directions of a connection whose ends are both in this thread's hands. */
APP_FN void
app_both_ways(int a, int b)
{
    char buf[5000];
    for (int i = 0; i < 2; i++) {
        app_fill(buf, sizeof buf, 0);
        app_put(i ? a : b, buf, sizeof buf);
        size_t n = app_get(i ? b : a, buf, sizeof buf);
        say("match %zu of %zu\n", app_match(buf, n, 0), n);
    }
}

APP_FN int64_t
app_ms(void)
{
    struct timespec ts;
    CK(clock_gettime(CLOCK_MONOTONIC, &ts));
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Gates order the sides where the order is the subject. An eventfd: works across fork too. */
APP_FN int
app_gate(void)
{
    return (int)CK(eventfd(0, EFD_SEMAPHORE));
}

APP_FN void
app_open(int gate)
{
    uint64_t one = 1;
    MUST(write(gate, &one, 8) == 8);
}

APP_FN void
app_pass(int gate)
{
    uint64_t v = 0;
    MUST(app_poll(gate, POLLIN, APP_WAIT) == POLLIN);
    MUST(read(gate, &v, 8) == 8);
}

#endif
