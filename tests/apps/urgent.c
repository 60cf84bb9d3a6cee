/* SPDX-License-Identifier: Apache-2.0
 *
 * urgent: MSG_OOB as tcp(7) has it. One byte alone, with data before and behind, two in a row, SO_OOBINLINE, looks,
 * sockatmark and FIONREAD, MSG_WAITALL, small buffers, recvmsg; what poll, select and epoll say; SIGURG, also under a sleeping
 * read; a sender whose buffer is full; after fork; before the server has accepted; steps at random.
 */
/* run: modes alone around twice inline inherited peek waitall small msg ready epoll once signal sleeper restart full fork early none close random */
/* run: notsan restart (it delays signals) */
#include "app.h"

static int a, b; /* sends; receives */

static void
urgent(const char *s)
{
    RES(send(a, s, strlen(s), MSG_OOB));
}

static void
data(const char *s)
{
    RES(send(a, s, strlen(s), 0));
}

/* Until recv(MSG_OOB) would give c. The wait is for arrival. */
static void
until(char c)
{
    char got = 0;
    for (int i = 0; i < APP_WAIT && (recv(b, &got, 1, MSG_OOB | MSG_PEEK) != 1 || got != c); i++)
        CK(poll(NULL, 0, 1));
    say("urgent %c is here\n", got);
}

static void
pri(void)
{
    say("poll PRI: %s\n", app_events(app_poll(b, POLLPRI, APP_WAIT)));
}

static void
in(void)
{
    say("poll IN: %s\n", app_events(app_poll(b, POLLIN, APP_WAIT)));
}

static void
state(void)
{
    int n = -1, at = -1;
    say("poll IN|PRI: %s\n", app_events(app_poll(b, POLLIN | POLLPRI, 0)));
    CK(ioctl(b, SIOCATMARK, &at));
    CK(ioctl(b, FIONREAD, &n));
    say("at mark %d %d, FIONREAD %d\n", at, sockatmark(b), n);
}

static void
oob(int flags)
{
    char c = '-';
    errno = APP_SILENT;
    ssize_t r = recv(b, &c, 1, MSG_OOB | flags);
    say("oob%s = %zd %s %c\n", flags & MSG_PEEK ? " peek" : "", r,
        errno == APP_SILENT ? "-" : strerrorname_np(errno), c);
}

static void
get(size_t n, int flags)
{
    char buf[100] = {0};
    errno = APP_SILENT;
    ssize_t r = recv(b, buf, n, MSG_DONTWAIT | flags);
    say("recv %zu%s = %zd %s '%s'\n", n, flags & MSG_PEEK ? " peek" : "", r,
        errno == APP_SILENT ? "-" : strerrorname_np(errno), buf);
}

static void
everything_else(void)
{
    data("the rest");
    in();
    get(50, 0);
    state();
    CK(send(b, "back", 4, 0));
    char buf[4];
    say("back %zu\n", app_get(a, buf, 4));
    say("end %d\n", shutdown(a, SHUT_WR));
    in();
    get(50, 0);
}

static void
alone(void)
{
    urgent("1");
    pri();
    state();
    oob(MSG_PEEK);
    state();
    oob(0);
    state();
    oob(0);
    oob(MSG_PEEK);
    get(10, 0);
    state();
    urgent("2"); /* the reading passes it */
    pri();
    state();
    get(10, 0);
    state();
    oob(0);
    urgent("3"); /* read late, with data behind */
    pri();
    data("after");
    in();
    state();
    oob(0);
    state();
    get(10, 0);
    state();
    urgent("4"); /* never read, with data behind */
    pri();
    data("again");
    in();
    get(10, 0);
    oob(0);
    state();
}

