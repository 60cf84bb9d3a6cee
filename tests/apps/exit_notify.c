/* SPDX-License-Identifier: Apache-2.0
 *
 * exit_notify: a server process ends in each way there is, without close. Its client, which takes a bare
 * FIN for a cut, sees all that was written until the very last moment and then the end: from a stream
 * that exit flushes, from a handler that runs after all destructors and calls fflush(NULL), from a
 * stream of the program's own making that writes into another one, into a socket that has no room, while
 * other threads write. Of a process that ends and leaves the connection to another it sees nothing.
 * late: what the destructor of a shared library writes, which is run after all others.
 */
/* run: modes ways child room threads late */
/* run: config strict_close = true; */
#include "app.h"
#include <dlfcn.h>

static int conn = -1;
static FILE *stream, *above;

static void
say_late(int status, void *arg)
{
    (void)status;
    (void)arg;
    if (conn >= 0 && stream) {
        fputs("flushed too early? ", stream);
        fflush(NULL);
        MUST(write(conn, "no ", 3) == 3);
        fputs("left to exit\n", above ? above : stream);
    }
}

/* Before libc's start notes the destructors: run after them. */
static void
early(void)
{
    on_exit(say_late, NULL);
}
__attribute__((section(".preinit_array"), used)) static void (*run_early)(void) = early;

static ssize_t
write_through(void *cookie, const char *b, size_t n)
{
    (void)cookie;
    return (ssize_t)fwrite(b, 1, n, stream);
}

static void *
exit_in_thread(void *arg)
{
    (void)arg;
    exit(7);
}

static void
leave(const char *how)
{
    static const cookie_io_functions_t through = {.write = write_through};
    char c;
    pthread_t t;
    app_put(conn, "served ", 7);
    if (strcmp(how, "_exit") == 0)
        _exit(3);
    if (strcmp(how, "quick_exit") == 0)
        quick_exit(4);
    if (strcmp(how, "above") == 0) /* flushed after the other, being older */
        MUST(above = fopencookie(NULL, "w", through));
    if (strcmp(how, "stream") == 0 || strcmp(how, "above") == 0 || strcmp(how, "below") == 0) {
        MUST(stream = fdopen(conn, "w"));
        fputs("from a stream ", stream);
    }
    if (strcmp(how, "below") == 0)
        MUST(above = fopencookie(NULL, "w", through));
    if (strcmp(how, "thread") == 0) {
        MUST(pthread_create(&t, NULL, exit_in_thread, NULL) == 0);
        (void)!read(conn, &c, 1);
    }
    if (strcmp(how, "main thread") == 0) {
        MUST(pthread_create(&t, NULL, exit_in_thread, NULL) == 0);
        pthread_exit(NULL);
    }
    if (strcmp(how, "exit") == 0)
        exit(5);
}

/* How the client sees it end. */
static void
collect(int fd, const char *how)
{
    static char b[4096];
    size_t n = 0;
    ssize_t r = 1;
    while (n < sizeof b - 1 && (r = read(fd, b + n, sizeof b - 1 - n)) > 0)
        n += (size_t)r;
    b[n] = 0;
    say("%s: \"%s\" then %zd %s\n", how, b, r, r < 0 ? strerrorname_np(errno) : "");
    close(fd);
}

static int
server(int lfd)
{
    fflush(stdout);
    pid_t pid = (pid_t)CK(fork());
    if (pid)
        return (int)pid;
    conn = (int)CK(accept(lfd, NULL, NULL));
    close(lfd);
    return 0;
}

static void
join(pid_t pid)
{
    int st = 0;
    CK(waitpid(pid, &st, 0));
    say("status %x\n", (unsigned)st);
}

static int
ways(int lfd)
{
    static const char *const way[] = {"return", "exit", "_exit", "quick_exit", "thread", "main thread",
                                      "stream", "above", "below"};
    for (size_t i = 0; i < sizeof way / sizeof *way; i++) {
        pid_t pid = server(lfd);
        if (pid == 0) {
            leave(way[i]);
            return 6; /* not by a thread that reads while another one exits */
        }
        collect(app_connect(), way[i]);
        join(pid);
    }
    return 0;
}

