/* SPDX-License-Identifier: Apache-2.0
 *
 * client: plain programs that know nothing of the mesh, for tests/limits/run. What they saw is a `key value` a
 * line.
 *
 *   client server                         echoes; prints its port, then `end ERRNO` for each connection
 *   client nbserver                       the same with one thread and a listener that does not block
 *   client pollserver                     the same with a listener that blocks, and is polled
 *   client HOW ADDRESS PORT BYTES [ROUND] connects, sends BYTES (in pieces of ROUND) and reads them back
 *   client many ADDRESS PORT N            N connections that stay: how many answer, and errnos of the rest
 *   client rest HOW ADDRESS PORT MS       talks once, rests for MS, talks once more, then waits for the end
 *   client moved HOW ADDRESS PORT MS      the same, under another number after the first time; no epoll
 *   client pulse ADDRESS PORT             connects; for each line that it reads it sends a byte and has it back
 *   client options ADDRESS PORT [own | times]   connects and says which options it sees; it has set some, or
 *                                         only a time of keepalive that is not switched on
 *
 * HOW: block, poll, select, level, edge.
 */
#include "app.h"

#include <stdbool.h>

enum how { BLOCK, POLL, SELECT, LEVEL, EDGE };
static const char *const names[] = {"block", "poll", "select", "level", "edge"};
static int ep = -1;
static unsigned waits, ticks;
static double slowest; /* call, in ms */

static double
now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static void
took(double since)
{
    slowest = now_ms() - since > slowest ? now_ms() - since : slowest;
}

static const char *
name_of(int no)
{
    return no ? strerrorname_np(no) : "0";
}

/* Until fd has one of the events, looking up every 50 ms as programs with timers do. */
static unsigned
wait_for(enum how how, int fd, unsigned want)
{
    for (double end = now_ms() + 30000; now_ms() < end;) {
        struct pollfd p = {fd, (short)want, 0};
        struct timeval tv = {0, 50000};
        struct epoll_event e = {.events = want | (how == EDGE ? (unsigned)EPOLLET : 0), .data.fd = fd};
        fd_set in, out;
        int n = 0;
        FD_ZERO(&in);
        FD_ZERO(&out);
        if (how == SELECT) {
            if (want & POLLIN)
                FD_SET(fd, &in);
            if (want & POLLOUT)
                FD_SET(fd, &out);
            n = select(fd + 1, &in, &out, NULL, &tv);
            p.revents = (short)((FD_ISSET(fd, &in) ? POLLIN : 0) | (FD_ISSET(fd, &out) ? POLLOUT : 0));
        } else if (how == POLL) {
            n = poll(&p, 1, 50);
        } else {
            if (how == LEVEL)
                CK(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
            n = epoll_wait(ep, &e, 1, 50);
            p.revents = (short)e.events;
        }
        waits++;
        ticks += n == 0;
        if (n > 0)
            return (unsigned)p.revents & 0xffff;
    }
    printf("stalled 1\n");
    exit(1);
}

static int
begin(enum how how, const char *ip, int port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t len = sizeof(int);
    inet_pton(AF_INET, ip, &sa.sin_addr);
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM | (how == BLOCK ? 0 : SOCK_NONBLOCK), 0));
    double start = now_ms();
    if (how >= LEVEL) { /* before connect, as many do */
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | (how == EDGE ? (unsigned)EPOLLET : 0), .data.fd = fd};
        ep = (int)CK(epoll_create1(0));
        CK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
        epoll_wait(ep, &e, 1, 0); /* that it is not connected */
    }
    int r = connect(fd, (struct sockaddr *)&sa, sizeof sa), no = r < 0 ? errno : 0;
    if (how != BLOCK)
        took(start);
    printf("connect %s\n", name_of(no));
    if (no == EINPROGRESS) {
        unsigned ev = wait_for(how, fd, POLLOUT | POLLIN);
        printf("events %s\n", app_events(ev));
        CK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &no, &len));
    }
    printf("connected %s\nms %.0f\nticks %u\n", name_of(no), now_ms() - start, ticks);
    if (no)
        exit(0);
    return fd;
}

