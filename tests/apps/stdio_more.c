/* SPDX-License-Identifier: Apache-2.0
 *
 * stdio_more: what a FILE on a connection does beside moving lines: buffering, scanf, wide streams,
 * the standard streams laid over a connection, freopen, numbers that are used again, EOF and errors
 * that stick, a non-blocking descriptor, signals, cancellation, children; and streams that are not
 * on a connection meanwhile.
 */
/* run: modes thread fork */
#include "app.h"

#include <locale.h>
#include <stdio_ext.h>
#include <wchar.h>

static int gate;

/* One character, and what the stream thinks of it. */
static void
next(FILE *f)
{
    errno = 0;
    int c = fgetc(f), no = errno;
    say("fgetc %d %s, feof %d, ferror %d\n", c, strerrorname_np(no), feof(f) != 0, ferror(f) != 0);
}

static void
next_line(FILE *f)
{
    char line[40];
    errno = 0;
    char *r = fgets(line, sizeof line, f);
    say("fgets %s", r ? r : "nothing\n");
}

static FILE *
open_dup(int fd, const char *mode)
{
    FILE *f = fdopen((int)CK(dup(fd)), mode);
    MUST(f);
    return f;
}

/* The server of most talks: says nothing before the end, for the client may own stdout. */
static void
collect(int fd)
{
    static char b[1 << 20];
    size_t n = app_get(fd, b, sizeof b);
    say("%zu bytes, hash %016llx\n", n, (unsigned long long)app_hash(b, n));
    if (n < 2000)
        say("<<%.*s>>\n", (int)n, b);
}

static void
buffers(int fd)
{
    static const int modes[] = {_IONBF, _IOLBF, _IOFBF};
    char own[3000];
    for (int i = 0; i < 3; i++) {
        FILE *f = open_dup(fd, "w");
        say("setvbuf %d\n", setvbuf(f, i == 2 ? own : NULL, modes[i], i == 2 ? sizeof own : 0));
        fprintf(f, "PLAINMARKER %d ", modes[i]);
        say("pending %zu\n", __fpending(f));
        fprintf(f, "line\nrest");
        say("pending %zu\n", __fpending(f));
        RES(fflush(f));
        say("fputs %d\n", fputs("last PLAINMARKER\n", f) >= 0);
        RES(fclose(f));
    }
}

static void
scan(int fd)
{
    FILE *f = open_dup(fd, "r");
    int a = 0;
    double d = 0;
    char w[20] = "";
    say("fscanf %d\n", fscanf(f, "%d %19s %lf", &a, w, &d));
    say("%d %s %.2f\n", a, w, d);
    say("fscanf %d\n", fscanf(f, "%d", &a));
    next(f);
    next(f);
    next(f);
    say("fscanf %d, feof %d\n", fscanf(f, "%d", &a), feof(f) != 0);
    fclose(f);
}

static void
scan_client(int fd)
{
    say("%d\n", dprintf(fd, "17 PLAINMARKER 3.25 x\n"));
}

static void
wide(int fd)
{
    FILE *f = open_dup(fd, "w");
    say("fwide %d\n", fwide(f, 1) > 0);
    say("fwprintf %d\n", fwprintf(f, L"PLAINMARKER \u00e4\u00f6 %d\n", 5));
    say("fputws %d\n", fputws(L"zwei \u20ac\n", f) >= 0);
    RES(fclose(f));
}

static void
wide_server(int fd)
{
    wchar_t line[64];
    FILE *f = open_dup(fd, "r");
    while (fgetws(line, 64, f))
        say("%zu: %ls", wcslen(line), line);
    say("feof %d ferror %d fwide %d\n", feof(f) != 0, ferror(f) != 0, fwide(f, 0) > 0);
    fclose(f);
}

/* The standard streams laid over the connection, and back. */
static void
standard(int fd)
{
    fflush(stdout);
    int out = (int)CK(dup(1)), err = (int)CK(dup(2));
    CK(dup2(fd, 1));
    CK(dup2(fd, 2));
    puts("puts PLAINMARKER");
    printf("printf %d\n", 7);
    putchar('\n');
    fflush(stdout);
    errno = ENOENT;
    perror("perror PLAINMARKER");
    int turned = fwide(stderr, 0);
    errno = ENOENT;
    perror(NULL);
    psignal(SIGTERM, "psignal PLAINMARKER");
    errno = EPERM;
    perror("again");
    system("true");
    CK(dup2(out, 1));
    CK(dup2(err, 2));
    CK(close(out));
    CK(close(err));
    say("stderr was turned: %d\n", turned);
}

