/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_carry: connections that go on in the image that this process executes [DESIGN D5].
 *
 * The region's descriptor is inherited beside the connections, and one variable of the environment
 * tells the new image where it is:
 *
 *   LIBMESH_REGION=FD:INODE:PID:PIDFD[:SLOT]...
 *
 * FD is the region's memfd; if it was closed on the way, the same file is tried as
 * /proc/PID/fd/PIDFD. Each SLOT is a connection that posix_spawn lent: counted once already, so that
 * the parent may close its own descriptor at once.
 *
 * The new image maps it, removes the variable, and finds its connections by their sockets' cookies.
 * What cannot move is a handshake that is under way: it is finished first, within the handshake's
 * time. All functions may run in the child of vfork: they write nothing that is private to it.
 */
#ifndef SHIM_FLOW_CARRY_H
#define SHIM_FLOW_CARRY_H

#include <stdbool.h>
#include <stdint.h>

#include "shim/core/slot.h"

#define SHIM_CARRY_VAR  "LIBMESH_REGION"
#define SHIM_CARRY_LENT 64
#define SHIM_CARRY_TEXT (96 + 9 * SHIM_CARRY_LENT)

struct shim_carry {
    unsigned conns;              /* descriptors of connections that will be inherited */
    int fd;                      /* the region's, inheritable meanwhile; -1: not needed */
    unsigned lent;
    uint32_t slot[SHIM_CARRY_LENT];
    char value[SHIM_CARRY_TEXT]; /* of the variable, "" if none is needed */
};

/* Before exec: what the caller's descriptors without FD_CLOEXEC amount to. can_follow: the next image will be under
 * libmesh. */
void shim_carry_prepare(struct shim_carry *c, bool can_follow);
/* exec failed: as it was before. */
void shim_carry_undo(const struct shim_carry *c);
/* The next image cannot be under libmesh. What it would inherit is replaced in this process: by a
 * relay's stream (flow/relay.h), or if there can be none by a stream whose other end is closed. Other
 * holders go on. Counted and logged. */
void shim_carry_refuse(struct shim_carry *c);

/* posix_spawn, whose child is made inside libc. A connection is named in file actions: its handshake
 * ends here, one way or the other. `actions` is their address, NULL: there are none. */
void shim_carry_give(int fd, const void *actions);
/* These file actions are made anew, or gone. */
void shim_carry_give_none(const void *actions);
/* Can the next spawned program inherit a connection? */
bool shim_carry_may_give(const void *actions);
/* 0, or EACCES: file actions may give a connection to a program that cannot be under libmesh, and it
 * cannot go to the kernel. */
int shim_carry_prepare_spawn(struct shim_carry *c, bool can_follow, const void *actions);
void shim_carry_undo_spawn(const struct shim_carry *c, bool started);

/* What the list of connections says of s goes with it, and is in our list from here on. */
void shim_carry_describe(struct shim_slot *s);
void shim_carry_list(struct shim_slot *s);
/* A handshake cannot move: it ends here, one way or the other. */
void shim_carry_settle(int fd);
/* Puts a stream whose other end is closed in the place of a connection that nobody here can read. */
void shim_carry_dead_end(int fd);

/* In the constructor of the new image. It may never use what it inherits, so the engine and meshd wait
 * until the first call on such a connection: shim_carry_take_over. */
void shim_carry_adopt(const char *value);
void shim_carry_take_over(void);

#endif