static void
around(void)
{
    data("one");
    say("arrived %d\n", app_arrived(b, 3));
    urgent("two!");
    until('!');
    state();
    get(50, 0);
    state();
    get(50, 0);
    state();
    oob(0);
    urgent("abc?");
    until('?');
    oob(0);
    state();
    data("def");
    get(2, 0);
    state();
    get(50, 0);
    state();
    in();
    get(50, 0);
    state();
    urgent("xyz+");
    until('+');
    data("uvw");
    get(3, 0);
    in();
    state();
    oob(0);
    get(1, 0);
    get(50, 0);
    state();
}

static void
twice(void)
{
    urgent("1");
    pri();
    urgent("2"); /* the reader stood before 1: that one is gone */
    until('2');
    state();
    oob(0);
    get(50, 0);
    urgent("3");
    until('3');
    oob(0);
    urgent("4");
    until('4');
    state();
    get(50, 0);
    oob(0);
    data("data"); /* the reader does not stand before 5 */
    say("arrived %d\n", app_arrived(b, 4));
    urgent("5");
    until('5');
    urgent("6");
    until('6');
    state();
    get(50, MSG_PEEK);
    get(50, 0);
    state();
    oob(0);
    data("more");
    in();
    get(50, 0);
    data("seven");
    say("arrived %d\n", app_arrived(b, 5));
    urgent("7");
    until('7');
    urgent("88");
    until('8');
    urgent("999");
    until('9');
    oob(0);
    state();
    for (int i = 0; i < 7; i++)
        get(1, 0);
    get(50, 0);
    state();
    get(50, 0);
}

static void
inlined(void)
{
    int on = 1;
    urgent("0");
    pri();
    RES(setsockopt(b, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on));
    say("poll IN|PRI: %s\n", app_events(app_poll(b, POLLIN | POLLPRI, 0)));
    oob(0);
    get(50, MSG_PEEK);
    get(50, 0);
    state();
    urgent("1");
    pri();
    state();
    oob(0);
    get(50, 0);
    state();
    data("ab");
    say("arrived %d\n", app_arrived(b, 2));
    urgent("c2");
    pri();
    data("de");
    in();
    oob(0);
    get(50, MSG_PEEK);
    get(50, 0);
    say("at mark %d\n", sockatmark(b));
    in();
    get(1, 0);
    in();
    get(50, 0);
    state();
    urgent("3");
    pri();
    urgent("4");
    data("5");
    in();
    for (int have = 0, i = 0; have < 3 && i < 10; i++) {
        char c[3];
        ssize_t r = CK(recv(b, c, 1, 0));
        say("got %.*s\n", (int)r, c);
        have += (int)r;
    }
    on = 0;
    RES(setsockopt(b, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on));
    urgent("6");
    pri();
    state();
    oob(0);
}

static void
peek(void)
{
    urgent("abc1");
    until('1');
    data("def");
    get(50, MSG_PEEK);
    get(2, MSG_PEEK);
    get(3, 0);
    in();
    get(50, MSG_PEEK);
    oob(MSG_PEEK);
    state();
    get(1, 0);
    state();
    get(50, MSG_PEEK);
    get(50, 0);
    urgent("2");
    pri();
    get(50, MSG_PEEK);
    oob(0);
    data("x");
    in();
    get(50, MSG_PEEK);
    state();
    get(50, 0);
}

static void
all(size_t n)
{
    char buf[100] = {0};
    ssize_t r = CK(recv(b, buf, n, MSG_WAITALL));
    say("all of %zu: %zd '%s'\n", n, r, buf);
}

static void
waitall(void)
{
    urgent("abc1");
    until('1');
    data("defghi");
    all(5);
    state();
    all(3);
    all(3);
    data("jk");
    urgent("lm2");
    until('2');
    data("nop");
    all(10);
    oob(0);
    all(3);
}

