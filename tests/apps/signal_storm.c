/* SPDX-License-Identifier: Apache-2.0
 *
 * signal_storm: an interval timer fires all the time while connections are made, used and closed.
 * restart: a handler with SA_RESTART; no call may show it. eintr: without; calls show EINTR or not, and
 * no byte is lost. other: the handler itself sends, receives, connects and closes, on connections that
 * the main code does not use: all of it works. same: the handler sends and receives on the connection
 * that the main code is using: what it was told to have gone has gone, nothing hangs.
 */
/* run: modes restart eintr other same */
/* run: timeout 60 */
#include "app.h"

#define TOTAL 3000000
#define ROUNDS 100 /* connections, at least */

static volatile sig_atomic_t fires;
static int own_c = -1, own_s = -1, lfd, shared = -1;
static volatile int bad, extra;

static void
use_others(void)
{
    char b[4] = "";
    if (send(own_c, "abc", 3, 0) != 3 || recv(own_s, b, 3, MSG_WAITALL) != 3 || memcmp(b, "abc", 3))
        bad++;
    if (fires % 16 == 0) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) != 0 || close(fd) != 0)
            bad++;
    }
}

static void
on_timer(int sig)
{
    int saved = errno;
    (void)sig;
    fires++;
    if (strcmp(app_mode, "other") == 0)
        use_others();
    if (shared >= 0) {
        char b;
        if (send(shared, "+", 1, MSG_DONTWAIT) == 1)
            extra++;
        if (recv(shared, &b, 1, MSG_DONTWAIT) == 0)
            bad++;
    }
    errno = saved;
}

static void
timer(int us)
{
    struct itimerval it = {.it_interval.tv_usec = us, .it_value.tv_usec = us};
    CK(setitimer(ITIMER_REAL, &it, NULL));
}

/* EINTR is no surprise where handlers do not restart. */
#define AGAIN(call)                                                                                \
    ({                                                                                             \
        long a_r_;                                                                                 \
        do                                                                                         \
            a_r_ = (long)(call);                                                                   \
        while (a_r_ < 0 && errno == EINTR && strcmp(app_mode, "eintr") == 0);                      \
        CK(a_r_);                                                                                  \
    })

/* An interrupted connect goes on [connect(2)]. */
static int
connected(void)
{
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    if (connect(fd, (struct sockaddr *)&app_addr, sizeof app_addr) != 0) {
        MUST(errno == EINTR && strcmp(app_mode, "eintr") == 0);
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        while (AGAIN(poll(&p, 1, 0)) == 0)
            ;
        MUST(app_so_error(fd) == 0);
    }
    return fd;
}

static void
connections(void)
{
    char b[100];
    for (int i = 0; i < ROUNDS || fires <= 3; i++) { /* the machine may be busy: then few signals come */
        int fd = connected();
        app_fill(b, sizeof b, 0);
        MUST(AGAIN(send(fd, b, sizeof b, 0)) == sizeof b);
        for (size_t n = 0; n < sizeof b;)
            n += (size_t)AGAIN(recv(fd, b + n, sizeof b - n, 0));
        MUST(app_match(b, sizeof b, 0) == sizeof b);
        CK(close(fd));
    }
    say("%d connections, or more\n", ROUNDS);
}

static void
bulk(void)
{
    static char b[50000], in[50000];
    size_t sent = 0;
    int fd = connected();
    shared = strcmp(app_mode, "same") == 0 ? fd : -1;
    memset(b, '.', sizeof b);
    while (sent < TOTAL) {
        size_t n = TOTAL - sent < sizeof b ? TOTAL - sent : sizeof b;
        for (size_t at = 0; at < n;) {
            ssize_t r = send(fd, b + at, n - at, 0);
            if (r < 0 && ((errno == EINTR && strcmp(app_mode, "eintr") == 0) ||
                          (errno == EAGAIN && shared >= 0)))
                continue;
            at += (size_t)CK(r);
        }
        sent += n;
        while (recv(fd, in, sizeof in, MSG_DONTWAIT) > 0)
            ;
    }
    timer(0);
    shared = -1;
    CK(shutdown(fd, SHUT_WR));
    while (AGAIN(recv(fd, in, sizeof in, 0)) > 0)
        ;
    close(fd);
}

/* Echoes; of the last one it counts. */
static void
peer(int l)
{
    static char b[65536];
    size_t dots = 0, plus = 0;
    for (;;) {
        ssize_t r;
        int fd = (int)CK(accept(l, NULL, NULL));
        dots = plus = 0;
        while ((r = read(fd, b, sizeof b)) > 0) {
            for (ssize_t i = 0; i < r; i++) {
                dots += b[i] == '.';
                plus += b[i] == '+';
            }
            if (dots == 0 || dots % 3 == 0)
                app_put(fd, b, (size_t)(r > 100 ? 100 : r));
        }
        close(fd);
        if (dots >= TOTAL)
            break;
    }
    say("%zu of the program's\n%zu of the handler's\n", dots, plus);
}

int
main(int argc, char **argv)
{
    struct app_task t;
    struct sigaction sa = {.sa_handler = on_timer};
    app_main(argc, argv);
    sa.sa_flags = strcmp(app_mode, "eintr") == 0 ? 0 : SA_RESTART;
    app_pair(&own_c, &own_s);
    lfd = app_listen();
    app_start_fork(&t, peer, lfd);
    CK(sigaction(SIGALRM, &sa, NULL));
    sa.sa_flags = 0; /* as of those who report crashes */
    CK(sigaction(SIGSEGV, &sa, NULL));
    timer(1000);
    connections();
    bulk();
    say("the signals came %d, wrong %d\n", fires > 3, bad);
    t.log = malloc(1000);
    t.len = app_get(t.pipe, t.log, 999);
    t.log[t.len] = 0;
    size_t dots, plus;
    MUST(sscanf(t.log, "%zu of the program's\n%zu of", &dots, &plus) == 2);
    say("all of the program's %d, of the handler's %d\n", dots == TOTAL, (int)plus == extra);
    CK(waitpid(t.pid, NULL, 0));
    return 0;
}
