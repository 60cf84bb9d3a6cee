/* SPDX-License-Identifier: Apache-2.0
 *
 * Between carry.c, spawn.c, adopt.c and take.c only.
 */
#ifndef SHIM_FLOW_CARRY_INT_H
#define SHIM_FLOW_CARRY_INT_H

#include "shim/flow/carry.h"

/* Calls `each` with every open descriptor of the process, whatever the table says. */
void shim_carry_each_fd(void (*each)(int fd, void *arg), void *arg);
/* The same of a list in /proc; false if it cannot be read. */
bool shim_carry_each_listed(const char *path, void (*each)(int fd, void *arg), void *arg);
struct shim_slot *shim_carry_slot(int fd); /* by the socket's cookie, not by the table */
bool shim_carry_is_inherited(int fd);      /* by exec: open, and without FD_CLOEXEC */
/* A client, whose server may be what we execute. */
bool shim_carry_is_near(const struct shim_slot *s);
/* As shim_carry_settle, until then. When it ends, or a grace is over after which it goes on in another process. */
void shim_carry_settle_until(int fd, uint64_t until);
uint64_t shim_carry_until(bool ends);
/* Makes the region's descriptor inheritable and writes the variable's value. */
void shim_carry_offer(struct shim_carry *c);

#endif
