/* SPDX-License-Identifier: Apache-2.0
 *
 * recv_flags: MSG_PEEK over several sends, MSG_WAITALL, MSG_DONTWAIT, MSG_TRUNC that discards,
 * both with MSG_PEEK, MSG_OOB's refusals, empty reads and writes; each in small and large sizes.
 */
/* run: modes thread fork */
#include "app.h"

static const int bursts[][4] = {{10, 20, 30, 40}, {1, 16384, 2, 16385}, {9000, 9000, 9000, 9000}};
#define BURSTS ((int)(sizeof bursts / sizeof *bursts))
static int gate;
/* What the compiler would warn about if it knew. */
static char *volatile nowhere = (char *)16;
static volatile int minus = -1, many = IOV_MAX + 1;

static int
total(int i)
{
    return bursts[i][0] + bursts[i][1] + bursts[i][2] + bursts[i][3];
}

static void
sender(int fd)
{
    static char b[70000];
    char c;
    for (int round = 0; round < 4; round++)
        for (int i = 0; i < BURSTS; i++) {
            int at = 0;
            app_fill(b, sizeof b, 0);
            for (int k = 0; k < 4; k++) {
                RES(send(fd, b + at, (size_t)bursts[i][k], 0));
                at += bursts[i][k];
            }
            MUST(app_get(fd, &c, 1) == 1);
        }
    app_pass(gate);
}

static void
peek(int fd, int n)
{
    static char b[70000];
    RES(recv(fd, b, 5, MSG_PEEK));
    RES(recv(fd, b, (size_t)n, MSG_PEEK));
    say("match %zu\n", app_match(b, (size_t)n, 0));
    RES(recv(fd, b, (size_t)n, MSG_PEEK | MSG_WAITALL));
    RES(recv(fd, b, sizeof b, MSG_PEEK | MSG_DONTWAIT));
    RES(recv(fd, b, 7, 0));
    RES(recv(fd, b, sizeof b, MSG_PEEK));
    say("match %zu\n", app_match(b, (size_t)n - 7, 7));
    struct iovec v[2] = {{b, 3}, {b + 3, sizeof b - 3}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
    RES(recvmsg(fd, &m, MSG_PEEK));
    say("match %zu\n", app_match(b, (size_t)n - 7, 7));
    RES(recv(fd, b, sizeof b, 0));
    say("match %zu\n", app_match(b, (size_t)n - 7, 7));
    RES(recv(fd, b, sizeof b, MSG_DONTWAIT));
    RES(recv(fd, b, sizeof b, MSG_DONTWAIT | MSG_PEEK));
}

static void
waitall(int fd, int n)
{
    static char b[70000];
    RES(recv(fd, b, 0, 0));
    RES(read(fd, b, 0));
    RES(recv(fd, b, 3, MSG_WAITALL));
    RES(recv(fd, b + 3, (size_t)n - 4, MSG_WAITALL));
    RES(recv(fd, b + n - 1, 1, MSG_WAITALL));
    say("match %zu\n", app_match(b, (size_t)n, 0));
    RES(recv(fd, b, 1, MSG_DONTWAIT | MSG_WAITALL));
    RES(recv(fd, b, 0, MSG_DONTWAIT));
}

static void
discard(int fd, int n)
{
    static char b[70000];
    memset(b, 'u', sizeof b);
    RES(recv(fd, b, 6, MSG_PEEK | MSG_TRUNC));
    RES(recv(fd, b, 6, MSG_TRUNC));
    say("buffer %s\n", b[0] == 'u' && b[5] == 'u' ? "untouched" : "written");
    RES(recv(fd, b, 5, 0));
    say("match %zu\n", app_match(b, 5, 6));
    RES(recv(fd, b, (size_t)n - 20, MSG_TRUNC | MSG_WAITALL));
    say("buffer %s\n", b[100] == 'u' ? "untouched" : "written");
    RES(recv(fd, b, sizeof b, 0));
    say("match %zu\n", app_match(b, 9, (uint64_t)n - 9));
    RES(recv(fd, NULL, 9, MSG_TRUNC | MSG_DONTWAIT));
}

static void
odd(int fd, int n)
{
    static char b[70000];
    struct iovec v = {b, 5};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 0};
    RES(recv(fd, b, 1, MSG_OOB));
    RES(recvmsg(fd, &m, MSG_DONTWAIT));
    RES(readv(fd, &v, 0));
    RES(readv(fd, &v, minus));
    RES(readv(fd, &v, many));
    RES(recv(fd, nowhere, 10, MSG_DONTWAIT));
    RES(read(fd, nowhere, 10));
    RES(pread(fd, b, 1, 0));
    RES(lseek(fd, 0, SEEK_CUR));
    RES(recv(fd, b, sizeof b, MSG_WAITALL | MSG_DONTWAIT));
    say("match %zu\n", app_match(b, (size_t)n, 0));
}

static void
receiver(int fd)
{
    static void (*const round[])(int, int) = {peek, waitall, discard, odd};
    for (int r = 0; r < 4; r++)
        for (int i = 0; i < BURSTS; i++) {
            say("- %d bytes: arrived %d\n", total(i), app_arrived(fd, total(i)));
            round[r](fd, total(i));
            app_put(fd, "k", 1);
        }
    char b[8];
    RES(write(fd, b, 0));
    RES(send(fd, b, 0, 0));
    RES(writev(fd, NULL, 0));
    RES(writev(fd, &(struct iovec){b, 0}, 1));
    RES(writev(fd, &(struct iovec){b, 1}, minus));
    RES(writev(fd, &(struct iovec){nowhere, 5}, 1));
    RES(write(fd, nowhere, 5));
    RES(pwrite(fd, b, 1, 0));
    app_open(gate);
    RES(read(fd, b, sizeof b));
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    gate = app_gate();
    app_talk("flags", receiver, sender);
    return 0;
}
