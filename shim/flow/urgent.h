/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_urgent: the calls of urgent data on mesh connections [tcp(7)]; how it travels: mark.h. Results are as
 * the system call's but with -errno, or SHIM_PASS. All of it is off the path of other data.
 */
#ifndef SHIM_FLOW_URGENT_H
#define SHIM_FLOW_URGENT_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "shim/core/slot.h"
#include "shim/flow/iov.h"

/* recv() with MSG_OOB in flags. */
__attribute__((cold)) ssize_t shim_urgent_read(int fd, struct shim_iov *room, int flags);
/* send() with MSG_OOB in flags: the last byte is urgent. */
__attribute__((cold)) ssize_t shim_urgent_write(int fd, const struct iovec *iov, int cnt, int flags);
/* sockatmark() and SIOCATMARK: 0 or 1. */
int shim_urgent_at_mark(int fd);
/* The program asks about urgent data on fd (an owner for SIGURG): poll and select come to us from now on. Any
 * descriptor. */
void shim_urgent_ask(int fd);
/* The kernel says that fd is readable, and it is so only for us: what there is stands for an urgent byte. */
bool shim_urgent_hides(int fd);
/* A blocking read woke up. It would have been interrupted: an urgent byte came, and its signal has a handler without
 * SA_RESTART. */
__attribute__((cold)) bool shim_urgent_interrupts(int fd, struct shim_slot *s);

#endif
