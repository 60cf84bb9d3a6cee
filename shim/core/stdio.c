/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_stdio: see stdio.h. Stores only when everything is as expected: each slot holds the function
 * that libc exports under the name of that slot, and all of them lie in one run of pages that the
 * loader made read-only. Otherwise nothing is touched, and the state says so.
 */
#include "shim/core/stdio.h"

#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "shim/core/lock.h"
#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/real.h"

enum { SLOT_READ = 14, SLOT_WRITE = 15, SLOT_CLOSE = 17 }; /* since glibc 2.1; words */

_Atomic int shim_stdio_state;
static const struct shim_stdio_slots *slots;
static struct shim_private lock;

void
shim_stdio_init(const struct shim_stdio_slots *ours)
{
    slots = ours;
}

static bool
is_known(void *const *table)
{
    const struct shim_real_stdio *io = &shim_real_stdio;
    uintptr_t at = (uintptr_t)table;
    return table && at >= io->relro && at + (SLOT_CLOSE + 1) * sizeof(*table) <= io->relro_end &&
           io->read && (uintptr_t)table[SLOT_READ] == io->read &&
           io->write && (uintptr_t)table[SLOT_WRITE] == io->write &&
           io->close && (uintptr_t)table[SLOT_CLOSE] == io->close;
}

static void
put_slot(void **slot, uintptr_t fn)
{
    __atomic_store_n(slot, (void *)fn, __ATOMIC_RELEASE);
}

static void
put_slots(void **table)
{
    put_slot(&table[SLOT_READ], (uintptr_t)slots->read);
    put_slot(&table[SLOT_WRITE], (uintptr_t)slots->write);
    put_slot(&table[SLOT_CLOSE], (uintptr_t)slots->close);
}

static const char *
change(void)
{
    const struct shim_real_stdio *io = &shim_real_stdio;
    bool list = io->list && io->list_lock && io->list_unlock && io->list_reset;
    if (!slots || !list || !is_known(io->file) || !is_known(io->wfile)) {
        return "the tables are not the known ones";
    }
    uintptr_t page = getauxval(AT_PAGESZ), a = (uintptr_t)io->file, b = (uintptr_t)io->wfile;
    uintptr_t from = (a < b ? a : b) & -page;
    uintptr_t len = (a < b ? b : a) + (SLOT_CLOSE + 1) * sizeof(void *) - from;
    if (sys_call(SYS_mprotect, from, len, PROT_READ | PROT_WRITE, 0) != 0) {
        return "the tables cannot be made writable"; /* a filter, or sealed memory */
    }
    put_slots(io->file);
    put_slots(io->wfile);
    (void)sys_call(SYS_mprotect, from, len, PROT_READ, 0);
    return NULL;
}

void
shim_stdio_change(void)
{
    if (!shim_private_enter(&lock)) {
        return;
    }
    if (atomic_load(&shim_stdio_state) == SHIM_STDIO_BARE) {
        const char *why = change();
        if (why) {
            shim_stat_err(MESH_E_STDIO);
            shim_log_error("%s: %s", mesh_err_text(MESH_E_STDIO), why);
        }
        atomic_store(&shim_stdio_state, why ? SHIM_STDIO_REFUSED : SHIM_STDIO_CARRIED);
    }
    shim_private_leave(&lock);
}

static bool fork_locked;

void
shim_stdio_before_fork(void)
{
    fork_locked = shim_private_enter(&lock);
}

void
shim_stdio_after_fork(bool child)
{
    if (child) {
        shim_private_forked(&lock, fork_locked);
    } else if (fork_locked) {
        shim_private_leave(&lock);
    }
}
