/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_listener: the listeners of this process, by index from the descriptor table. Private to the
 * process, copied by fork.
 */
#ifndef SHIM_FLOW_LISTENER_H
#define SHIM_FLOW_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "mesh/snapshot.h"

/* True if this very process made the listener with that cookie and holds it (0: never), and nobody else may be who
 * accepts: it has done so itself, or has had no child since. A server's parent that only makes its listeners is a
 * client like any other. */
bool shim_listener_is_own(uint64_t cookie);
/* Has this process, or had one from which it was forked, a listener of this port? */
bool shim_listener_has_port(uint16_t port);
/* A child is about to be made or, in one of vfork, about to execute: it may have our listeners. */
void shim_listener_child(void);
/* This process has accepted from it. */
void shim_listener_accepted(uint32_t word);
/* The inbound mode that holds for fd now, and its service's limits. fd: any socket of its namespace. */
struct shim_limit_of;
enum mesh_mode shim_listener_mode(uint32_t word, int fd, struct shim_limit_of *limit);
/* The program waits for it with poll, select or epoll: told for all listeners of services with limits. */
void shim_listener_polled(uint32_t word);
bool shim_listener_is_polled(uint32_t word);
/* Closes a descriptor of the listener [close(2)]. If it is this process's last, no client is sent there any more
 * before that, and those that the kernel would refuse find another endpoint. Bounded. */
int shim_listener_close(int fd, uint32_t word);
/* The same for all that this process made, at its end. */
void shim_listener_exit(void);
/* The program is about to listen (`listens`) or to connect with it: one that shutdown(2) or connect(2) to AF_UNSPEC ended, and that
 * listens no more, is a socket like a new one. Else nothing. */
void shim_listener_look(int fd, bool listens);
/* A descriptor of the listener is gone; withdraws it when it was this process's last. */
void shim_listener_closed(int fd, uint32_t word);

#endif
