/* SPDX-License-Identifier: Apache-2.0
 *
 * Between io.c, sendfile.c and splice.c only: the blocking rules of data calls (io_wait.c).
 */
#ifndef SHIM_FLOW_IO_INT_H
#define SHIM_FLOW_IO_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "shim/core/slot.h"

/* While a program of one thread writes, all its other clients wait, and sealing takes three times as long as the kernel's
 * copy. So one call takes that much, and says so, where the program is sure to come back for the rest: it does not
 * block, and epoll tells it again as long as there is room. Not where it waits for an edge: for that the socket would
 * have to have been full. */
#define SHIM_IO_SLICE (8u * SHIM_REC_PLAIN_MAX)
/* In flags of a write, which is of one byte then: urgent. The same bit means something else in reads. */
#define SHIM_IO_URGENT 0x10000000
bool shim_io_is_sliced(int fd, int flags);
/* No handler of that signal, or one with SA_RESTART. */
bool shim_io_restarts_after(int sig);
bool shim_io_is_nonblocking(int fd, int flags);
/* When a call on fd must give up: SO_RCVTIMEO or SO_SNDTIMEO from now. */
uint64_t shim_io_timeout_of(int fd, int opt);
/* Sleeps until fd has events, driving our work. 0, -EAGAIN (timeout), -EINTR, -errno. */
int shim_io_wait(int fd, short events, uint64_t deadline, struct shim_slot *until);

#endif
