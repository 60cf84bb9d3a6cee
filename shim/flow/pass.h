/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_pass: connections that travel between processes as descriptors [unix(7), SCM_RIGHTS;
 * pidfd_getfd(2)]. Within a process tree the receiver has the region mapped already. Otherwise the
 * sender lends it to meshd, and whoever comes with the socket, as the same user or as root, gets it.
 * Any thread; not in the child of vfork.
 */
#ifndef SHIM_FLOW_PASS_H
#define SHIM_FLOW_PASS_H

#include <stdbool.h>

/* A descriptor is about to travel (n = 1), or did not after all (-1). On its way it counts as one. */
void shim_pass_sending(int fd, int n);
/* One has come. again: nothing was counted for it (peeked at, or taken). */
void shim_pass_received(int fd, bool again);
/* Maps that region of another tree: true. In the place of one of which nothing is left here, if need be. */
bool shim_pass_join(int region);
/* The program took fd out of the process behind pidfd. */
void shim_pass_taken(int pidfd, int fd);
/* In the child of fork. */
void shim_pass_forked(void);

#endif
