/* SPDX-License-Identifier: Apache-2.0
 *
 * fork_fresh: a socket is there before fork, and connected after it, by one of the two; both have the connection.
 * gone: the child connects by a duplicate, uses it and ends. both: it stays. back: the parent connects. twice: the
 * other one connects it, too. race: both do so at once. refused: first in vain. again: connect(AF_UNSPEC) and once
 * more. events: the other one waits with poll, and epoll. listen: it becomes a listener. image: an image that the
 * child executes connects it. spawn: the same by posix_spawn. reborn: the program executes itself before it forks. dead: the child ends at once, and the
 * parent closes behind more than the peer takes. closer: who connects does not wait for it, and closes. early: it
 * writes before it is accepted, closes, and then the other does. leader: a process whose first thread has ended is none
 * that has. many: nothing is left of many such sockets.
 */
/* run: modes gone both back twice race refused again events listen image spawn reborn dead closer early leader many */
#include "app_proc.h"

#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>

#define RACES 60
#define MANY  160
#define SHEAF 500

static int up[2], down[2]; /* whose turn it is */
static int gate, given = -1;
static _Atomic int *ready;
static _Atomic uint64_t *sent;

static int
mode(const char *name)
{
    return strcmp(app_mode, name) == 0;
}

static void
server(int lfd)
{
    static const struct { const char *mode; int n; } served[] = {{"race", RACES}, {"again", 2}, {"listen", 0}, {"many", MANY / 2}};
    static char b[40000];
    size_t total = 0;
    int n = 1, silent = mode("dead") || mode("early");
    for (size_t i = 0; i < sizeof served / sizeof *served; i++)
        n = strcmp(app_mode, served[i].mode) == 0 ? served[i].n : n;
    while (n--) {
        if (mode("early"))
            app_pass(gate);
        int fd = (int)CK(accept(lfd, NULL, NULL));
        ssize_t r;
        if (mode("dead"))
            app_pass(gate);
        while ((r = read(fd, b, sizeof b)) > 0) {
            if (!silent)
                app_put(fd, b, (size_t)r);
            total += (size_t)r;
        }
        if (silent)
            total = total == *sent;
        if (r < 0)
            say("end %s\n", strerrorname_np(errno));
        close(fd);
    }
    say("echoed %zu\n", total);
}

static void
tell(int p[2])
{
    app_put(p[1], "x", 1);
}

static void
await(int p[2])
{
    char b;
    MUST(read(p[0], &b, 1) == 1);
}

static int
connect_to(int fd, const struct sockaddr_in *at)
{
    return connect(fd, (const struct sockaddr *)at, sizeof *at);
}

/* What the child executes. */
static int
image(int fd, int port)
{
    app_addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    app_addr.sin_port = htons((uint16_t)port);
    RES(connect_to(fd, &app_addr));
    say("image: %d\n", app_use(fd, 1000, 0));
    return 0;
}

static pid_t
execute(int fd)
{
    char path[PATH_MAX], number[16], port[16];
    char *args[] = {path, "connects", number, port, NULL};
    pid_t pid = 0;
    app_image(path, "fork_fresh");
    snprintf(number, sizeof number, "%d", fd);
    snprintf(port, sizeof port, "%d", ntohs(app_addr.sin_port));
    if (mode("spawn")) {
        MUST(posix_spawn(&pid, path, NULL, NULL, args, environ) == 0);
        return pid;
    }
    execv(path, args);
    _exit(9);
}

static void *
goes_on(void *fd)
{
    await(down);
    say("child: %d\n", app_use((int)(intptr_t)fd, 20000, 7));
    _exit(0);
}

static void
ends(int fd)
{
    pthread_t t;
    MUST(pthread_create(&t, NULL, goes_on, (void *)(intptr_t)fd) == 0);
    tell(up);
    pthread_exit(NULL);
}

/* Until the first thread of the process has ended. */
static void
await_end(pid_t pid)
{
    char path[64], b[256];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    for (char *at = NULL; !at || at[2] != 'Z'; sched_yield()) {
        int fd = (int)CK(open(path, O_RDONLY));
        b[CK(read(fd, b, sizeof b - 1))] = 0;
        at = strrchr(b, ')');
        close(fd);
    }
}

