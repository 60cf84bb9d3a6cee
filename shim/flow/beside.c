/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_beside: see beside.h.
 */
#include "shim/flow/beside.h"

#include <errno.h>

#include "shim/real.h"

long
shim_beside_recv(struct shim_beside *b, int fd, uint8_t *buf, size_t n, int flags)
{
    struct iovec v = {buf, n};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = b->control, .msg_controllen = b->room};
    long r = sys_call(SYS_recvmsg, fd, &m, flags | MSG_DONTWAIT, 0);
    if (r == -EPERM && shim_filter_any()) {
        return sys_recv(fd, buf, n, flags | MSG_DONTWAIT);
    }
    if (r >= 0) {
        b->len = m.msg_controllen;
        b->flags = m.msg_flags & MSG_CTRUNC;
    }
    return r;
}

void
shim_beside_look(struct shim_beside *b, int fd)
{
    uint8_t byte;
    (void)shim_beside_recv(b, fd, &byte, 1, MSG_PEEK);
}

void
shim_beside_end(struct shim_beside *b, int fd)
{
    b->len = 0;
    b->flags = 0;
    shim_beside_look(b, fd);
}
