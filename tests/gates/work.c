/* SPDX-License-Identifier: Apache-2.0
 *
 * work small|loop CONNECTIONS TURNS SIZE: both ends of so many connections in one process; in each turn
 *   every connection carries SIZE bytes there and back, two sends and two receives. `loop` waits with
 *   epoll before each receive. Prints the messages, and the bytes that TCP sent for them.
 * work foreign TURNS: calls on descriptors that are no connections: write, read, fcntl, epoll_wait, close.
 * work open N: N connections one after the other, both ends, with a byte each way.
 * work idle N: user memory of N more idle connections, both ends, in bytes.
 * work first N: N connections, the first of a process; its own memory that is more then, in bytes.
 *
 * For counting: tests/gates/run runs it under callgrind, which collects within turn(), again() or first() only, and
 * under strace, which counts between two marks.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 10000, LONGEST = 16384, WARM = 64, KNOWN = 4 };

static int near[CONNECTIONS_MAX], far[CONNECTIONS_MAX], listener, ep = -1;
static struct sockaddr_in at = {.sin_family = AF_INET};
static char buf[LONGEST];

static void
must(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static void
carry(int from, int to, size_t n)
{
    must(send(from, buf, n, 0) == (ssize_t)n, "send");
    if (ep >= 0) {
        struct epoll_event ev;
        must(epoll_wait(ep, &ev, 1, 10000) == 1 && ev.data.fd == to, "epoll_wait");
    }
    must(recv(to, buf, n, MSG_WAITALL) == (ssize_t)n, "recv");
}

/* Not static and not inlined: callgrind is told its name. */
__attribute__((noinline)) void turn(int a, int b, size_t n);

void
turn(int a, int b, size_t n)
{
    if (n) {
        carry(a, b, n);
        carry(b, a, n);
        return;
    }
    struct epoll_event ev;
    char c = 'x';
    must(write(b, &c, 1) == 1, "write");
    must(read(a, &c, 1) == 1, "read");
    must(fcntl(a, F_GETFL) >= 0, "fcntl");
    must(epoll_wait(ep, &ev, 1, 0) == 0, "epoll_wait");
    must(close(-1) == -1 && errno == EBADF, "close");
}

static void
watch(int fd)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
    must(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == 0, "epoll_ctl");
}