static size_t sent, got, biggest, wrong;
static int send_no, recv_no;

static void
push(enum how how, int fd, size_t total, size_t piece)
{
    static char b[1 << 16];
    while (sent < total && !send_no) {
        size_t n = total - sent < piece ? total - sent : piece;
        app_fill(b, n, sent);
        double start = now_ms();
        ssize_t r = send(fd, b, n, MSG_NOSIGNAL);
        if (how != BLOCK)
            took(start);
        if (r < 0 && errno == EAGAIN)
            return;
        send_no = r < 0 ? errno : 0;
        sent += r > 0 ? (size_t)r : 0;
        biggest = r > 0 && (size_t)r > biggest ? (size_t)r : biggest;
        if (r >= 0 && (size_t)r < n && how != BLOCK)
            return; /* full, as far as a program knows */
    }
}

/* A read that brings less than it asked for says that nothing is left. */
static bool
pull(enum how how, int fd)
{
    static char b[1 << 16];
    for (;;) {
        double start = now_ms();
        ssize_t r = recv(fd, b, sizeof b, 0);
        if (how != BLOCK)
            took(start);
        if (r < 0 && errno == EAGAIN)
            return true;
        recv_no = r < 0 ? errno : 0;
        if (r <= 0)
            return false;
        wrong += app_match(b, (size_t)r, got) != (size_t)r;
        got += (size_t)r;
        if (how == BLOCK || (size_t)r < sizeof b)
            return true;
    }
}