static void
print(int fd)
{
    static char big[6000];
    int at = -1;
    memset(big, 'x', sizeof big - 1);
    errno = ENOENT;
    say("%d\n", dprintf(fd, "%s%n %m PLAINMARKER %5.1f\n", "ab", &at, 2.25));
    say("at %d\n", at);
    say("%d\n", dprintf(fd, "%s|%d|%s\n", big, 12, "end"));
    say("%d\n", dprintf(fd, "%s", ""));
    RES(dprintf(fd, "PLAINMARKER %d\n", 1));
}

/* Where numbers are the subject: the server's accept must not take one meanwhile. */
static void
collect_accepted(int fd)
{
    app_open(gate);
    collect(fd);
}

static void
reopen(int fd)
{
    app_pass(gate);
    FILE *f = open_dup(fd, "w");
    int no = fileno(f);
    fputs("before PLAINMARKER\n", f);
    MUST(freopen("/dev/null", "w", f) == f);
    say("same number %d\n", fileno(f) == no);
    say("elsewhere %d\n", fputs("after PLAINMARKER\n", f) >= 0);
    RES(fclose(f));
    f = open_dup(fd, "w");
    no = fileno(f);
    fputs("again\n", f);
    errno = 0;
    FILE *r = freopen("/no/such/file", "w", f);
    say("freopen %s %s\n", r ? "worked" : "failed", strerrorname_np(errno));
    RES(write(no, "x", 1));
    RES(shutdown(fd, SHUT_WR));
    say("peer ends: %d\n", read(fd, &no, 1) == 0);
}

/* The last descriptor goes while the peer has not even accepted: what was written arrives. */
static void
early(const char *how)
{
    int lfd = app_listen(), st = 0;
    say("-- %s before accept\n", how);
    fflush(stdout);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        close(lfd);
        int fd = app_connect();
        FILE *f = fdopen(fd, strcmp(how, "mapped") == 0 ? "rm" : "w");
        MUST(f);
        app_put(fd, "early PLAINMARKER\n", 18);
        if (strcmp(how, "freopen") == 0) {
            fputs("more\n", f);
            MUST(freopen("/dev/null", "w", f));
            fputs("PLAINMARKER nowhere\n", f);
        }
        RES(fclose(f));
        MUST(open("/dev/null", O_RDWR) == fd);
        RES(write(fd, "PLAINMARKER", 11));
        exit(0);
    }
    CK(waitpid(pid, &st, 0));
    say("status %d\n", st);
    int fd = (int)CK(accept(lfd, NULL, NULL));
    collect(fd);
    close(fd);
    close(lfd);
}

/* The last descriptor of a connection goes with the stream. */
static void
last(int fd)
{
    app_pass(gate);
    FILE *f = fdopen(fd, "r+");
    MUST(f);
    fputs("last PLAINMARKER\n", f);
    RES(fclose(f));
    int no = (int)CK(open("/dev/null", O_RDWR));
    say("number used again: %d\n", no == fd);
    RES(write(no, "PLAINMARKER", 11));
    f = fdopen(no, "w");
    MUST(f);
    say("fputs %d\n", fputs("PLAINMARKER\n", f) >= 0);
    RES(fclose(f));
    app_open(gate);
}

static void
last_server(int fd)
{
    collect_accepted(fd);
    app_pass(gate); /* the client's number is free before ours may be used */
}

static void
end(int fd)
{
    FILE *f = open_dup(fd, "r");
    next_line(f);
    next(f);
    next(f);
    say("ungetc %d\n", ungetc('u', f));
    next(f);
    clearerr(f);
    next(f);
    RES(ftell(f));
    RES(fseek(f, 0, SEEK_END));
    fclose(f);
    f = open_dup(fd, "w");
    fputs("bye PLAINMARKER\n", f);
    RES(fclose(f));
}

static void
end_client(int fd)
{
    RES(write(fd, "one PLAINMARKER\n", 16));
    RES(shutdown(fd, SHUT_WR));
    collect(fd);
}

static void
nonblock(int fd)
{
    static char b[1 << 20];
    FILE *f = open_dup(fd, "r+");
    app_nonblock(fd, 1);
    next(f);
    clearerr(f);
    app_open(gate);
    say("poll %s\n", app_events(app_poll(fd, POLLIN, APP_WAIT)));
    next_line(f);
    next(f);
    clearerr(f);
    int full = 0;
    errno = 0;
    for (int i = 0; i < 64 && !full; i++)
        full = fwrite(b, 1, sizeof b, f) < sizeof b;
    say("full %d %s ferror %d\n", full, strerrorname_np(errno), ferror(f) != 0);
    app_open(gate + 1);
    fclose(f);
}

static void
nonblock_server(int fd)
{
    static char b[65536];
    app_pass(gate);
    RES(write(fd, "go PLAINMARKER\n", 15));
    app_pass(gate + 1);
    while (read(fd, b, sizeof b) > 0) {
    }
}

static void
on_alarm(int sig)
{
    (void)sig;
}

