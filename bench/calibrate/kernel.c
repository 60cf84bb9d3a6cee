/* SPDX-License-Identifier: Apache-2.0
 *
 * calibrate: system calls, the clock, TCP on loopback, and how long it takes until a sleeper runs.
 */
#include "bench/calibrate/calibrate.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct pair {
    int a, b;
    size_t n;
};

static uint8_t buf[1 << 16];

static bool
system_call(void *arg, unsigned times)
{
    (void)arg;
    while (times-- > 0) {
        (void)syscall(SYS_getppid);
    }
    return true;
}

static bool
clock_read(void *arg, unsigned times)
{
    struct timespec t;
    (void)arg;
    while (times-- > 0) {
        (void)clock_gettime(CLOCK_MONOTONIC, &t);
    }
    return true;
}

static void
nothing(void)
{
    __asm__ volatile("");
}

/* What a call through a table costs, as each call of an interposed library does. */
static bool
indirect_call(void *arg, unsigned times)
{
    void (*volatile fn)(void) = nothing;
    (void)arg;
    while (times-- > 0) {
        fn();
    }
    return true;
}

static bool
copy(void *arg, unsigned times)
{
    static uint8_t to[sizeof(buf)];
    size_t n = *(size_t *)arg;
    while (times-- > 0) {
        memcpy(to, buf, n);
        __asm__ volatile("" : : "r"(to) : "memory");
    }
    return true;
}

static bool
tcp_pair(struct pair *p)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int one = 1, l = socket(AF_INET, SOCK_STREAM, 0);
    p->a = socket(AF_INET, SOCK_STREAM, 0);
    bool ok = bind(l, (struct sockaddr *)&sa, len) == 0 && listen(l, 1) == 0 &&
              getsockname(l, (struct sockaddr *)&sa, &len) == 0 && connect(p->a, (struct sockaddr *)&sa, len) == 0;
    p->b = ok ? accept(l, NULL, NULL) : -1;
    (void)close(l);
    (void)setsockopt(p->a, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    (void)setsockopt(p->b, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return p->b >= 0;
}

/* One send and one receive, in one thread. */
static bool
tcp_carry(void *arg, unsigned times)
{
    const struct pair *p = arg;
    while (times-- > 0) {
        if (send(p->a, buf, p->n, 0) != (ssize_t)p->n || recv(p->b, buf, p->n, MSG_WAITALL) != (ssize_t)p->n) {
            return false;
        }
    }
    return true;
}

/* ---- wake-ups: a byte goes to and fro between two sleepers ---- */

struct peer {
    int in, out, cpu;
};

static void
pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    (void)sched_setaffinity(0, sizeof(set), &set);
}

static void *
answer(void *arg)
{
    const struct peer *p = arg;
    char c;
    pin(p->cpu);
    while (read(p->in, &c, 1) == 1 && write(p->out, &c, 1) == 1) {
    }
    return NULL;
}

static bool
ping_pong(void *arg, unsigned times)
{
    const struct peer *p = arg;
    char c = 'x';
    while (times-- > 0) {
        if (write(p->out, &c, 1) != 1 || read(p->in, &c, 1) != 1) {
            return false;
        }
    }
    return true;
}

static void
wake_up(const char *name, int to[2], int from[2], int cpu, bool thread)
{
    struct peer me = {from[0], to[1], 0}, other = {to[0], from[1], cpu};
    pthread_t t;
    pid_t pid = 0;
    if (thread) {
        (void)pthread_create(&t, NULL, answer, &other);
    } else if ((pid = fork()) == 0) {
        (void)close(to[1]);
        answer(&other);
        _exit(0);
    }
    measure(name, CLOCK_WALL, 2, ping_pong, &me);
    if (thread) {
        (void)shutdown(to[1], SHUT_WR);
        (void)close(to[1]);
        (void)pthread_join(t, NULL);
    } else {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        (void)close(to[1]);
    }
    (void)close(to[0]);
    (void)close(from[0]);
    (void)close(from[1]);
}

static void
wake_ups(void)
{
    int to[2], from[2];
    cpu_set_t was;
    (void)sched_getaffinity(0, sizeof(was), &was);
    pin(0);
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = {"wake thread, same cpu", "wake thread, other cpu", "wake process, same cpu",
                                            "wake process, other cpu"};
        if ((i & 1) && sysconf(_SC_NPROCESSORS_ONLN) < 2) {
            continue;
        }
        if (pipe(to) == 0 && pipe(from) == 0) {
            wake_up(names[i], to, from, i & 1, i < 2);
        }
    }
    struct pair p;
    if (tcp_pair(&p)) {
        int a[2] = {p.b, p.a}, b[2] = {dup(p.a), dup(p.b)};
        wake_up("wake process, tcp, same cpu", a, b, 0, false);
    }
    (void)sched_setaffinity(0, sizeof(was), &was);
}

void
calibrate_kernel(void)
{
    static size_t sizes[] = {64, 256, 1500, 16384, 65536};
    char name[64];
    struct pair p;
    measure("indirect call", CLOCK_CPU, 1, indirect_call, NULL);
    measure("system call", CLOCK_CPU, 1, system_call, NULL);
    measure("clock_gettime", CLOCK_CPU, 1, clock_read, NULL);
    measure("memcpy 16384", CLOCK_CPU, 1, copy, &sizes[3]);
    if (tcp_pair(&p)) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            p.n = sizes[i];
            snprintf(name, sizeof(name), "tcp send+recv %zu", p.n);
            measure(name, CLOCK_CPU, 1, tcp_carry, &p);
        }
        (void)close(p.a);
        (void)close(p.b);
    }
    wake_ups();
}
