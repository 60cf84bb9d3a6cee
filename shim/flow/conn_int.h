/* SPDX-License-Identifier: Apache-2.0
 *
 * Between connect.c, service.c and conn.c: how a connection's slot and item begin, and how they are undone.
 */
#ifndef SHIM_FLOW_CONN_INT_H
#define SHIM_FLOW_CONN_INT_H

#include <errno.h>

#include "shim/flow/work.h"

static inline int
shim_fail(int no)
{
    errno = no;
    return -1;
}

/* A slot and an item for fd; the item is returned with the work lock held. NULL: no memory. */
struct shim_work *shim_conn_begin(int fd, uint32_t flags, enum shim_phase phase);
/* The item becomes the descriptor's, and its duplicates'; under the lock. False when another thread began to connect
 * the same socket meanwhile: then shim_conn_undo() and SHIM_CONN_TAKEN. */
bool shim_conn_enter(struct shim_work *w, int fd);
/* The descriptor is as it was, or another thread's. */
void shim_conn_undo(struct shim_work *w, int fd);
#define SHIM_CONN_TAKEN 1 /* what connect() is to do has to be found out again */
/* Counted, logged, and -1 with its errno. */
int shim_conn_refuse(const struct mesh_addr *to, const char *service, enum mesh_err e);
bool shim_conn_is_nonblocking(int fd);
/* All of shim_conn_end but that the slot is free. */
void shim_conn_over(struct shim_slot *s);
/* What connect() says of a connection that is none of ours any more: 0 when it is plain, or was reset before it began;
 * ECONNABORTED when another thread took it away. */
int shim_conn_ask_kernel(int fd);

#endif