static void
small(void)
{
    static char big[40000];
    app_fill(big, sizeof big, 0);
    app_put(a, big, sizeof big);
    urgent("tail!");
    static char got[50000];
    size_t n = 0;
    until('!');
    while (n < sizeof big + 4) {
        ssize_t r = CK(recv(b, got + n, n % 1000 + 1 < sizeof big + 4 - n ? n % 1000 + 1 : sizeof big + 4 - n, 0));
        n += (size_t)r;
        if (n == 20001 || n == sizeof big + 1)
            say("at %zu: %d\n", n, sockatmark(b));
    }
    say("match %zu, then '%.4s', at mark %d\n", app_match(got, sizeof big, 0), got + sizeof big, sockatmark(b));
    oob(0);
    state();
    struct iovec v[3] = {{big, 20000}, {(char[]){"qr"}, 2}, {(char[]){"s"}, 1}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 3};
    RES(sendmsg(a, &m, MSG_OOB));
    until('s');
    v[0].iov_base = got;
    ssize_t r = 0;
    while (r < 20002)
        r += CK(recv(b, got + r, sizeof got - (size_t)r, 0));
    say("got %zd, match %zu, at mark %d\n", r, app_match(got, 20000, 0), sockatmark(b));
}

static void
msg(void)
{
    char c[10] = {0};
    struct iovec v = {c, 10};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    RES(recvmsg(b, &m, MSG_OOB));
    urgent("1");
    pri();
    RES(recvmsg(b, &m, MSG_OOB | MSG_PEEK));
    say("flags %x, '%s'\n", (unsigned)m.msg_flags, c);
    v.iov_len = 10;
    RES(recvmsg(b, &m, MSG_OOB));
    say("flags %x\n", (unsigned)m.msg_flags);
    urgent("2");
    until('2');
    RES(recv(b, c, 0, MSG_OOB));
    state();
    urgent("3");
    until('3');
    RES(recv(b, NULL, 5, MSG_OOB | MSG_TRUNC));
    RES(send(a, "", 0, MSG_OOB));
    RES(sendto(a, "4", 1, MSG_OOB | MSG_DONTWAIT, NULL, 0));
    until('4');
    RES(recvfrom(b, c, 10, MSG_OOB, NULL, NULL));
    RES(send(a, "x", 1, MSG_OOB | MSG_MORE));
    until('x');
}

static void
selected(const char *when)
{
    fd_set r, w, e;
    struct timeval t = {0, 0};
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_ZERO(&e);
    FD_SET(b, &r);
    FD_SET(b, &w);
    FD_SET(b, &e);
    int n = (int)CK(select(b + 1, &r, &w, &e, &t));
    say("%s: %d%s%s%s\n", when, n, FD_ISSET(b, &r) ? " read" : "", FD_ISSET(b, &w) ? " write" : "",
        FD_ISSET(b, &e) ? " except" : "");
}

static void
ready(void)
{
    fd_set r, e;
    selected("nothing");
    urgent("1");
    FD_ZERO(&r);
    FD_ZERO(&e);
    FD_SET(b, &r);
    FD_SET(b, &e);
    int n = (int)CK(select(b + 1, &r, NULL, &e, NULL));
    say("%d%s%s\n", n, FD_ISSET(b, &r) ? " read" : "", FD_ISSET(b, &e) ? " except" : "");
    selected("urgent");
    oob(0);
    selected("read");
    data("x");
    in();
    selected("data");
    urgent("2");
    pri();
    selected("data, urgent");
    get(50, 0);
    selected("urgent");
    oob(0);
    selected("read");
    say("IN alone: %s\n", app_events(app_poll(b, POLLIN, APP_QUIET)));
    urgent("3");
    until('3');
    say("IN alone: %s\n", app_events(app_poll(b, POLLIN, APP_QUIET)));
    FD_ZERO(&r);
    FD_SET(b, &r);
    struct timeval t = {0, 1000 * APP_QUIET};
    say("select: %ld\n", CK(select(b + 1, &r, NULL, NULL, &t)));
    pri();
    everything_else();
}

static void
waited(int ep, const char *when, int ms)
{
    struct epoll_event e[4];
    int n = (int)CK(epoll_wait(ep, e, 4, ms));
    for (int i = 0; i < n; i++)
        say("%s: %s of %d\n", when, app_events(e[i].events), (int)e[i].data.u32);
    if (n == 0)
        say("%s: nothing\n", when);
}

