/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_fdpass: see fdpass.h.
 */
#include "meshd/base/fdpass.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TAKE_MAX 253 /* SCM_MAX_FD: nothing is cut off, so nothing leaks into a hole */

union take {
    struct cmsghdr head;
    char room[CMSG_SPACE(TAKE_MAX * sizeof(int))];
};

union give {
    struct cmsghdr head;
    char room[CMSG_SPACE(MESHD_FDPASS_MAX * sizeof(int))];
};

static void
take(const struct cmsghdr *c, int *fd)
{
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < n; i++) {
        int got = -1;
        memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
        if (*fd < 0) {
            *fd = got;
        } else {
            close(got);
        }
    }
}

ssize_t
meshd_fdpass_recv(int sock, void *buf, size_t n, int *fd)
{
    union take ctl;
    struct iovec iov = {buf, n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl,
                       .msg_controllen = sizeof(ctl)};
    ssize_t r = recvmsg(sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (r < 0) {
        return r;
    }
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            take(c, fd);
        }
    }
    return r;
}

ssize_t
meshd_fdpass_send(int sock, const struct iovec *iov, int iovcnt, const int *fds, int nfds)
{
    union give ctl;
    struct iovec copy[4];
    struct msghdr m = {.msg_iov = copy, .msg_iovlen = (size_t)iovcnt};
    memcpy(copy, iov, (size_t)iovcnt * sizeof(*iov));
    if (nfds > 0) {
        size_t bytes = (size_t)nfds * sizeof(int);
        memset(&ctl, 0, sizeof(ctl));
        m.msg_control = &ctl;
        m.msg_controllen = CMSG_SPACE(bytes);
        ctl.head = (struct cmsghdr){CMSG_LEN(bytes), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(&ctl.head), fds, bytes);
    }
    return sendmsg(sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}
