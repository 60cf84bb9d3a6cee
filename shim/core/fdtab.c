/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_fdtab: see fdtab.h. 4 MiB of zero pages, of which the used numbers' pages become real.
 */
#include "shim/core/fdtab.h"

#include "shim/core/stdio.h"
#include "shim/real.h"

_Atomic uint32_t shim_fdtab[SHIM_FD_MAX];
static _Atomic int limit;
static _Atomic int owner;

bool
shim_fdtab_set(int fd, enum shim_fd_kind kind, uint32_t index)
{
    if (fd < 0 || fd >= SHIM_FD_MAX) {
        return kind == SHIM_FD_NONE;
    }
    uint32_t word = kind == SHIM_FD_NONE ? 0 : SHIM_FD_WORD(kind, index);
    if (word == shim_fd_word(fd)) {
        return true; /* keeps untouched pages untouched */
    }
    if (kind == SHIM_FD_CONN) {
        shim_stdio_ready(); /* before anybody can find a connection under a stream */
    }
    int seen = atomic_load(&limit);
    while (fd >= seen && !atomic_compare_exchange_weak(&limit, &seen, fd + 1)) {
    }
    atomic_store_explicit(&shim_fdtab[fd], word, memory_order_release);
    return true;
}

bool
shim_fdtab_clear_if(int fd, uint32_t word)
{
    return fd >= 0 && fd < SHIM_FD_MAX && atomic_compare_exchange_strong(&shim_fdtab[fd], &word, 0);
}

int
shim_fdtab_limit(void)
{
    return atomic_load(&limit);
}

uint32_t
shim_fdtab_turn(uint32_t word, enum shim_fd_kind kind)
{
    uint32_t n = 0;
    for (int fd = 0, end = shim_fdtab_limit(); fd < end; fd++) {
        if (shim_fd_word(fd) == word) {
            (void)shim_fdtab_set(fd, kind, 0);
            n++;
        }
    }
    return n;
}

int
shim_fdtab_other(uint32_t word, int than)
{
    for (int fd = 0, end = shim_fdtab_limit(); fd < end; fd++) {
        if (fd != than && shim_fd_word(fd) == word) {
            return fd;
        }
    }
    return -1;
}

int
shim_fdtab_owner(void)
{
    return atomic_load_explicit(&owner, memory_order_relaxed);
}

bool
shim_fdtab_may_write(void)
{
    int pid = sys_getpid();
    int seen = 0;
    if (atomic_compare_exchange_strong(&owner, &seen, pid)) {
        return true;
    }
    return seen == pid;
}

void
shim_fdtab_forked(void)
{
    atomic_store(&owner, sys_getpid());
}
