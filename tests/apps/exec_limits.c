/* SPDX-License-Identifier: Apache-2.0
 *
 * exec_limits: connections outlive exec under small limits that were there before the first of them:
 * nofile: 64 descriptors, soft and hard; half: 64, and not many more; fsize: files of at most one block,
 * as a soft limit. The images close all numbers but their own before they execute the next, as daemons
 * do; and a program that wants all numbers gets as many as ever. The limits stay as they were.
 */
/* run: modes nofile half fsize */
#include "app.h"

#define FEW 64

static const struct rlimit nofile = {FEW, FEW}, half = {FEW, 3 * FEW}, fsize = {1024, RLIM_INFINITY};

static int
resource(const struct rlimit **want)
{
    *want = strcmp(app_mode, "half") == 0 ? &half : strcmp(app_mode, "fsize") == 0 ? &fsize : &nofile;
    return *want == &fsize ? RLIMIT_FSIZE : RLIMIT_NOFILE;
}

static void
check_limits(void)
{
    struct rlimit now;
    const struct rlimit *want;
    int what = resource(&want);
    CK(getrlimit((__rlimit_resource_t)what, &now));
    MUST(now.rlim_cur == want->rlim_cur && now.rlim_max == want->rlim_max);
}

static void
limit(void)
{
    struct rlimit now;
    const struct rlimit *want;
    int what = resource(&want);
    CK(getrlimit((__rlimit_resource_t)what, &now));
    if (now.rlim_cur != want->rlim_cur) /* the first image */
        CK(setrlimit((__rlimit_resource_t)what, want));
}

/* Each of a chain of images answers with one more byte, and executes the next. */
static int
image(const char *self, int left, int fd)
{
    char b[100], number[12], rest[12];
    char *args[] = {(char *)(uintptr_t)self, (char *)(uintptr_t)app_mode, rest, number, NULL};
    check_limits();
    ssize_t r = read(fd, b, sizeof b);
    if (r <= 0)
        return 8;
    app_put(fd, b, (size_t)r);
    if (left == 0)
        return 7;
    for (int i = 3; i < 2000; i++)
        if (i != fd)
            close(i);
    snprintf(number, sizeof number, "%d", fd);
    snprintf(rest, sizeof rest, "%d", left - 1);
    execv(self, args);
    return 9;
}

static int
count_sockets(void)
{
    int fd[4 * FEW], n = 0;
    while (n < 4 * FEW && (fd[n] = n % 3 == 0   ? socket(AF_INET, SOCK_STREAM, 0)
                                   : n % 3 == 1 ? dup(0)
                                                : epoll_create1(0)) >= 0)
        n++;
    for (int i = n; i > 0;)
        close(fd[--i]);
    return n;
}

int
main(int argc, char **argv)
{
    char b[8] = "ask";
    int st = 0;
    app_main(argc, argv);
    if (argc > 3)
        return image(argv[0], atoi(argv[2]), atoi(argv[3]));
    limit();
    int lfd = app_listen();
    pid_t pid = (pid_t)CK(fork());
    if (pid == 0) {
        int fd = (int)CK(accept(lfd, NULL, NULL));
        close(lfd);
        _exit(image(argv[0], 4, fd));
    }
    int fd = app_connect();
    for (int i = 0; i < 5; i++) {
        app_put(fd, b, 3);
        say("answer %zu\n", app_get(fd, b, 3));
    }
    say("then %zd\n", read(fd, b, 1));
    CK(waitpid(pid, &st, 0));
    say("images ended with %x\n", (unsigned)st);
    check_limits();
    for (int i = 0; strcmp(app_mode, "fsize") && i < FEW; i++)
        if (i > 2 && i != fd && i != lfd)
            MUST(fcntl(i, F_GETFD) < 0 && errno == EBADF);
    say("as many numbers: %d\n", strcmp(app_mode, "fsize") ? count_sockets() : 0);
    app_put(fd, b, 1); /* and it still is one */
    close(fd);
    close(lfd);
    return 0;
}