static void
epolled(void)
{
    int lt = (int)CK(epoll_create1(0)), et = (int)CK(epoll_create1(0)), one = (int)CK(epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN | EPOLLPRI, .data.u32 = 1};
    CK(epoll_ctl(lt, EPOLL_CTL_ADD, b, &e));
    e = (struct epoll_event){.events = EPOLLIN | EPOLLPRI | EPOLLET, .data.u32 = 2};
    CK(epoll_ctl(et, EPOLL_CTL_ADD, b, &e));
    e = (struct epoll_event){.events = EPOLLIN | EPOLLPRI | EPOLLONESHOT, .data.u32 = 3};
    CK(epoll_ctl(one, EPOLL_CTL_ADD, b, &e));
    waited(lt, "level", 0);
    for (int i = 0; i < 2; i++) {
        urgent("1");
        waited(lt, "level", APP_WAIT);
        waited(lt, "level", 0);
        waited(et, "edge", APP_WAIT);
        waited(et, "edge", 0);
        waited(one, "once", i ? 0 : APP_WAIT);
        waited(one, "once", 0);
        oob(0);
        waited(lt, "level", 0);
        waited(et, "edge", 0);
        data("x");
        waited(lt, "level", APP_WAIT);
        waited(et, "edge", APP_WAIT);
        get(50, 0);
        waited(lt, "level", 0);
        waited(et, "edge", 0);
    }
    CK(epoll_ctl(one, EPOLL_CTL_MOD, b, &e));
    waited(one, "once", 0);
    urgent("2");
    waited(one, "once", APP_WAIT);
    e.events = EPOLLPRI;
    CK(epoll_ctl(one, EPOLL_CTL_MOD, b, &e));
    waited(one, "urgent only", APP_WAIT);
    oob(0);
    waited(one, "urgent only", 0);
    CK(epoll_ctl(one, EPOLL_CTL_DEL, b, NULL));
    CK(epoll_ctl(et, EPOLL_CTL_DEL, b, NULL));
    everything_else();
    waited(lt, "level", 0);
}

static volatile sig_atomic_t signals, taken;

static void
on_urg(int sig)
{
    int keep = errno;
    char c = 0;
    (void)sig;
    signals++;
    if (recv(b, &c, 1, MSG_OOB) == 1)
        taken = c;
    errno = keep;
}

static void
owned(int flags)
{
    struct sigaction sa = {.sa_handler = on_urg, .sa_flags = flags};
    CK(sigaction(SIGURG, &sa, NULL));
    RES(fcntl(b, F_SETOWN, getpid()));
}

static void
signalled(void)
{
    owned(SA_RESTART);
    for (int i = 0; i < 3; i++) {
        int before = signals;
        urgent(i == 1 ? "ab1" : "2");
        for (int k = 0; k < APP_WAIT && signals == before; k++)
            CK(poll(NULL, 0, 1));
        say("signals %d, got %c\n", signals, taken);
        state();
        get(50, 0);
        state();
        oob(0);
    }
    everything_else();
}

static int gate;

/* Not before the other one sleeps: its state in /proc says so. */
static void *
late_sender(void *arg)
{
    char path[64], st = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", *(int *)arg);
    for (int i = 0; i < APP_WAIT && st != 'S'; i++) {
        char line[300] = {0};
        int f = (int)CK(open(path, O_RDONLY));
        CK(read(f, line, sizeof line - 1));
        close(f);
        char *p = strrchr(line, ')');
        st = p ? p[2] : 0;
        CK(poll(NULL, 0, 1));
    }
    CK(send(a, "u", 1, MSG_OOB));
    app_pass(gate);
    CK(send(a, "data", 4, 0));
    return NULL;
}