/* The children of the server end by exit; the connection is not theirs alone. */
static int
child(int lfd)
{
    pid_t pid = server(lfd);
    if (pid == 0) {
        for (int i = 0; i < 3; i++) {
            pid_t one = (pid_t)CK(fork());
            if (one == 0) {
                if (i > 0)
                    MUST(stream = fdopen(conn, "w"));
                if (i > 1)
                    fputs("a child's ", stream);
                exit(0);
            }
            CK(waitpid(one, NULL, 0));
            app_put(conn, "after it ", 9);
        }
        exit(0);
    }
    collect(app_connect(), "child");
    join(pid);
    return 0;
}

/* Not even for the end there is room at first. */
static void
room_once(int lfd, int by_close)
{
    static char b[1 << 16];
    int gate[2];
    CK(pipe(gate));
    pid_t pid = server(lfd);
    if (pid == 0) {
        size_t n = 0;
        ssize_t r;
        int few = 1;
        CK(setsockopt(conn, SOL_SOCKET, SO_SNDBUF, &few, sizeof few));
        CK(fcntl(conn, F_SETFL, O_NONBLOCK));
        while ((r = write(conn, b, 1000)) > 0)
            n += (size_t)r;
        MUST(write(gate[1], &n, sizeof n) == sizeof n);
        if (by_close)
            CK(close(conn));
        exit(0);
    }
    int fd = app_connect();
    size_t want = 0, got = 0;
    MUST(read(gate[0], &want, sizeof want) == sizeof want);
    usleep(50000); /* so that the end comes first; nothing is judged by it */
    ssize_t r;
    while ((r = read(fd, b, sizeof b)) > 0)
        got += (size_t)r;
    say("all there: %d, then %zd %s\n", want == got, r, r < 0 ? strerrorname_np(errno) : "");
    close(fd);
    join(pid);
}

static int
room(int lfd)
{
    for (int i = 0; i < 6; i++)
        room_once(lfd, i & 1);
    return 0;
}

static void *
write_on(void *arg)
{
    (void)arg;
    while (write(conn, "and on", 6) == 6)
        ;
    pause();
    return NULL;
}

/* Threads that write until the process is no more do not change how it ends. */
static int
threads(int lfd)
{
    static char b[1 << 16];
    for (int i = 0; i < 8; i++) {
        pid_t pid = server(lfd);
        if (pid == 0) {
            pthread_t t[3];
            for (int k = 0; k < 3; k++)
                MUST(pthread_create(&t[k], NULL, write_on, NULL) == 0);
            MUST(read(conn, b, 1) == 1);
            if (i & 1)
                _exit(1);
            exit(1);
        }
        int fd = app_connect();
        ssize_t r;
        size_t n = 0;
        while (n < 3000 && (r = read(fd, b, sizeof b)) > 0)
            n += (size_t)r;
        app_put(fd, "x", 1);
        while ((r = read(fd, b, sizeof b)) > 0)
            n += (size_t)r;
        say("then %zd %s\n", r, r < 0 ? strerrorname_np(errno) : "");
        close(fd);
        join(pid);
    }
    return 0;
}

static int
late(int lfd, const char *self)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s.so", self);
    void *lib = dlopen(path, RTLD_NOW);
    int *fd = lib ? dlsym(lib, "late_conn") : NULL;
    FILE **fp = lib ? dlsym(lib, "late_stream") : NULL;
    MUST(fd && fp);
    pid_t pid = server(lfd);
    if (pid == 0) {
        *fd = dup(conn);
        MUST(*fp = fdopen(conn, "w"));
        return 0;
    }
    collect(app_connect(), "late");
    join(pid);
    return 0;
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    int lfd = app_listen();
    if (strcmp(app_mode, "child") == 0)
        return child(lfd);
    if (strcmp(app_mode, "room") == 0)
        return room(lfd);
    if (strcmp(app_mode, "threads") == 0)
        return threads(lfd);
    if (strcmp(app_mode, "late") == 0)
        return late(lfd, argv[0]);
    return ways(lfd);
}
