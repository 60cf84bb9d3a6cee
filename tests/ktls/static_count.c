/* SPDX-License-Identifier: Apache-2.0
 *
 * static_count FD N: linked statically, so libmesh.so is not in it: sends N bytes that it receives back
 * over connection FD, and ends. It reads no further: the end is the kernel's affair (docs/SECURITY.md).
 * static_count pass FD N: the connection first comes over the Unix socket FD.
 */
/* cc: -static */
/* run: nomesh */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int
come(int from)
{
    char b, control[CMSG_SPACE(sizeof(int))];
    struct iovec v = {&b, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control,
                       .msg_controllen = sizeof control};
    int fd = -1;
    if (recvmsg(from, &m, 0) == 1 && m.msg_controllen)
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

int
main(int argc, char **argv)
{
    static char b[20000];
    if (argc < 3) {
        puts("no connection given");
        return 0;
    }
    int pass = strcmp(argv[1], "pass") == 0;
    int fd = pass ? come(atoi(argv[2])) : atoi(argv[1]);
    for (long left = atol(argv[2 + pass]); left > 0;) {
        ssize_t r = read(fd, b, left < (long)sizeof b ? (size_t)left : sizeof b);
        if (r <= 0)
            return r == 0 ? 3 : 1;
        left -= r;
        for (ssize_t at = 0, n = 0; at < r; at += n)
            if ((n = write(fd, b + at, (size_t)(r - at))) < 0)
                return 2;
    }
    return 0;
}