static void
open_pair(int i)
{
    int one = 1;
    near[i] = socket(AF_INET, SOCK_STREAM, 0);
    must(connect(near[i], (struct sockaddr *)&at, sizeof(at)) == 0, "connect");
    far[i] = accept(listener, NULL, NULL);
    must(far[i] >= 0, "accept");
    (void)setsockopt(near[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    (void)setsockopt(far[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    must(send(near[i], buf, 1, 0) == 1 && recv(far[i], buf, 1, 0) == 1, "the first byte there");
    must(send(far[i], buf, 1, 0) == 1 && recv(near[i], buf, 1, 0) == 1, "the first byte back");
}

__attribute__((noinline)) void again(int i);

/* A connection with a peer that is known. */
void
again(int i)
{
    open_pair(i);
}

static void
open_listener(void)
{
    struct rlimit most;
    socklen_t len = sizeof(at);
    must(getrlimit(RLIMIT_NOFILE, &most) == 0, "getrlimit");
    most.rlim_cur = most.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &most) == 0, "setrlimit");
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    must(listener >= 0 && bind(listener, (struct sockaddr *)&at, len) == 0 && listen(listener, 100) == 0 &&
             getsockname(listener, (struct sockaddr *)&at, &len) == 0,
         "listen");
}

/* As the kernel tells, past whatever stands in front of getsockopt(). */
static unsigned long long
sent(int fd)
{
    struct tcp_info ti;
    socklen_t len = sizeof(ti);
    memset(&ti, 0, sizeof(ti));
    must(syscall(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &ti, &len) == 0, "TCP_INFO");
    return ti.tcpi_bytes_sent - ti.tcpi_bytes_retrans;
}

static void
small(int connections, int turns, size_t size, int waits)
{
    unsigned long long wire = 0;
    open_listener();
    for (int i = 0; i < connections; i++) {
        open_pair(i);
        wire -= sent(near[i]) + sent(far[i]);
    }
    if (waits) {
        ep = epoll_create1(0);
        for (int i = 0; i < connections; i++) {
            watch(near[i]);
            watch(far[i]);
        }
    }
    access("/app/trace/begin", F_OK);
    for (int t = 0; t < turns; t++) {
        for (int i = 0; i < connections; i++) {
            turn(near[i], far[i], size);
        }
    }
    access("/app/trace/end", F_OK);
    for (int i = 0; i < connections; i++) {
        wire += sent(near[i]) + sent(far[i]);
    }
    printf("%d %llu\n", turns * connections * 2, wire);
}

static void
foreign(int turns)
{
    int p[2], in = open("/dev/zero", O_RDONLY), out = open("/dev/null", O_WRONLY);
    ep = epoll_create1(0);
    must(in >= 0 && out >= 0 && ep >= 0 && pipe(p) == 0, "open");
    watch(p[0]);
    access("/app/trace/begin", F_OK);
    for (int t = 0; t < turns; t++) {
        turn(in, out, 0);
    }
    access("/app/trace/end", F_OK);
    printf("%d\n", turns * 5);
}

/* form: a line of smaps_rollup's [proc_pid_smaps(5)] */
static long
memory(const char *form)
{
    char line[200];
    long kb = -1;
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    must(f != NULL, "smaps_rollup");
    while (kb < 0 && fgets(line, sizeof(line), f)) {
        (void)sscanf(line, form, &kb);
    }
    fclose(f);
    return kb * 1024;
}

static void
idle(int n)
{
    open_listener();
    for (int i = 0; i < WARM; i++) {
        open_pair(i);
    }
    long before = memory("Pss: %ld");
    for (int i = WARM; i < n + WARM; i++) {
        open_pair(i);
    }
    printf("%ld\n", (memory("Pss: %ld") - before) / n);
}

__attribute__((noinline)) void first(int n);

void
first(int n)
{
    open_listener();
    for (int i = 0; i < n; i++) {
        open_pair(i);
    }
}

static void
open_first(int n)
{
    long before = memory("Anonymous: %ld");
    first(n);
    printf("%ld\n", memory("Anonymous: %ld") - before);
}

static void
open_many(int n)
{
    open_listener();
    for (int i = 0; i < KNOWN; i++) {
        open_pair(i);
    }
    for (int i = KNOWN; i < n + KNOWN; i++) {
        again(i);
    }
    printf("%d\n", n);
}

int
main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[1] : "";
    int n = argc > 2 ? atoi(argv[2]) : 0, turns = argc == 5 ? atoi(argv[3]) : 0, size = argc == 5 ? atoi(argv[4]) : 0;
    int carries = argc == 5 && n <= CONNECTIONS_MAX && turns >= 0 && size >= 1 && size <= LONGEST;
    if (n >= 1 && carries && (strcmp(what, "small") == 0 || strcmp(what, "loop") == 0)) {
        small(n, turns, (size_t)size, strcmp(what, "loop") == 0);
    } else if (n >= 1 && argc == 3 && strcmp(what, "foreign") == 0) {
        foreign(n);
    } else if (n >= 1 && n <= CONNECTIONS_MAX - WARM && argc == 3 && strcmp(what, "idle") == 0) {
        idle(n);
    } else if (n >= 1 && n <= CONNECTIONS_MAX - WARM && argc == 3 && strcmp(what, "open") == 0) {
        open_many(n);
    } else if (n >= 1 && n <= CONNECTIONS_MAX && argc == 3 && strcmp(what, "first") == 0) {
        open_first(n);
    } else {
        fprintf(stderr, "work small|loop CONNECTIONS TURNS SIZE | foreign TURNS | open N | first N | idle N\n");
        return 2;
    }
    return 0;
}
