/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_conn, the part about processes: what becomes of connections when one forks, executes or ends.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "shim/core/fdtab.h"
#include "shim/core/region.h"
#include "shim/core/stat.h"
#include "shim/flow/conn.h"
#include "shim/flow/fresh.h"
#include "shim/flow/goodbye.h"
#include "shim/flow/ident.h"
#include "shim/flow/limit.h"
#include "shim/flow/listener.h"
#include "shim/flow/pass.h"
#include "shim/flow/retry.h"
#include "shim/flow/shape.h"
#include "shim/flow/work.h"
#include "shim/real.h"

static void
for_own_slots(void (*each)(struct shim_slot *s, uint32_t arg), uint32_t arg)
{
    for (int fd = 0, end = shim_fdtab_limit(); fd < end; fd++) {
        uint32_t word = shim_fd_word(fd);
        struct shim_slot *s = word >> SHIM_FD_KIND_SHIFT == SHIM_FD_CONN
                                  ? shim_slot_current(SHIM_FD_INDEX(word))
                                  : NULL;
        if (s) {
            each(s, arg);
        }
    }
}

static void
count(struct shim_slot *s, uint32_t n)
{
    atomic_fetch_add(&s->refs, n);
}

static void
name(struct shim_slot *s, uint32_t pid)
{
    if (pid && shim_region_index(s) == 0) {
        shim_slot_name(s, (int)pid, 1);
    } else {
        atomic_store(&s->crowded, 1);
    }
}

static _Atomic bool over;

bool
shim_conn_is_over(void)
{
    return atomic_load_explicit(&over, memory_order_relaxed);
}

/* What finds no room waits for it as after shutdown. */
static void
part(struct shim_slot *s, int fd, bool for_good)
{
    enum shim_phase phase = shim_slot_phase(s);
    int r = 0;
    shim_shape_leave(s);
    if (for_good && shim_slot_is_only(s, shim_fdtab_owner())) {
        shim_retry_leave(s); /* nobody closes it */
        shim_limit_leave(s);
    }
    if ((phase != SHIM_PHASE_OPEN && phase != SHIM_PHASE_KERNEL) ||
        !shim_slot_is_only(s, shim_fdtab_owner())) {
        return; /* others go on with it */
    }
    if (for_good) {
        shim_stat_conn_note(s, MESH_HOW_EXITED, 0);
        r = shim_goodbye(fd, s, false);
    } else if (phase == SHIM_PHASE_OPEN) {
        (void)shim_goodbye_clear(fd, s, true);
    }
    if (r == -EAGAIN) {
        atomic_fetch_or(&s->flags, SHIM_SF_FIN_DUE);
        shim_work_tail(s, fd);
    }
}

/* What this image inherited and never used, it only has to look after if something came: the engine
 * is not loaded yet. */
static bool
is_worth_it(int fd)
{
    int unread = 0;
    return atomic_load(&shim_tls) || (sys_call(SYS_ioctl, fd, SIOCINQ, &unread, 0) == 0 &&
                                      unread > 0 && shim_ident_engine() == MESH_OK);
}

void
shim_conn_exit(bool for_good)
{
    if (for_good && !atomic_exchange(&over, true)) {
        shim_listener_exit();
    }
    for (int fd = 0, end = shim_region_any() ? shim_fdtab_limit() : 0; fd < end; fd++) {
        uint32_t word = shim_fd_word(fd);
        struct shim_slot *s = word >> SHIM_FD_KIND_SHIFT == SHIM_FD_CONN
                                  ? shim_slot_current(SHIM_FD_INDEX(word))
                                  : NULL;
        if (s && is_worth_it(fd)) {
            part(s, fd, for_good);
        }
        if (s && for_good && atomic_load(&s->endpoint) && shim_slot_is_only(s, shim_fdtab_owner())) {
            struct mesh_page_conn *c = shim_stat_conn(s);
            if (c) {
                c->uncounted = 1; /* meshd would take it for one that it has to count again */
            }
            shim_retry_leave(s);
        }
    }
}

/* The child will hold every descriptor once more. Counted before, so that a close in the parent
 * right after fork does not see itself as the last; the child puts its name to it. */
void
shim_conn_before_fork(void)
{
    shim_fresh_share(false);
    for_own_slots(count, 1);
}

void
shim_conn_fork_failed(void)
{
    for_own_slots(count, (uint32_t)-1);
}

void
shim_conn_forked(void)
{
    atomic_store(&over, false);
    shim_pass_forked();
    /* In another pid namespace our numbers are somebody else's. */
    bool same = !shim_region() || shim_region_forked();
    shim_lock_forked(!same);
    for_own_slots(name, same ? (uint32_t)shim_fdtab_owner() : 0);
}
