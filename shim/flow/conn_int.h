/* SPDX-License-Identifier: Apache-2.0
 *
 * Between conn.c and service.c: how a connection's slot and item begin, and how they are undone.
 */
#ifndef SHIM_FLOW_CONN_INT_H
#define SHIM_FLOW_CONN_INT_H

#include "shim/flow/work.h"

/* A slot and an item for fd; the item is returned with the work lock held. NULL: no memory. */
struct shim_work *shim_conn_begin(int fd, uint32_t flags, enum shim_phase phase);
/* The item becomes the descriptor's, and its duplicates'; under the lock. */
void shim_conn_enter(struct shim_work *w, int fd);
/* The descriptor is as it was. */
void shim_conn_undo(struct shim_work *w, int fd);
/* Counted, logged, and -1 with its errno. */
int shim_conn_refuse(const struct mesh_addr *to, const char *service, enum mesh_err e);
bool shim_conn_is_nonblocking(int fd);

#endif