static void
interrupted(int fd)
{
    struct itimerval every = {{0, 20000}, {0, 20000}}, never = {{0, 0}, {0, 0}};
    struct sigaction sa = {.sa_handler = on_alarm};
    sigset_t set;
    FILE *f = open_dup(fd, "r");
    CK(sigaction(SIGALRM, &sa, NULL));
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    CK(setitimer(ITIMER_REAL, &every, NULL));
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    next(f);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    CK(setitimer(ITIMER_REAL, &never, NULL));
    clearerr(f);
    app_open(gate);
    next_line(f);
    fclose(f);
}

static void
gated_line(int fd)
{
    app_pass(gate);
    RES(write(fd, "go PLAINMARKER\n", 15));
    collect(fd);
}

static void *
wait_line(void *arg)
{
    app_open(gate + 1);
    (void)fgetc(arg);
    return NULL;
}

/* fclose that has nothing to write is no cancellation point. */
static void *
not_cancelled(void *arg)
{
    FILE *f = fdopen(*(int *)arg, "r");
    MUST(f);
    int c = fgetc(f);
    pthread_cancel(pthread_self());
    *(int *)arg = fclose(f) == 0 ? c : -1;
    pthread_testcancel();
    return NULL;
}

static void
cancelled(int fd)
{
    pthread_t t;
    void *r = NULL;
    int arg = (int)CK(dup(fd));
    FILE *f = open_dup(fd, "r");
    MUST(pthread_create(&t, NULL, wait_line, f) == 0);
    app_pass(gate + 1);
    pthread_cancel(t);
    pthread_join(t, &r);
    say("cancelled %d, lock is free %d\n", r == PTHREAD_CANCELED, ftrylockfile(f) == 0);
    funlockfile(f);
    app_open(gate);
    next_line(f);
    app_open(gate);
    MUST(pthread_create(&t, NULL, not_cancelled, &arg) == 0);
    pthread_join(t, &r);
    say("read '%c' and closed, then cancelled %d\n", arg, r == PTHREAD_CANCELED);
    fclose(f);
}

static void
cancelled_server(int fd)
{
    app_pass(gate);
    RES(write(fd, "go PLAINMARKER\n", 15));
    app_pass(gate);
    RES(write(fd, "x", 1));
    collect(fd);
}

/* A buffer that both processes hold is written by both, as ever. */
static void
children(int fd)
{
    FILE *f = open_dup(fd, "w");
    int st = 0;
    fputs("twice PLAINMARKER\n", f);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        fputs("child\n", f);
        exit(fclose(f) == 0 ? 3 : 4);
    }
    CK(waitpid(pid, &st, 0));
    say("child %d\n", WEXITSTATUS(st));
    fputs("parent\n", f);
    fflush(f);
    pid = vfork();
    if (pid == 0) {
        fputs("vfork child PLAINMARKER\n", f);
        _exit(fflush(f) == 0 ? 5 : 6);
    }
    CK(waitpid(pid, &st, 0));
    say("child %d\n", WEXITSTATUS(st));
    fputs("end\n", f);
    RES(fclose(f));
}

/* Streams that are none of ours, while connections are there. */
static void
others(int fd)
{
    char line[40] = "";
    FILE *f = popen("echo from a pipe", "r");
    say("%s", fgets(line, sizeof line, f));
    say("pclose %d\n", pclose(f));
    f = fmemopen(line, sizeof line, "r");
    say("%s", fgets(line, 6, f));
    fclose(f);
    say("\n");
    f = tmpfile();
    fputs("a file\n", f);
    rewind(f);
    say("%s", fgets(line, sizeof line, f));
    RES(fclose(f));
    f = fopen("/etc/passwd", "rm");
    MUST(f && fgets(line, 6, f));
    say("%s\n", line);
    RES(fclose(f));
    f = open_dup(fd, "rm");
    RES(fclose(f));
    RES(write(fd, "PLAINMARKER", 11));
}

int
main(int argc, char **argv)
{
    sigset_t set;
    app_main(argc, argv);
    MUST(setlocale(LC_ALL, "C.UTF-8"));
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    gate = app_gate();
    MUST(app_gate() == gate + 1);
    app_talk("buffers", collect, buffers);
    app_talk("scanf", scan, scan_client);
    app_talk("wide", wide_server, wide);
    app_talk("standard streams", collect, standard);
    app_talk("dprintf", collect, print);
    app_talk("freopen", collect_accepted, reopen);
    early("freopen");
    early("fclose");
    early("mapped");
    app_talk("last descriptor", last_server, last);
    app_talk("end of file", end, end_client);
    app_talk("non-blocking", nonblock_server, nonblock);
    app_talk("interrupted", gated_line, interrupted);
    app_talk("cancelled", cancelled_server, cancelled);
    app_talk("children", collect, children);
    app_talk("others", collect, others);
    return 0;
}
