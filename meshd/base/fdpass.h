/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_fdpass: descriptors over Unix sockets; the daemon's one owner of SCM_RIGHTS.
 */
#ifndef MESHD_BASE_FDPASS_H
#define MESHD_BASE_FDPASS_H

#include <sys/types.h>
#include <sys/uio.h>

#define MESHD_FDPASS_MAX 2

/* recv() that also takes descriptors: the first goes to *fd when that is -1, all others are
 * closed. Never blocks. */
ssize_t meshd_fdpass_recv(int sock, void *buf, size_t n, int *fd);

/* sendmsg() with nfds <= MESHD_FDPASS_MAX descriptors, which stay the caller's. Never blocks. */
ssize_t meshd_fdpass_send(int sock, const struct iovec *iov, int iovcnt, const int *fds, int nfds);

#endif
