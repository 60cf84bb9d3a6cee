/* SPDX-License-Identifier: Apache-2.0
 *
 * stop_holder: two processes share a connection, and one is stopped at any instruction of its read or
 * write, by its tracer. The other one's call may wait for it meanwhile; when the first goes on all is as
 * if it had only been slow: each write is whole and in one place, each byte is read once.
 *
 * APP_LATE: it is left stopped until the other's call has returned, however long that takes; the
 * connection may be lost then, for both, and what the peer sees is a beginning of what was written.
 */
/* run: modes write read */
/* run: timeout 120 steps */
#include "app.h"
#include <sys/mman.h>
#include <sys/ptrace.h>

#define CHUNK 40000
#define OTHER 3000

static unsigned rnd_state = 7;
static int late, stopped_inside, lost;

static unsigned
rnd(unsigned n)
{
    rnd_state = rnd_state * 1103515245u + 12345u;
    return (rnd_state >> 8) % n;
}

static char first[CHUNK], second[OTHER];

static void
write_first(int fd)
{
    _exit(send(fd, first, CHUNK, MSG_NOSIGNAL) == CHUNK ? 0 : 1);
}

/* What both read, in order of who read it; the positions tell. */
static struct {
    size_t n[2];
    char got[2][CHUNK];
} *both;

static void
read_some(int fd, int who, size_t most)
{
    ssize_t r = recv(fd, both->got[who], most, MSG_DONTWAIT);
    both->n[who] = r > 0 ? (size_t)r : 0;
}

static void
read_first(int fd)
{
    read_some(fd, 0, CHUNK / 2);
    _exit(0);
}

/* A child in the midst of `call`, stopped. It may have got through: 0. */
static pid_t
stop_in(void (*call)(int), int fd)
{
    int st = 0;
    unsigned steps = rnd(rnd(2) ? 3000 : 20000);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        call(fd);
    }
    CK(waitpid(pid, &st, 0));
    while (steps-- > 0 && WIFSTOPPED(st))
        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0 || waitpid(pid, &st, 0) != pid)
            return 0;
    if (!WIFSTOPPED(st))
        return 0;
    kill(pid, SIGSTOP); /* it takes effect as the tracer leaves */
    CK(ptrace(PTRACE_DETACH, pid, NULL, SIGSTOP));
    CK(waitpid(pid, &st, WUNTRACED));
    return WIFSTOPPED(st) ? pid : 0;
}

static _Atomic int returned;
static ssize_t result;
static int result_errno;
static double waited, busy; /* seconds of the other's calls, by the clock and of CPU */

static double
seconds(clockid_t clock)
{
    struct timespec t;
    CK(clock_gettime(clock, &t));
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
call_write(int fd)
{
    result = send(fd, second, OTHER, MSG_NOSIGNAL);
    result_errno = errno;
}

static void
call_read(int fd)
{
    read_some(fd, 1, CHUNK);
    result = 0;
}

static struct {
    void (*call)(int);
    int fd;
} other;

static void *
other_main(void *arg)
{
    double since = seconds(CLOCK_MONOTONIC), before = seconds(CLOCK_THREAD_CPUTIME_ID);
    other.call(other.fd);
    waited += seconds(CLOCK_MONOTONIC) - since;
    busy += seconds(CLOCK_THREAD_CPUTIME_ID) - before;
    returned = 1;
    return arg;
}

/* The other one's call, in a thread: until it is through, or waits. Then the first goes on. */
static void
other_while_stopped(void (*call)(int), int fd, pid_t pid)
{
    pthread_t t;
    int st = 0;
    returned = 0;
    other.call = call;
    other.fd = fd;
    MUST(pthread_create(&t, NULL, other_main, NULL) == 0);
    for (int i = 0; i < 20 && !returned; i++)
        usleep(1000);
    stopped_inside += !returned;
    while (late && !returned)
        usleep(1000);
    if (pid) {
        CK(kill(pid, SIGCONT));
        CK(waitpid(pid, &st, 0));
    }
    MUST(pthread_join(t, NULL) == 0);
}

static int
is_reset(int no)
{
    lost += no == ECONNRESET || no == EPIPE;
    return no == ECONNRESET || no == EPIPE;
}

/* Either one after the other, whole. */
static int
round_write(void)
{
    static char b[CHUNK + OTHER + 1];
    int c = 0, s = 0;
    app_pair(&c, &s);
    pid_t pid = stop_in(write_first, s);
    other_while_stopped(call_write, s, pid);
    int failed = result != OTHER;
    if (failed && !(late && is_reset(result_errno)))
        return 0;
    close(s);
    size_t n = 0;
    ssize_t r;
    while ((r = read(c, b + n, sizeof b - n)) > 0)
        n += (size_t)r;
    close(c);
    if (failed)
        return n <= CHUNK && memcmp(b, first, n) == 0;
    return n == CHUNK + OTHER && r == 0 &&
           ((memcmp(b, first, CHUNK) == 0 && memcmp(b + CHUNK, second, OTHER) == 0) ||
            (memcmp(b, second, OTHER) == 0 && memcmp(b + OTHER, first, CHUNK) == 0));
}

/* All bytes, each once, and each one's in one piece. */
static int
round_read(void)
{
    static char b[CHUNK], rest[CHUNK];
    int c = 0, s = 0;
    app_pair(&c, &s);
    app_put(c, first, CHUNK);
    CK(shutdown(c, SHUT_WR));
    MUST(app_poll(s, POLLIN, APP_WAIT) & POLLIN);
    memset(both, 0, sizeof *both);
    pid_t pid = stop_in(read_first, s);
    other_while_stopped(call_read, s, pid);
    size_t n = 0, m = 0;
    ssize_t r;
    while ((r = read(s, rest + n, sizeof rest - n)) > 0)
        n += (size_t)r;
    int no = errno;
    close(s);
    close(c);
    if (r < 0)
        return late && is_reset(no);
    for (int order = 0; order < 2; order++) {
        m = both->n[order] + both->n[!order];
        memcpy(b, both->got[order], both->n[order]);
        memcpy(b + both->n[order], both->got[!order], m <= CHUNK ? both->n[!order] : 0);
        memcpy(b + m, rest, m + n == CHUNK ? n : 0);
        if (m + n == CHUNK && memcmp(b, first, CHUNK) == 0)
            return 1;
    }
    return 0;
}

int
main(int argc, char **argv)
{
    const char *want = getenv("APP_ROUNDS");
    int rounds = want ? atoi(want) : 30, wrong = 0;
    app_main(argc, argv);
    late = getenv("APP_LATE") != NULL;
    both = mmap(NULL, sizeof *both, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(both != MAP_FAILED);
    for (size_t i = 0; i < CHUNK; i++)
        first[i] = (char)('a' + i * i % 23);
    memset(second, 'Z', sizeof second);
    for (int i = 0; i < rounds; i++) {
        alarm(4 * APP_WAIT / 1000);
        wrong += strcmp(app_mode, "write") == 0 ? !round_write() : !round_read();
    }
    if (want)
        fprintf(stderr, "waited %d times, %.3f s, %.3f s of CPU, %d were lost\n", stopped_inside, waited,
                busy, lost);
    say("wrong: %d\n", wrong);
    say("spins: %s\n", busy > 0.05 + waited / 4 ? "yes" : "no");
    return 0;
}
