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

/* In the parent, before fork: every fresh socket of this process gets its slot. Under the work lock. */
void shim_fresh_share(void);
/* A fresh socket, shared or not. */
bool shim_fresh_is(int fd);
/* The slot of fd, if it is a shared fresh socket that nobody connects; else NULL. */
struct shim_slot *shim_fresh_slot(int fd);
/* The same, of phase `phase` from now on: it is the caller's to fill. Under the work lock. */
struct shim_slot *shim_fresh_claim(int fd, enum shim_phase phase);
/* The connection that began in s is undone: true when it was shared, and s is fresh again. */
bool shim_fresh_again(struct shim_slot *s);
/* fd, a connection that connect(AF_UNSPEC) ended while others hold it, is a fresh socket of theirs, too. */
void shim_fresh_after(int fd);
/* fd becomes something that has no slot, or is closed: it and its duplicates are fresh, or it alone is nothing. */
void shim_fresh_unshare(int fd);
void shim_fresh_close(int fd);

#endif
