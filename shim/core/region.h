/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_region: the memory in which the connections of a process tree live. A memfd where the kernel
 * and the program's limits allow one, so that an image that this process executes, or a process
 * that receives a connection, can map it too; else anonymous, and then it ends with exec.
 *
 * Its descriptor is the only one that libmesh keeps open: close-on-exec, high-numbered, and of kind
 * PRIVATE in the descriptor table. Programs that close everything do not reach it: for them the
 * number is not open (EBADF), and when they want the number, ours moves away. Under a small hard limit it
 * is among their numbers, until they have used up all others.
 */
#ifndef SHIM_CORE_REGION_H
#define SHIM_CORE_REGION_H

#include "shim/core/slot.h"
#include "shim/core/vault.h"

struct shim_region {
    char build[64];  /* who can read it: version and layout */
    uint64_t pid_ns; /* in which the slots' holders are named; 0: unknown, nothing is swept */
    _Atomic uint64_t slot_bits[SHIM_SLOTS / 64];
    _Atomic uint64_t spill_bits[SHIM_SPILLS / 64];
    _Atomic uint32_t slot_hint, spill_hint;
    _Atomic uint32_t allocs; /* since the last sweep */
    _Atomic uint32_t whole;  /* slots with SHIM_SF_RX_WHOLE */
    struct shim_slot slot[SHIM_SLOTS];
    uint8_t spill[SHIM_SPILLS][SHIM_SPILL_SIZE];
    /* What the list of connections says of one that goes to another image; written at exec only. */
    struct mesh_page_conn carried[SHIM_SLOTS];
    struct shim_vault vault;
};

#define SHIM_REGIONS 8u /* the own one, and those of trees that passed us connections */

/* The own one; NULL before the first connection. */
struct shim_region *shim_region(void);
extern struct shim_region *_Atomic shim_regions[SHIM_REGIONS]; /* for shim_region_at() */
/* 0: the own one; NULL: none */
static inline struct shim_region *
shim_region_at(unsigned i)
{
    return atomic_load_explicit(&shim_regions[i % SHIM_REGIONS], memory_order_acquire);
}
extern _Atomic unsigned shim_region_last; /* the highest number that is in use, or was */
/* Of this tree or another: there may be connections. */
static inline bool
shim_region_any(void)
{
    return shim_region_at(0) || atomic_load_explicit(&shim_region_last, memory_order_relaxed) > 0;
}
unsigned shim_region_index(const struct shim_slot *s);    /* in which s lies */
/* Maps the region behind fd, another tree's, beside the own one; where all numbers are taken, in the place of one that is not
 * in `busy` (bit i: this process has something of region i), and where no thread is at work. False: no room, none of this
 * build, or one that could be taken from under us. */
bool shim_region_join(int fd, uint32_t busy);
/* Maps the region if there is none yet; false when there is no memory. */
bool shim_region_init(void);

/* How its descriptors look in /proc/PID/fd. */
#define SHIM_REGION_LINK "/memfd:libmesh "

/* Its descriptor, -1 when it has none (any more). Checked: never another file's number. */
int shim_region_fd(void);
/* Takes the region behind fd as this process's own, and keeps a descriptor of it. False: that is
 * none, or one of another build. fd stays open. */
bool shim_region_adopt(int fd);
/* Whether ids of processes, as they stand in the own region, mean to this one what they meant to who wrote them.
 * shim_region_forked() is that for the child of a fork, which need not ask /proc (0.06 ms): a parent that
 * shows under its number is in our namespace, one outside shows as 0. */
bool shim_region_pids_visible(void);
bool shim_region_forked(void);
/* The program is about to use this number: ours moves away. */
void shim_region_yield(int fd);
/* It has no number left: true when it now has ours, and then no image after this one goes on with
 * connections. errno is EMFILE before and may be anything after. */
bool shim_region_give_up(void);

#endif
