/* SPDX-License-Identifier: Apache-2.0
 *
 * deepbind.so: a library that brings its own network code, as PHP's sockets.so. It calls libc by itself, through a
 * table of functions, and by what looks like libc's but is its own.
 */
/* cc: -Wl,-z,lazy -l:deepbind_dep.so -Wl,-rpath,$ORIGIN */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

struct deep {
    int (*dial)(const struct sockaddr *to, socklen_t len);
    int (*answer)(int lfd);
    ssize_t (*get)(int fd, void *to, size_t n);
    ssize_t (*put)(int fd, const void *from, size_t n);
    int (*marks)(int fd);
    int (*kinds)(int fd);
};
extern const struct deep deep;
int getsockname(int fd, struct sockaddr *to, socklen_t *len);

/* Its own, whatever the program or libc has. */
int
getsockname(int fd, struct sockaddr *to, socklen_t *len)
{
    (void)to, (void)len;
    return 4300 + (fd < 0);
}

static int
dial(const struct sockaddr *to, socklen_t len)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd < 0 || connect(fd, to, len) < 0 ? -1 : fd;
}

static int
answer(int lfd)
{
    return accept4(lfd, NULL, NULL, SOCK_CLOEXEC);
}

static int
marks(int fd)
{
    return sockatmark(fd);
}

static int
kinds(int fd)
{
    return getsockname(fd, NULL, NULL);
}

/* read and write: addresses in a table, by which they are called. */
const struct deep deep = {dial, answer, read, write, marks, kinds};
