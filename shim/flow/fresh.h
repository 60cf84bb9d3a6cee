/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_fresh: TCP sockets that are not connected yet, and that several processes have.
 *
 * Whoever of them connects it, it is everybody's connection. So fork gives each a slot, of phase FRESH, before the
 * child is there: all of them hold it as they hold a connection, and who connects claims it. To every call but
 * connect and listen such a socket is none of the mesh (shim_conn_slot says NULL).
 *
 *   FD_FRESH ──fork──> slot FRESH ──claim──> CONNECTING ...
 *                        ^──────────failed───────┘
 */
#ifndef SHIM_FLOW_FRESH_H
#define SHIM_FLOW_FRESH_H

#include "shim/core/slot.h"

/* In the parent, before fork or posix_spawn (`inherited`: those that it inherits alone): fresh sockets of this process
 * get their slots. Under the work lock. */
void shim_fresh_share(bool inherited);
/* A TCP socket that is neither connected, to one that is not of the mesh, nor listening. */
bool shim_fresh_is_idle(int fd);
/* A fresh socket, shared or not. */
bool shim_fresh_is(int fd);
/* The slot of fd, if it is a shared fresh socket that nobody connects; else NULL. */
struct shim_slot *shim_fresh_slot(int fd);
/* The same, of phase `phase` from now on: it is the caller's to fill. Under the work lock. */
struct shim_slot *shim_fresh_claim(int fd, uint64_t cookie, enum shim_phase phase);
/* The connect() that began in s failed: true when others hold it, and s is fresh again. */
bool shim_fresh_again(struct shim_slot *s);
/* The same of a connection that connect(AF_UNSPEC) ended. Under the work lock. */
bool shim_fresh_after(struct shim_slot *s);
/* fd becomes something that has no slot, and its duplicates with it; or it was that, and is not. */
void shim_fresh_unshare(int fd);
void shim_fresh_join(int fd);
void shim_fresh_close(int fd);

#endif
