/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_filter: the system calls that the program has forbidden itself [seccomp(2)]. Its filter was
 * written for the calls that it makes, not for ours: an engine that looks with MSG_PEEK would get it
 * killed. So its filters are kept and run here, over every system call that we are about to make
 * (sys_call6 in real.h): what one of them forbids is not made, and comes back as -EPERM.
 *
 * They count for all threads, also where the kernel applies them to one. Filters that were in force
 * before the program started are not known.
 */
#ifndef SHIM_FILTER_H
#define SHIM_FILTER_H

#include <linux/filter.h>
#include <stdbool.h>

/* Keeps a copy; NULL stands for SECCOMP_MODE_STRICT. Not in force yet. -1: the program is not
 * readable, and the kernel will say so. */
int shim_filter_add(const struct sock_fprog *prog);
void shim_filter_use(int id, bool on);
/* Would that one forbid system call nr with these first arguments? */
bool shim_filter_forbids(int id, long nr, long a, long b, long c, long d);

/* The program may not poll: whoever reads sleeps until there is something. */
bool shim_filter_blind(void);

#endif
