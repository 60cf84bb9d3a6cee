/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_stdio: the ways out of libc's FILE streams. libc calls its own read, write and close without
 * a name that could be replaced, but through a table that every stream on a descriptor points to:
 *
 *     FILE -> _IO_file_jumps | _IO_wfile_jumps: ... [14] read  [15] write  [16] seek  [17] close ...
 *
 * Those three slots are made to hold functions of ours (shim/sym/stdio.c): data, no code. The tables
 * lie in pages that the loader made read-only; they are writable for the time of six stores.
 *
 * When: as soon as this process gets its first mesh connection, made, accepted or inherited. A
 * program without one keeps libc as it was.
 * Who: one thread, under a lock; another could close the pages under its hand. fork takes the lock
 * too, so that no child starts in between. A signal handler above the holder goes on without: the
 * stores are done before its thread can touch a stream in earnest. Other threads may be inside of
 * streams meanwhile: a slot is an aligned word, and both of its values do the same for a descriptor
 * that is not of the mesh.
 */
#ifndef SHIM_CORE_STDIO_H
#define SHIM_CORE_STDIO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

enum shim_stdio_state {
    SHIM_STDIO_BARE,    /* libc's own */
    SHIM_STDIO_CARRIED, /* ours */
    SHIM_STDIO_REFUSED, /* another libc, or the pages cannot be written: no connection into stdio */
};

struct shim_stdio_slots {
    ssize_t (*read)(FILE *, void *, ssize_t);
    ssize_t (*write)(FILE *, const void *, ssize_t);
    int (*close)(FILE *);
};

extern _Atomic int shim_stdio_state;

/* From the constructor: what the slots shall hold. Stores the pointer, no more. */
void shim_stdio_init(const struct shim_stdio_slots *ours);
void shim_stdio_change(void);
void shim_stdio_before_fork(void); /* after the work lock */
void shim_stdio_after_fork(bool child);

/* A descriptor is about to become a connection. After the first time one load; the stores of another
 * thread are seen by whoever sees the state that follows them. */
static inline void
shim_stdio_ready(void)
{
    if (atomic_load_explicit(&shim_stdio_state, memory_order_acquire) == SHIM_STDIO_BARE) {
        shim_stdio_change();
    }
}

/* True when a stream on a mesh connection would put plaintext on the wire. */
static inline bool
shim_stdio_refused(void)
{
    return atomic_load_explicit(&shim_stdio_state, memory_order_relaxed) == SHIM_STDIO_REFUSED;
}

#endif
