/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_io: data calls on mesh connections, blocking rules included. Results are as the system
 * call's but with -errno, or SHIM_PASS. flags: MSG_*.
 */
#ifndef SHIM_FLOW_IO_H
#define SHIM_FLOW_IO_H

#include <sys/types.h>
#include <sys/uio.h>

#include "shim/flow/beside.h"
#include "shim/flow/conn.h"

/* In flags, from read() and its like: a length of zero returns at once [read(2)], while recv() waits. */
#define SHIM_IO_FILE 0x10000000
ssize_t shim_io_read(int fd, const struct iovec *iov, int cnt, int flags, struct shim_beside *beside); /* or NULL */
ssize_t shim_io_write(int fd, const struct iovec *iov, int cnt, int flags);
ssize_t shim_io_sendfile(int fd, int in, off_t *off, size_t n);
/* One of in and out is a mesh connection. */
ssize_t shim_io_splice(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags);
/* FIONREAD. */
int shim_io_available(int fd);

/* fd was put into a set of epoll, edge-triggered or not; was taken out. Any thread. */
void shim_io_watched(int fd, int epfd, bool edge);
void shim_io_unwatched(int fd, int epfd);
/* It is about to be closed, and is in no set from here on, whatever we still do with its socket: close() takes it out
 * without a word to who sleeps on the set [epoll(7)], but shutdown() would wake him, and what lingers would be told of. */
void shim_io_leave_sets(int fd, struct shim_slot *s);

/* Before a call on another descriptor that may sleep: drives our work until fd is ready or nothing
 * is left to drive. 0, or -EINTR. */
int shim_io_before(int fd, short events);
/* True when a call that was interrupted may silently go on: no handler without SA_RESTART. */
bool shim_io_restarts(void);

#endif