static void
sleeps(int flags)
{
    pthread_t t;
    int tid = (int)syscall(SYS_gettid);
    char buf[50] = {0};
    sigset_t urg;
    gate = app_gate();
    sigemptyset(&urg);
    sigaddset(&urg, SIGURG);
    CK(pthread_sigmask(SIG_BLOCK, &urg, NULL));
    owned(flags);
    MUST(pthread_create(&t, NULL, late_sender, &tid) == 0);
    CK(pthread_sigmask(SIG_UNBLOCK, &urg, NULL));
    if (flags)
        app_open(gate);
    errno = APP_SILENT;
    ssize_t r = recv(b, buf, sizeof buf, 0);
    say("recv = %zd %s '%s'\n", r, errno == APP_SILENT ? "-" : strerrorname_np(errno), buf);
    say("signals %d, got %c\n", signals, taken);
    if (!flags) {
        app_open(gate);
        in();
        get(50, 0);
    }
    MUST(pthread_join(t, NULL) == 0);
    everything_else();
}

static void
sleeper(void)
{
    sleeps(0);
}

static void
restart(void)
{
    sleeps(SA_RESTART);
}

/* A full buffer: the urgent byte goes behind all that was taken before, and its call says EAGAIN until it can. */
static void
full(void)
{
    static char big[1 << 20], got[1 << 16];
    int size = 20000;
    CK(setsockopt(a, SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
    CK(setsockopt(b, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
    app_nonblock(a, 1);
    app_fill(big, sizeof big, 0);
    size_t sent = 0, n = 0;
    int taken_late = 0, oobs = 0;
    ssize_t r = 0;
    while ((r = send(a, big + sent, sizeof big - sent, 0)) > 0)
        sent += (size_t)r;
    say("full: %s\n", strerrorname_np(errno));
    while ((r = send(a, "!", 1, MSG_OOB)) != 1 || n < sent) {
        if (r == 1) {
            oobs++;
            break;
        }
        MUST(errno == EAGAIN);
        taken_late = 1;
        r = recv(b, got, sizeof got, MSG_DONTWAIT);
        MUST(r > 0 || errno == EAGAIN);
        if (r > 0) {
            MUST(app_match(got, (size_t)r, n) == (size_t)r);
            n += (size_t)r;
        }
    }
    say("late %d, once %d\n", taken_late, oobs);
    while (n < sent) {
        r = CK(recv(b, got, sizeof got, 0));
        MUST(app_match(got, (size_t)r, n) == (size_t)r);
        n += (size_t)r;
    }
    say("all of it, and no more: %d\n", n == sent);
    until('!');
    say("at mark %d\n", sockatmark(b));
    oob(0);
    app_nonblock(a, 0);
    everything_else();
}

/* The child reads what the parent looked at, and the other way round. */
static void
forked(void)
{
    int st;
    urgent("ab1");
    until('1');
    get(1, 0);
    fflush(stdout);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        say("child\n");
        get(50, 0);
        state();
        fflush(stdout);
        _exit(0);
    }
    CK(waitpid(pid, &st, 0));
    say("parent\n");
    state();
    fflush(stdout);
    pid = (pid_t)CK(fork());
    if (pid == 0) {
        oob(0);
        urgent("2");
        fflush(stdout);
        _exit(0);
    }
    CK(waitpid(pid, &st, 0));
    until('2');
    state();
    oob(0);
    oob(0);
    everything_else();
}

static void
none(void)
{
    oob(0);
    oob(MSG_PEEK);
    oob(MSG_DONTWAIT);
    state();
    data("x");
    in();
    oob(0);
    get(50, 0);
    oob(0);
    shutdown(a, SHUT_WR);
    in();
    oob(0);
    get(50, 0);
    oob(0);
}

/* Closed with the urgent byte unread behind the data, and the end of a sender's stream. */
static void
closed(void)
{
    urgent("ab1");
    until('1');
    CK(shutdown(a, SHUT_WR));
    get(50, 0);
    oob(0);
    state();
    for (int i = 0; i < APP_WAIT && !(app_poll(b, POLLRDHUP, 0) & POLLRDHUP); i++)
        CK(poll(NULL, 0, 1));
    get(50, 0);
    state();
    RES(send(a, "x", 1, MSG_OOB | MSG_NOSIGNAL));
}

/* All that was sent is there. */
static void
settled(void)
{
    int left = 1, on = 1;
    for (int i = 0; i < APP_WAIT; i++) {
        CK(setsockopt(b, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on));
        CK(ioctl(a, TIOCOUTQ, &left));
        if (left == 0)
            return;
        CK(poll(NULL, 0, 1));
    }
}

static void
random_step(uint64_t *seed)
{
    static char buf[4000];
    unsigned what = app_rand(seed) % 20, how = app_rand(seed);
    size_t n = 1 + (how % 3 ? how % 7 : how % 2500);
    if (what < 9) {
        app_fill(buf, n, app_rand(seed));
        say("send %zu%s: %zd\n", n, what < 5 ? " urgent" : "", send(a, buf, n, what < 5 ? MSG_OOB : 0));
        settled();
    } else if (what < 16) {
        ssize_t r = recv(b, buf, n, MSG_DONTWAIT | (what == 15 ? MSG_PEEK : 0));
        say("recv %zu%s: %zd %s %llx\n", n, what == 15 ? " peek" : "", r, r < 0 ? strerrorname_np(errno) : "",
            (unsigned long long)(r > 0 ? app_hash(buf, (size_t)r) : 0));
    } else if (what < 19)
        oob(what == 18 ? MSG_PEEK : 0);
    else if (how % 8 == 0) {
        int on = 0;
        socklen_t len = sizeof on;
        CK(getsockopt(b, SOL_SOCKET, SO_OOBINLINE, &on, &len));
        on = !on;
        CK(setsockopt(b, SOL_SOCKET, SO_OOBINLINE, &on, len));
        say("inline %d\n", on);
    }
}

static void
random_steps(void)
{
    for (uint64_t first = 1; first <= 10; first++) {
        uint64_t seed = first * 7919;
        for (int i = 0; i < 60; i++) {
            random_step(&seed);
            state();
        }
        say("- %d\n", (int)first);
        close(a);
        close(b);
        app_pair(&a, &b);
    }
}

/* Written before the server has accepted. */
static void
early(int lfd)
{
    char buf[50] = {0};
    a = app_connect();
    data("first");
    urgent("ab1");
    data("last");
    b = (int)CK(accept(lfd, NULL, NULL));
    until('1');
    say("arrived %d\n", app_arrived(b, 7));
    state();
    get(50, 0);
    state();
    oob(0);
    in();
    size_t n = app_get(b, buf, 4);
    say("%zu '%s'\n", n, buf);
    everything_else();
}

static const struct {
    const char *name;
    void (*fn)(void);
} modes[] = {{"alone", alone}, {"around", around}, {"twice", twice}, {"inline", inlined}, {"inherited", inlined},
             {"peek", peek}, {"waitall", waitall}, {"small", small}, {"msg", msg}, {"ready", ready},
             {"epoll", epolled}, {"signal", signalled}, {"sleeper", sleeper}, {"restart", restart},
             {"full", full}, {"fork", forked}, {"none", none}, {"close", closed},
             {"random", random_steps}, {"once", NULL}};

/* The receiver has shown no interest, and reads at once. */
static void
once(void)
{
    char buf[50] = {0};
    urgent("a1");
    data("b");
    size_t n = app_get(b, buf, 2);
    say("%zu '%s'\n", n, buf);
    state();
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    if (strcmp(app_mode, "early") == 0) {
        early(app_listen());
        return 0;
    }
    if (strcmp(app_mode, "inherited") == 0) {
        int lfd = app_listen(), on = 1;
        CK(setsockopt(lfd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on));
        a = app_connect();
        b = (int)CK(accept(lfd, NULL, NULL));
    } else
        app_pair(&a, &b);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(app_mode, modes[i].name) == 0)
            modes[i].fn ? modes[i].fn() : once();
    return 0;
}
