/* SPDX-License-Identifier: Apache-2.0
 *
 * sandboxed: a server child forbids itself nearly all system calls before it reads from its client, as
 * OpenSSH's does: what is not on its list kills it. filter: read, write, poll and what memory and exit
 * need; nonblock: the same with O_NONBLOCK set before; syscall: through syscall(SYS_seccomp), and the
 * rest gives ENOSYS; strict: SECCOMP_MODE_STRICT; counter: no more than the time stamp counter, and the
 * socket becomes full. Pieces are shorter than what the client writes at once, and poll must tell of the
 * rest. In the end the client has closed: SIGPIPE.
 */
/* run: modes filter nonblock syscall strict counter */
/* run: notsan */
#include "app_proc.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

#define BIG 40000
#define PIECE 700
#define ALLOW(n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (n), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static int full; /* counter: a gate */

static int
mode(const char *name)
{
    return strcmp(app_mode, name) == 0;
}

static void
confine(void)
{
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_close), ALLOW(SYS_ppoll),
#ifdef SYS_poll
        ALLOW(SYS_poll),
#endif
        ALLOW(SYS_brk), ALLOW(SYS_munmap), ALLOW(SYS_exit), ALLOW(SYS_exit_group), ALLOW(SYS_getpid),
        ALLOW(SYS_rt_sigreturn),
        BPF_STMT(BPF_RET | BPF_K, mode("syscall") ? SECCOMP_RET_ERRNO | ENOSYS : SECCOMP_RET_KILL),
    };
    struct sock_fprog p = {sizeof f / sizeof f[0], f};
    CK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    if (mode("counter"))
        CK(prctl(PR_SET_TSC, PR_TSC_SIGSEGV));
    else if (mode("strict"))
        CK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
    else if (mode("syscall"))
        CK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p));
    else
        CK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p));
}

/* The end of the child; exit() would do more than strict mode knows. */
static void
end(int status)
{
    syscall(SYS_exit, status);
}

/* One call or, not blocking, as many as it takes. */
static ssize_t
some(int fd, char *b, size_t n)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    for (;;) {
        if (!mode("strict") && poll(&p, 1, APP_WAIT) != 1)
            end(3);
        ssize_t r = read(fd, b, n);
        if (r >= 0 || errno != EAGAIN)
            return r;
    }
}

static void
put(int fd, const char *b, size_t n)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    while (n) {
        ssize_t r = write(fd, b, n);
        if (r < 0 && errno == EAGAIN)
            poll(&p, 1, APP_WAIT);
        else if (r <= 0)
            end(4);
        b += r > 0 ? r : 0;
        n -= r > 0 ? (size_t)r : 0;
    }
}

static void
serve(int fd)
{
    static char b[PIECE], all[BIG];
    size_t got = 0;
    ssize_t r = 0;
    signal(SIGPIPE, SIG_DFL);
    if (mode("counter"))
        app_get(fd, b, 1);
    app_nonblock(fd, mode("nonblock") || mode("counter"));
    confine();
    if (mode("counter")) {
        while (write(fd, b, sizeof b) > 0)
            ;
        app_open(full);
        end(errno == EAGAIN ? 0 : 8);
    }
    while (got < BIG && (r = some(fd, b, sizeof b)) > 0) {
        memcpy(all + got, b, (size_t)r < BIG - got ? (size_t)r : BIG - got);
        got += (size_t)r;
    }
    put(fd, all, got);
    if (got != BIG || app_match(all, BIG, 0) != BIG)
        end(5);
    while ((r = some(fd, b, sizeof b)) > 0) /* "go on", and the client's end */
        ;
    for (int i = 0; i < 100000; i++)
        put(fd, all, sizeof b);
    end(r == 0 ? 6 : 7);
}

static void
client(int lfd)
{
    static char b[BIG];
    int fd = app_connect();
    (void)lfd;
    if (mode("counter")) {
        app_put(fd, "x", 1);
        app_pass(full);
        RES(close(fd));
        return;
    }
    app_fill(b, BIG, 0);
    app_put(fd, b, BIG);
    memset(b, 0, BIG);
    size_t n = app_get(fd, b, BIG);
    say("answer %zu, right up to %zu\n", n, app_match(b, n, 0));
    RES(write(fd, "go on", 5));
    RES(close(fd));
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    full = app_gate();
    app_serve_by_child(client, serve);
    return 0;
}
