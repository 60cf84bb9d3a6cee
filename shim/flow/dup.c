/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_conn, the part about duplicates: several descriptors of one connection.
 */
#include "shim/core/fdtab.h"
#include "shim/flow/conn.h"
#include "shim/flow/work.h"

static _Atomic bool aliases;

bool
shim_conn_has_aliases(void)
{
    return atomic_load_explicit(&aliases, memory_order_relaxed);
}

/* Which fresh descriptors are one socket only the kernel knows. */
uint32_t
shim_conn_adopt_aliases(int fd)
{
    uint32_t word = shim_fd_word(fd), n = 0;
    uint64_t cookie = shim_conn_has_aliases() ? shim_cookie(fd) : 0;
    for (int i = 0, end = cookie ? shim_fdtab_limit() : 0; i < end; i++) {
        if (i != fd && shim_fd_kind(i) == SHIM_FD_FRESH && shim_cookie(i) == cookie) {
            (void)shim_fdtab_set(i, (enum shim_fd_kind)(word >> SHIM_FD_KIND_SHIFT),
                                 SHIM_FD_INDEX(word));
            n++;
        }
    }
    return n;
}

void
shim_conn_dup(int from, int to)
{
    uint32_t word = shim_fd_word(from);
    enum shim_fd_kind kind = (enum shim_fd_kind)(word >> SHIM_FD_KIND_SHIFT);
    bool light = shim_fd_is_light(word) && shim_fd_is_light(shim_fd_word(to));
    if (from == to || to < 0 || (!light && !shim_fdtab_may_write())) {
        return;
    }
    if (kind == SHIM_FD_CONN) {
        struct shim_slot *s = shim_slot_current(SHIM_FD_INDEX(word));
        if (!s) {
            return;
        }
        shim_slot_hold(s, shim_fdtab_owner(), 1);
    }
    if (kind == SHIM_FD_FRESH || kind == SHIM_FD_CONN) {
        atomic_store(&aliases, true);
    }
    (void)shim_fdtab_set(to, kind == SHIM_FD_CLOSING ? SHIM_FD_NONE : kind, SHIM_FD_INDEX(word));
    shim_work_expect(kind == SHIM_FD_INHERITED ? 1 : 0);
}
