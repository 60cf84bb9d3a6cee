/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_work, the part about the end of the program: what must not be lost is finished, or handed to
 * meshd.
 */
#include "shim/core/fdtab.h"
#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/real.h"

/* A connect() that was told established, and of which the server knows nothing yet. */
static bool
is_unheard(const struct shim_work *w)
{
    const struct shim_slot *s = shim_slot_at(w->slot);
    return shim_slot_phase(s) == SHIM_PHASE_HANDSHAKE && shim_slot_has(s, SHIM_SF_LAZY) &&
           !shim_slot_has(s, SHIM_SF_SERVER) && !w->answered;
}

/* What must not be lost when the program ends. Where another process goes on with the handshake, the
 * bytes that were written here are still ours alone. */
static bool
has_unsent(const struct shim_work *w)
{
    struct shim_slot *s = shim_slot_at(w->slot);
    if (w->dormant || w->handed || atomic_load(&s->cookie) != w->cookie ||
        shim_slot_phase(s) == SHIM_PHASE_FAILED) {
        return false;
    }
    bool ours = (shim_slot_has(s, SHIM_SF_COMMON) || w->step > 0) && shim_slot_phase(s) < SHIM_PHASE_OPEN &&
                !shim_slot_is_only(s, shim_fdtab_owner()); /* others wait for it */
    return w->early_len > w->early_off ||
           (!w->abandoned && (ours || w->owned || (s->tx_spill && !w->helper) || is_unheard(w) ||
                              shim_slot_has(s, SHIM_SF_FIN_DUE)));
}

static bool
is_shared(const struct shim_slot *s)
{
    return atomic_load(&s->refs) > shim_slot_share(s, shim_fdtab_owner());
}

/* What only meshd can still do: the peer has not even begun to answer. Not while another process has
 * the connection: its bytes and ours belong together. */
static bool
is_hopeless(const struct shim_work *w, uint64_t from)
{
    return is_unheard(w) && !is_shared(shim_slot_at(w->slot)) && shim_now() > from;
}

static size_t
left(const struct shim_work *w)
{
    return w->early_len - w->early_off;
}

static bool
may_hand_off(const struct shim_work *w)
{
    const struct shim_slot *s = shim_slot_at(w->slot);
    return shim_slot_phase(s) == SHIM_PHASE_HANDSHAKE && !is_shared(s) && !shim_slot_has(s, SHIM_SF_SERVER) &&
           left(w) <= 65536;
}

/* What the program has open a child goes on with, if there will be one. */
static bool
is_to_lose(const struct shim_work *w, bool goes_on)
{
    return has_unsent(w) && (!goes_on || w->owned);
}

/* False: meshd did not take everything. It is given up at the first that it does not even answer: there may be hundreds. */
static bool
hand_off(bool goes_on)
{
    bool all = true;
    if (!shim_work_enter()) {
        return true;
    }
    for (struct shim_work *w = shim_work_first(); w; w = w->next) {
        if (!is_to_lose(w, goes_on) || !may_hand_off(w)) {
            continue;
        }
        w->handed = true;
        enum mesh_err e = shim_link_handoff(w->fd, &w->to, w->expect_id, w->early + w->early_off, left(w));
        if (e == MESH_OK) {
            shim_stat_add(MESH_STAT_HANDOFFS, 1);
        } else {
            shim_log_info("meshd does not take the last bytes: %s; we wait for the server", mesh_err_text(e));
            w->handed = all = false;
        }
        if (e == MESH_E_NO_MESHD) {
            break;
        }
    }
    shim_work_leave();
    return all;
}

/* Until nothing is left but what is hopeless, from then on. */
static void
work_off(uint64_t until, uint64_t hopeless_from)
{
    while (shim_now() < until) {
        bool any = false;
        shim_work_drive();
        if (!shim_work_enter()) {
            return;
        }
        for (struct shim_work *w = shim_work_first(); w; w = w->next) {
            any = any || (has_unsent(w) && !is_hopeless(w, hopeless_from));
        }
        shim_work_leave();
        if (!any) {
            return;
        }
        uint64_t tick = shim_now() + 5000000;
        (void)shim_work_wait(NULL, 0, tick < until ? tick : until, NULL, NULL);
    }
}

static void
count_lost(bool goes_on)
{
    if (!shim_work_enter()) {
        return;
    }
    for (struct shim_work *w = shim_work_first(); w; w = w->next) {
        if (is_to_lose(w, goes_on) && (left(w) || is_unheard(w))) {
            shim_stat_err(MESH_E_LINGER);
            shim_log_error("%zu bytes: %s", left(w), mesh_err_text(MESH_E_LINGER));
            w->handed = true; /* once is enough: exit comes here more than once */
        }
    }
    shim_work_leave();
}

void
shim_work_finish(bool goes_on)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    if (shim_work_items() == 0) {
        return;
    }
    mesh_snap_settings(&snap, &set);
    uint64_t start = shim_now(), until = start + (uint64_t)set.linger_ms * 1000000;
    work_off(until, start + (uint64_t)set.accept_grace_ms * 1000000);
    if (!hand_off(goes_on)) {
        work_off(until, SHIM_NEVER);
        (void)hand_off(goes_on); /* what is left now: meshd may have come back */
    }
    count_lost(goes_on);
}