static void
epoll_register(unsigned events, int fd)
{
    struct epoll_event e = {.events = events | EPOLLET, .data.fd = fd};
    CK(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
}

static void
exchange(enum how how, int fd, size_t total, size_t piece)
{
    double start = now_ms();
    bool alive = true, once = how == EDGE && total <= 20000; /* what comes back fits into buffers */
    if (once) { /* nothing but room wakes it */
        epoll_register(EPOLLOUT, fd);
    }
    while (alive && got < total) {
        if (once && (sent == total || send_no)) {
            epoll_register(EPOLLIN, fd);
            once = false;
        }
        if (how == BLOCK) {
            size_t end = sent + piece < total ? sent + piece : total;
            push(how, fd, end, piece);
        } else {
            unsigned ev = sent < total && !send_no ? POLLIN | POLLOUT : POLLIN;
            ev = sent == 0 ? POLLOUT : wait_for(how, fd, ev);
            if (ev & POLLOUT)
                push(how, fd, total, piece);
            if (!(ev & (POLLIN | POLLHUP | POLLERR)))
                continue;
        }
        alive = pull(how, fd);
    }
    printf("sent %zu\nreceived %zu\nwrong %zu\nbiggest %zu\nsend_error %s\nrecv_error %s\nwaits %u\ntook %.0f\n",
           sent, got, wrong, biggest, name_of(send_no), name_of(recv_no), waits, now_ms() - start);
    if (!alive) {
        char b[8];
        ssize_t r = recv(fd, b, sizeof b, 0);
        printf("recv_again %zd %s\n", r, name_of(r < 0 ? errno : 0));
        r = send(fd, b, 1, MSG_NOSIGNAL);
        printf("send_again %zd %s\n", r, name_of(r < 0 ? errno : 0));
    }
    CK(close(fd));
}

static void *
echo(void *arg)
{
    static char b[16][1 << 16];
    static _Atomic unsigned next;
    char *mine = b[next++ % 16];
    int fd = (int)(intptr_t)arg, no = 0;
    ssize_t n, r = 0;
    while ((n = recv(fd, mine, 1 << 16, 0)) > 0)
        for (ssize_t at = 0; at < n && r >= 0; at += r)
            if ((r = send(fd, mine + at, (size_t)(n - at), MSG_NOSIGNAL)) < 0)
                no = errno;
    no = n < 0 ? errno : no;
    printf("end %s\n", name_of(no));
    close(fd);
    return NULL;
}

static void
server(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    CK(bind(fd, (struct sockaddr *)&sa, sizeof sa));
    CK(listen(fd, 100));
    CK(getsockname(fd, (struct sockaddr *)&sa, &len));
    printf("port %u\n", ntohs(sa.sin_port));
    for (;;) {
        pthread_t t;
        int c = accept(fd, NULL, NULL);
        printf("accepted\n");
        if (c >= 0 && pthread_create(&t, NULL, echo, (void *)(intptr_t)c) == 0)
            pthread_detach(t);
    }
}

/* Each connection says one thing. */
static void
nbserver(int nonblock)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    struct pollfd p[64];
    nfds_t n = 1;
    p[0] = (struct pollfd){(int)CK(socket(AF_INET, SOCK_STREAM | nonblock, 0)), POLLIN, 0};
    CK(bind(p[0].fd, (struct sockaddr *)&sa, sizeof sa));
    CK(listen(p[0].fd, 100));
    CK(getsockname(p[0].fd, (struct sockaddr *)&sa, &len));
    printf("port %u\n", ntohs(sa.sin_port));
    while (poll(p, n, -1) >= 0) {
        char b[64];
        int c;
        while (p[0].revents && n < 64 && (c = accept4(p[0].fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
            printf("accepted\n");
            p[n++] = (struct pollfd){c, POLLIN, 0};
            if (!nonblock)
                break;
        }
        if (p[0].revents && nonblock)
            printf("until %s\n", name_of(errno));
        for (nfds_t i = 1; i < n; i++) {
            ssize_t r = p[i].revents ? recv(p[i].fd, b, sizeof b, 0) : -2;
            if (r > 0) {
                MUST(send(p[i].fd, b, (size_t)r, MSG_NOSIGNAL) == r);
            } else if (r == 0 || (r == -1 && errno != EAGAIN)) {
                printf("end %s\n", name_of(r ? errno : 0));
                CK(close(p[i].fd));
                p[i--] = p[--n];
            }
        }
    }
}

static void
many(const char *ip, int port, int n)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int good = 0, last = 0, *fd = calloc((size_t)n, sizeof *fd);
    char b[4];
    inet_pton(AF_INET, ip, &sa.sin_addr);
    for (int i = 0; i < n; i++) {
        fd[i] = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
        bool ok = connect(fd[i], (struct sockaddr *)&sa, sizeof sa) == 0 && send(fd[i], "ping", 4, MSG_NOSIGNAL) == 4 &&
                  recv(fd[i], b, 4, MSG_WAITALL) == 4;
        good += ok;
        last = ok ? last : errno;
    }
    printf("answered %d\nlast %s\n", good, name_of(last));
    char c;
    (void)!read(0, &c, 1); /* until told to end */
}

/* False: the end. */
static bool
talk(enum how how, int fd, size_t n)
{
    size_t end = got + n;
    while (got < end) {
        push(how, fd, end, n);
        if (how != BLOCK)
            wait_for(how, fd, POLLIN);
        if (!pull(how, fd))
            return false;
    }
    return true;
}

static void
rest(enum how how, const char *ip, int port, int ms, bool moved)
{
    int fd = begin(how, ip, port), first = fd;
    talk(how, fd, 10);
    if (moved) {
        fd = (int)CK(dup(first));
        CK(close(first));
    }
    double start = now_ms();
    for (double end = start + ms; now_ms() < end;)
        poll(NULL, 0, 20);
    bool alive = talk(how, fd, 10);
    printf("talked %zu\n", got);
    unsigned before = waits;
    while (alive && (how == BLOCK || wait_for(how, fd, POLLIN)))
        alive = pull(how, fd);
    printf("ended %.0f\nrecv_error %s\nend_waits %u\n", now_ms() - start, name_of(recv_no), waits - before);
    ssize_t r = send(fd, "x", 1, MSG_NOSIGNAL);
    printf("send_again %zd %s\n", r, name_of(r < 0 ? errno : 0));
    CK(close(fd));
}

static void
pulse(const char *ip, int port)
{
    char line[16], b;
    int fd = begin(BLOCK, ip, port);
    printf("fd %d\n", fd);
    for (int n = 1; fgets(line, sizeof line, stdin); n++) {
        MUST(send(fd, "x", 1, MSG_NOSIGNAL) == 1 && recv(fd, &b, 1, 0) == 1);
        printf("pulse %d\n", n);
    }
    CK(close(fd));
}

static void
say_options(int fd, const char *when)
{
    uint64_t pace = 0;
    uint32_t low = 0;
    static const int tcp[] = {TCP_USER_TIMEOUT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT};
    int keep = 0, n = 0;
    socklen_t len = sizeof pace;
    CK(getsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &pace, &len));
    len = sizeof low;
    CK(getsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &low, &len));
    CK(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &keep, &len));
    printf("%s %llu %u %d", when, (unsigned long long)pace, low, keep);
    for (unsigned i = 0; i < sizeof tcp / sizeof *tcp; i++) {
        CK(getsockopt(fd, IPPROTO_TCP, tcp[i], &n, &len));
        printf(" %d", n);
    }
    len = 1;
    n = 0;
    CK(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &n, &len));
    printf(" %d\n", n); /* of one byte */
}

