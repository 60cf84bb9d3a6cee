/* SPDX-License-Identifier: Apache-2.0
 *
 * A program that libmesh cannot be in: static, and with system calls of its own, as Go's are.
 * `static server PORT`: answers each connection with what it sends, in capitals. `static client PORT`:
 * sends standard input, prints the answer, or the name of the errno.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static long
check(long r, const char *what)
{
    if (r < 0) {
        printf("%s: %s\n", what, strerrorname_np(errno));
        exit(1);
    }
    return r;
}

static void
serve(int fd)
{
    char b[4096];
    long n;
    while ((n = syscall(SYS_read, fd, b, sizeof b)) > 0) {
        for (long i = 0; i < n; i++)
            b[i] = b[i] >= 'a' && b[i] <= 'z' ? b[i] - 32 : b[i];
        if (syscall(SYS_write, fd, b, n) != n)
            break;
    }
    syscall(SYS_close, fd);
}

static void
talk(int fd)
{
    char b[4096];
    long n = check(read(0, b, sizeof b), "standard input");
    check(syscall(SYS_write, fd, b, n), "write");
    check(syscall(SYS_shutdown, fd, SHUT_WR), "shutdown");
    long got = 0;
    while ((n = check(syscall(SYS_read, fd, b, sizeof b), "read")) > 0)
        got += check(write(1, b, (size_t)n), "standard output");
    if (got == 0)
        printf("closed\n");
}

int
main(int argc, char **argv)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    if (argc != 3)
        return 2;
    a.sin_port = htons((unsigned short)atoi(argv[2]));
    int fd = (int)check(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0), "socket");
    if (strcmp(argv[1], "client") == 0) {
        check(syscall(SYS_connect, fd, &a, sizeof a), "connect");
        talk(fd);
        return 0;
    }
    check(syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), "setsockopt");
    check(syscall(SYS_bind, fd, &a, sizeof a), "bind");
    check(syscall(SYS_listen, fd, 16), "listen");
    for (;;)
        serve((int)check(syscall(SYS_accept4, fd, NULL, NULL, 0), "accept"));
}
