/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_ksplice: sendfile and splice on connections that the kernel encrypts: no byte passes through the
 * program. Results are a count or -errno. They sleep as the system calls do, and raise SIGPIPE.
 */
#ifndef SHIM_FLOW_KSPLICE_H
#define SHIM_FLOW_KSPLICE_H

#include <stdbool.h>
#include <sys/types.h>

/* fd is a connection in the kernel, with nothing of ours to say first. */
bool shim_ksplice_may(int fd);
ssize_t shim_ksplice_sendfile(int fd, int in, off_t *off, size_t n);
/* One of the two is a mesh connection. SHIM_PASS if it is not in the kernel. */
ssize_t shim_ksplice(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags);

#endif