/* The child's turns and the parent's, one after the other. */
static void
child(int fd, int copy)
{
    if (mode("dead"))
        _exit(0);
    if (mode("image"))
        execute(fd);
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    struct sockaddr_in closed = app_addr;
    closed.sin_port = htons(1);
    if (mode("back") || mode("events"))
        await(down);
    if (mode("refused"))
        RES(connect_to(fd, &closed));
    else if (mode("events") || mode("closer"))
        MUST(connect_to(fd, &app_addr) == 0 || errno == EINPROGRESS);
    else if (!mode("back"))
        RES(connect_to(copy, &app_addr));
    if (mode("events")) {
        MUST(app_poll(fd, POLLOUT, APP_WAIT) == POLLOUT);
        tell(up);
        await(down);
    }
    if (mode("early")) {
        *sent = 10;
        app_put(fd, "some bytes", 10);
    }
    if (mode("closer") || mode("early"))
        close(copy), close(fd);
    else if (!mode("refused"))
        say("child: %d\n", app_use(fd, 1000, 0));
    if (mode("leader"))
        ends(fd);
    tell(up);
    if (mode("gone"))
        _exit(0);
    await(down);
    if (mode("closer"))
        _exit(0);
    if (mode("early"))
        exit(0);
    if (mode("again")) {
        RES(connect(fd, &none, sizeof none));
        tell(up);
        await(down);
        RES(connect_to(fd, &app_addr));
    }
    say("child: %d\n", app_use(fd, 20000, 7));
    close(copy);
    close(fd);
    tell(up);
    await(down);
    _exit(0);
}

static void
events(int fd)
{
    int ep = (int)CK(epoll_create1(0));
    struct epoll_event e = {0, {0}};
    app_epoll_add(ep, fd, EPOLLIN | EPOLLOUT | EPOLLET);
    RES(epoll_wait(ep, &e, 1, 0));
    say("events %x\n", e.events);
    tell(down);
    await(up);
    RES(epoll_wait(ep, &e, 1, APP_WAIT));
    say("events %x\n", e.events);
    say("poll %s\n", app_events(app_poll(fd, POLLIN | POLLOUT, APP_WAIT)));
    app_nonblock(fd, 0);
    close(ep);
    tell(down);
}

static void
parent(int fd, pid_t pid)
{
    if (mode("back"))
        RES(connect_to(fd, &app_addr)), tell(down);
    if (mode("events"))
        events(fd);
    if (mode("image") || mode("spawn") || mode("dead"))
        CK(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT));
    else
        await(up);
    if (mode("twice") || mode("refused") || mode("dead"))
        RES(connect_to(fd, &app_addr));
    if (mode("closer")) {
        MUST(app_poll(fd, POLLOUT, APP_WAIT) == POLLOUT);
        app_nonblock(fd, 0);
    }
    if (mode("leader"))
        await_end(pid);
    if (mode("dead") || mode("early") || mode("leader"))
        return;
    say("parent: %d\n", app_use(fd, 30000, 100));
    if (mode("gone") || mode("image") || mode("spawn"))
        return;
    tell(down);
    if (mode("closer"))
        return;
    if (mode("again")) {
        await(up);
        RES(send(fd, "x", 1, MSG_NOSIGNAL));
        RES(recv(fd, up, 0, 0));
        tell(down);
    }
    await(up);
    say("parent: %d\n", app_use(fd, 5, 3));
    tell(down);
}

/* More than goes out at once: what is left goes after close(). The server says how much it was. */
static void
stuff(int fd)
{
    static char b[300000];
    ssize_t r;
    uint64_t total = 0;
    app_nonblock(fd, 1);
    while ((r = write(fd, b, sizeof b)) > 0)
        total += (uint64_t)r;
    *sent = total;
}