static void
options(const char *ip, int port, const char *own)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0)), one = 1, time = 77, timeout = 12345, none = 0;
    uint32_t pace = 300000;
    uint64_t fast = 7000000;
    char b[4];
    inet_pton(AF_INET, ip, &sa.sin_addr);
    if (*own)
        CK(setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &time, sizeof time));
    if (strcmp(own, "own") == 0) {
        CK(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one));
        CK(setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout));
        CK(setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &pace, sizeof pace));
    }
    CK(connect(fd, (struct sockaddr *)&sa, sizeof sa));
    MUST(send(fd, "ping", 4, 0) == 4 && recv(fd, b, 4, MSG_WAITALL) == 4);
    say_options(fd, "before");
    printf("fd %d\n", fd);
    (void)!read(0, b, 1);
    CK(setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &fast, sizeof fast));
    CK(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one));
    time = 5;
    CK(setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &time, sizeof time));
    MUST(setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &none, sizeof none) < 0 && errno == EINVAL);
    timeout = 54321;
    CK(setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout));
    say_options(fd, "after");
    (void)!read(0, b, 1);
}

int
main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1 && strcmp(argv[1], "server") == 0)
        server();
    if (argc > 1 && strcmp(argv[1], "nbserver") == 0)
        nbserver(SOCK_NONBLOCK);
    if (argc > 1 && strcmp(argv[1], "pollserver") == 0)
        nbserver(0);
    if (argc == 5 && strcmp(argv[1], "many") == 0) {
        many(argv[2], atoi(argv[3]), atoi(argv[4]));
        return 0;
    }
    for (unsigned how = 0; argc == 6 && how < sizeof names / sizeof *names; how++) {
        bool moved = strcmp(argv[1], "moved") == 0;
        if ((moved || strcmp(argv[1], "rest") == 0) && strcmp(argv[2], names[how]) == 0) {
            rest((enum how)how, argv[3], atoi(argv[4]), atoi(argv[5]), moved);
            return 0;
        }
    }
    if (argc == 4 && strcmp(argv[1], "pulse") == 0) {
        pulse(argv[2], atoi(argv[3]));
        return 0;
    }
    if (argc >= 4 && strcmp(argv[1], "options") == 0) {
        options(argv[2], atoi(argv[3]), argc > 4 ? argv[4] : "");
        return 0;
    }
    for (unsigned how = 0; argc >= 5 && how < sizeof names / sizeof *names; how++) {
        if (strcmp(argv[1], names[how]) == 0) {
            int fd = begin((enum how)how, argv[2], atoi(argv[3]));
            exchange((enum how)how, fd, (size_t)atol(argv[4]), argc > 5 ? (size_t)atol(argv[5]) : 4096);
            return 0;
        }
    }
    return 2;
}
