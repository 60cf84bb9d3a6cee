/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_fdtab: what this process believes its descriptors to be. One 32-bit word a descriptor:
 * kind and index; reading it is the whole cost of our presence for other descriptors.
 *
 * The table is a hint: closes that nobody sees make it stale. A slot's handle carries a generation,
 * and a number that became something else than a socket answers ENOTSOCK. It is private to the
 * process and copied by fork; a vfork child shares it and must not write (shim_fdtab_may_write).
 *
 * Descriptors at or above SHIM_FD_MAX are never meshed: connect and accept refuse them where TLS
 * would be needed.
 */
#ifndef SHIM_CORE_FDTAB_H
#define SHIM_CORE_FDTAB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SHIM_FD_MAX (1 << 20)

enum shim_fd_kind {
    SHIM_FD_NONE = 0,     /* not ours */
    SHIM_FD_OTHER = 1,    /* a socket that can never be meshed (UDP, Unix ...) */
    SHIM_FD_FRESH = 2,    /* a TCP socket, not connected */
    SHIM_FD_EPOLL = 3,    /* has registrations that we may have to move; index: of the set */
    SHIM_FD_LISTENER = 4, /* index: listener table */
    SHIM_FD_PRIVATE = 5,  /* libmesh's own: to the program it is not open */
    SHIM_FD_INHERITED = 6, /* perhaps a listener that another image or process registered */
    SHIM_FD_CONN = 8,     /* index: slot. From here on, data calls are ours */
    SHIM_FD_CLOSING = 9,  /* index: slot; close() is under way in another thread */
};

#define SHIM_FD_KIND_SHIFT 28
#define SHIM_FD_WORD(kind, index) ((uint32_t)(kind) << SHIM_FD_KIND_SHIFT | (uint32_t)(index))
#define SHIM_FD_INDEX(word) ((word) & ((1u << SHIM_FD_KIND_SHIFT) - 1))

extern _Atomic uint32_t shim_fdtab[SHIM_FD_MAX];

/* Relaxed is enough: a descriptor number reaches another thread through the program's own
 * synchronisation, and that orders this word too. */
static inline uint32_t
shim_fd_word(int fd)
{
    return (unsigned)fd < SHIM_FD_MAX
               ? atomic_load_explicit(&shim_fdtab[fd], memory_order_relaxed)
               : 0;
}

static inline enum shim_fd_kind
shim_fd_kind(int fd)
{
    return (enum shim_fd_kind)(shim_fd_word(fd) >> SHIM_FD_KIND_SHIFT);
}

/* True for a connection of the mesh: the one branch on every data call. */
static inline bool
shim_fd_is_mesh(int fd)
{
    return __builtin_expect(shim_fd_word(fd) >= SHIM_FD_WORD(SHIM_FD_CONN, 0), 0);
}

/* False when fd is out of range (kind NONE is then a no-op that succeeds). The first CONN of a
 * process makes shim_stdio ready. */
bool shim_fdtab_set(int fd, enum shim_fd_kind kind, uint32_t index);
/* Clears the word only if it still is `word`: true then. */
bool shim_fdtab_clear_if(int fd, uint32_t word);
/* One more than the highest descriptor that ever had a kind; bounds scans. */
int shim_fdtab_limit(void);
/* Every descriptor with this word becomes `kind`, of index 0. Their number. */
uint32_t shim_fdtab_turn(uint32_t word, enum shim_fd_kind kind);
/* Another descriptor of this process with exactly this word, or -1. */
int shim_fdtab_other(uint32_t word, int than);

/* A word of little weight: losing or keeping it wrongly costs a system call, never a byte. Only the
 * others are protected from vfork children. */
static inline bool
shim_fd_is_light(uint32_t word)
{
    return word < SHIM_FD_WORD(SHIM_FD_LISTENER, 0);
}

/* The process that owns the table, 0 before the constructor: the cheap getpid(). A vfork child gets
 * its parent here. */
int shim_fdtab_owner(void);
/* True in that process. False in a vfork child, which must leave no trace. */
bool shim_fdtab_may_write(void);
void shim_fdtab_forked(void); /* in the child of fork: the table is ours now */

#endif