static void
take_turns(void)
{
    int fd = given >= 0 ? given : (int)CK(socket(AF_INET, SOCK_STREAM, 0)), copy = (int)CK(dup(fd));
    char b;
    app_nonblock(fd, mode("events") || mode("closer"));
    fflush(stdout);
    pid_t pid = mode("spawn") ? execute(fd) : (pid_t)CK(fork());
    if (pid == 0)
        child(fd, copy);
    parent(fd, pid);
    if (mode("early") || mode("leader")) {
        close(copy);
        close(fd);
        app_open(gate);
        tell(down);
    }
    app_ended("child", pid);
    if (mode("early") || mode("leader"))
        return;
    if (mode("dead")) {
        stuff(fd);
        close(copy);
        close(fd);
        app_open(gate);
        return;
    }
    RES(shutdown(fd, SHUT_WR));
    RES(read(copy, &b, 1));
    close(fd);
    close(copy);
}

/* One byte of each must come back: that of the other's may be read by either. */
static void
race(void)
{
    int wrong = 0;
    for (int i = 0; i < RACES; i++) {
        int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0)), st = 0;
        char b[512];
        *ready = 0;
        pid_t pid = (pid_t)CK(fork());
        ++*ready;
        while (*ready < 2)
            sched_yield();
        int r = connect_to(fd, &app_addr);
        wrong += r != 0 && errno != EISCONN;
        app_fill(b, sizeof b, 0);
        wrong += write(fd, b, 256) != 256;
        if (pid == 0)
            _exit(wrong);
        CK(waitpid(pid, &st, 0));
        wrong += st != 0;
        wrong += app_get(fd, b, 512) != 512 || app_match(b, 256, 0) != 256 || app_match(b + 256, 256, 0) != 256;
        close(fd);
    }
    say("wrong: %d\n", wrong);
}

/* More than there is room for at a time; each is connected by one of the two, or by nobody. */
static void
many(void)
{
    int wrong = 0;
    for (int i = 0; i < MANY; i++) {
        int fd[SHEAF];
        for (int k = 0; k < SHEAF; k++)
            fd[k] = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
        pid_t pid = (pid_t)CK(fork());
        if (pid == 0)
            _exit(i % 4 == 1 ? connect_to(fd[7], &app_addr) != 0 : 0);
        if (i % 4 == 2)
            wrong += connect_to(fd[7], &app_addr) != 0;
        CK(waitpid(pid, &wrong, 0));
        for (int k = 0; k < SHEAF; k++)
            close(fd[k]);
    }
    say("wrong: %d\n", wrong);
}

static void
talk(int fd)
{
    await(down);
    close(fd);
    fd = app_connect();
    say("client: %d\n", app_use(fd, 10000, 0));
    close(fd);
}

static void
listening(void)
{
    struct app_task t;
    socklen_t len = sizeof app_addr;
    int fd = (int)CK(socket(AF_INET, SOCK_STREAM, 0));
    app_addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CK(bind(fd, (struct sockaddr *)&app_addr, len));
    CK(getsockname(fd, (struct sockaddr *)&app_addr, &len));
    app_start_fork(&t, talk, fd);
    RES(accept(fd, NULL, NULL));
    fflush(stdout);
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        RES(listen(fd, 5));
        tell(up);
        _exit(0);
    }
    await(up);
    tell(down);
    int c = (int)CK(accept(fd, NULL, NULL));
    app_echo(c);
    close(c);
    close(fd);
    app_ended("child", pid);
    app_join(&t, "client");
}

static void
be_reborn(void)
{
    char path[PATH_MAX], number[16];
    char *args[] = {path, "reborn", number, NULL};
    app_image(path, "fork_fresh");
    snprintf(number, sizeof number, "%d", (int)CK(socket(AF_INET, SOCK_STREAM, 0)));
    execv(path, args);
    _exit(9);
}

int
main(int argc, char **argv)
{
    struct app_task t;
    app_main(argc, argv);
    if (argc == 4)
        return image(atoi(argv[2]), atoi(argv[3]));
    if (mode("reborn") && argc == 2)
        be_reborn();
    given = argc == 3 ? atoi(argv[2]) : -1;
    ready = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(ready != MAP_FAILED);
    sent = (_Atomic uint64_t *)(ready + 64);
    gate = app_gate();
    CK(pipe(up));
    CK(pipe(down));
    int lfd = app_listen();
    app_start_fork(&t, server, lfd);
    close(lfd);
    if (mode("race"))
        race();
    else if (mode("listen"))
        listening();
    else if (mode("many"))
        many();
    else
        take_turns();
    app_join(&t, "server");
    return 0;
}
