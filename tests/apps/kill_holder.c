/* SPDX-License-Identifier: Apache-2.0
 *
 * kill_holder: two processes share a connection, and one is killed at any instruction of its read or
 * write: traced and stepped a random number of instructions into the call, or after a random time. The
 * other goes on:
 * its peer sees a beginning of what the dead one wrote, and then all of what the survivor writes; the
 * survivor reads on where the dead one stopped. Or the connection is reset, for both. No byte is
 * lost in between, repeated, or foreign, and nobody hangs.
 *
 * APP_ROUNDS: how many times (default 300), each sixteenth of them stepped, which takes long.
 */
/* run: modes write read */
/* run: kills steps */
/* run: timeout 120 */
#include "app.h"
#include <sys/mman.h>
#include <sys/ptrace.h>

#define CHUNK 40000

static unsigned rnd_state = 1;

static unsigned
rnd(unsigned n)
{
    rnd_state = rnd_state * 1103515245u + 12345u;
    return (rnd_state >> 8) % n;
}

static char
letter(char base, size_t i)
{
    return (char)(base + i % 23);
}

/* As below, after `ns` nanoseconds. */
static void
run_and_kill_timed(void (*call)(int, size_t), int fd, size_t n, unsigned ns)
{
    static _Atomic int *begun;
    struct timespec from, now;
    if (!begun)
        begun = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *begun = 0;
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        *begun = 1;
        call(fd, n);
        _exit(0);
    }
    while (!*begun)
        ;
    clock_gettime(CLOCK_MONOTONIC, &from);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - from.tv_sec) * 1000000000 + now.tv_nsec - from.tv_nsec < ns);
    kill(pid, SIGKILL);
    CK(waitpid(pid, NULL, 0));
}

/* Runs `call` in a child and kills it after `steps` instructions, or when it is through. */
static void
run_and_kill(void (*call)(int, size_t), int fd, size_t n, unsigned steps)
{
    int st = 0;
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        call(fd, n);
        _exit(0);
    }
    CK(waitpid(pid, &st, 0));
    while (steps-- > 0 && WIFSTOPPED(st)) {
        if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0 || waitpid(pid, &st, 0) != pid)
            break;
    }
    if (!WIFEXITED(st) && !WIFSIGNALED(st)) {
        kill(pid, SIGKILL);
        CK(waitpid(pid, &st, 0));
    }
}

static void
write_some(int fd, size_t n)
{
    static char b[CHUNK];
    for (size_t i = 0; i < n; i++)
        b[i] = letter('a', i);
    if (write(fd, b, n) < 0)
        _exit(1);
}

static void
read_some(int fd, size_t n)
{
    static char b[CHUNK];
    if (read(fd, b, n) < 0)
        _exit(1);
}

static int gone_on, was_reset, wrong, round_no;
static double busy; /* seconds of CPU of what the survivor does */

static double
cpu_seconds(void)
{
    struct timespec t;
    CK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t));
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int
is_reset(ssize_t r)
{
    return r < 0 && (errno == ECONNRESET || errno == EPIPE);
}

/* Everything until the end: a beginning of 'a's, then 'A's. */
static void
judge_stream(int c, size_t second, int survivor_failed)
{
    static char b[3 * CHUNK];
    size_t n = 0, a = 0, i = 0;
    ssize_t r;
    while ((r = read(c, b + n, sizeof b - n)) > 0)
        n += (size_t)r;
    while (a < n && b[a] == letter('a', a))
        a++;
    while (a + i < n && b[a + i] == letter('A', i))
        i++;
    if (a + i != n || (r < 0 && !is_reset(r)))
        wrong++;
    else if (i == second && r == 0)
        gone_on++;
    else if (is_reset(r) || survivor_failed)
        was_reset++;
    else
        wrong++;
}

static void
round_write(void)
{
    static char b[CHUNK];
    int c = 0, s = 0;
    size_t first = 1 + rnd(rnd(2) ? 200 : CHUNK), second = 1 + rnd(5000);
    app_pair(&c, &s);
    if (round_no % 16 == 0)
        run_and_kill(write_some, s, first, rnd(rnd(2) ? 3000 : 30000));
    else
        run_and_kill_timed(write_some, s, first, rnd(rnd(2) ? 20000 : 200000));
    for (size_t i = 0; i < second; i++)
        b[i] = letter('A', i);
    double before = cpu_seconds();
    ssize_t r = send(s, b, second, MSG_NOSIGNAL);
    int failed = r != (ssize_t)second;
    if (failed && !is_reset(r))
        wrong++;
    close(s);
    judge_stream(c, second, failed);
    close(c);
    busy += cpu_seconds() - before;
}

/* What the survivor reads is the rest of the stream from some place on. */
static void
judge_rest(int s, size_t total)
{
    static char b[3 * CHUNK];
    size_t n = 0;
    ssize_t r;
    while ((r = read(s, b + n, sizeof b - n)) > 0)
        n += (size_t)r;
    for (size_t i = 0; i < n && n <= total; i++)
        if (b[i] != letter('a', total - n + i)) {
            if (!is_reset(r)) { /* a stream that was cut may end anywhere */
                wrong++;
                return;
            }
            break;
        }
    if (n > total || (r < 0 && !is_reset(r)))
        wrong++;
    else if (r == 0)
        gone_on++;
    else
        was_reset++;
}

static void
round_read(void)
{
    static char b[CHUNK];
    int c = 0, s = 0;
    size_t total = 1 + rnd(rnd(2) ? 200 : CHUNK);
    app_pair(&c, &s);
    for (size_t i = 0; i < total; i++)
        b[i] = letter('a', i);
    app_put(c, b, total);
    struct pollfd p = {s, POLLIN, 0};
    CK(poll(&p, 1, APP_WAIT));
    if (round_no % 16 == 0)
        run_and_kill(read_some, s, 1 + rnd(CHUNK), rnd(rnd(2) ? 3000 : 30000));
    else
        run_and_kill_timed(read_some, s, 1 + rnd(CHUNK), rnd(rnd(2) ? 20000 : 200000));
    double before = cpu_seconds();
    CK(shutdown(c, SHUT_WR));
    judge_rest(s, total);
    close(s);
    close(c);
    busy += cpu_seconds() - before;
}

int
main(int argc, char **argv)
{
    const char *want = getenv("APP_ROUNDS");
    int rounds = want ? atoi(want) : 300;
    app_main(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    rnd_state = (unsigned)rounds;
    for (round_no = 0; round_no < rounds; round_no++) {
        alarm(APP_WAIT / 1000); /* a hang is the end of this program */
        strcmp(app_mode, "write") == 0 ? round_write() : round_read();
    }
    if (want)
        fprintf(stderr, "%d went on, %d were reset, %d wrong, %.3f s of CPU\n", gone_on, was_reset, wrong, busy);
    say("wrong: %d, some went on: %s\n", wrong, gone_on > 0 ? "yes" : "no");
    say("spins: %s\n", busy > 0.3 + 0.002 * rounds ? "yes" : "no"); /* a round takes less than a tenth of that */
    return 0;
}
