/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_carry, the part about posix_spawn: its child's descriptors come into being inside libc, so what
 * it may inherit is guessed from what this process holds, and lent.
 */
#include "shim/flow/carry_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "shim/core/fdtab.h"
#include "shim/core/log.h"
#include "shim/core/region.h"
#include "shim/core/stat.h"
#include "shim/flow/conn.h"
#include "shim/flow/fresh.h"
#include "shim/flow/ktls.h"
#include "shim/flow/work.h"
#include "shim/real.h"

/* Connections that were named in file actions, as descriptors' words; 0: none. In turn, the oldest is forgotten. */
static _Atomic uint32_t given[SHIM_CARRY_LENT];
static const void *_Atomic given_in[SHIM_CARRY_LENT]; /* which file actions */
static _Atomic uint32_t given_next;

void
shim_carry_give(int fd, const void *actions)
{
    shim_carry_settle(fd);
    if (shim_conn_slot(fd)) {
        uint32_t i = atomic_fetch_add(&given_next, 1) % SHIM_CARRY_LENT;
        atomic_store(&given[i], 0);
        atomic_store(&given_in[i], actions);
        atomic_store(&given[i], shim_fd_word(fd));
    }
}

void
shim_carry_give_none(const void *actions)
{
    for (unsigned i = 0; i < SHIM_CARRY_LENT && atomic_load(&given_next); i++) {
        if (atomic_load(&given_in[i]) == actions) {
            atomic_store(&given[i], 0);
        }
    }
}

/* In these file actions, and still one of this process's? */
static struct shim_slot *
given_slot(unsigned i, const void *actions)
{
    uint32_t word = atomic_load(&given[i]);
    bool here = word && atomic_load(&given_in[i]) == actions && shim_fdtab_other(word, -1) >= 0;
    return here ? shim_slot_current(SHIM_FD_INDEX(word)) : NULL;
}

/* What file actions may give to a program that is not under libmesh goes to the kernel, all of it. */
static bool
give_away_given(const void *actions)
{
    bool all = true;
    for (unsigned i = 0; i < SHIM_CARRY_LENT && atomic_load(&given_next); i++) {
        struct shim_slot *s = given_slot(i, actions);
        if (s) {
            int fd = shim_fdtab_other(atomic_load(&given[i]), -1);
            all = fd >= 0 && shim_ktls_give_away(fd, s) && all;
        }
    }
    return all;
}

static bool
any_given(const void *actions)
{
    for (unsigned i = 0; i < SHIM_CARRY_LENT && atomic_load(&given_next); i++) {
        if (given_slot(i, actions)) {
            return true;
        }
    }
    return false;
}

bool
shim_carry_may_give(const void *actions)
{
    for (int fd = 0, end = shim_fdtab_limit(); fd < end; fd++) {
        if ((shim_fd_kind(fd) == SHIM_FD_CONN || shim_fd_kind(fd) == SHIM_FD_FRESH) && shim_carry_is_inherited(fd) &&
            (shim_fresh_is(fd) || shim_conn_slot(fd))) {
            return true;
        }
    }
    return actions && any_given(actions);
}

/* One reference in nobody's name, which the child takes over. */
static void
lend_one(struct shim_carry *c, struct shim_slot *s)
{
    uint32_t handle = shim_slot_handle(s);
    for (unsigned i = 0; i < c->lent; i++) {
        if (c->slot[i] == handle) {
            return;
        }
    }
    if (c->lent < SHIM_CARRY_LENT) {
        c->slot[c->lent++] = handle;
        atomic_fetch_add(&s->refs, 1);
    }
}

static void
lend(struct shim_carry *c, struct shim_slot *s)
{
    lend_one(c, s);
    shim_carry_describe(s);
    atomic_fetch_or(&s->flags, SHIM_SF_GIVEN);
}

static void
write_lent(struct shim_carry *c)
{
    size_t n = strlen(c->value);
    for (unsigned i = 0; i < c->lent; i++) {
        n += (size_t)snprintf(c->value + n, sizeof(c->value) - n, ":%x", c->slot[i]);
    }
}

int
shim_carry_prepare_spawn(struct shim_carry *c, bool can_follow, const void *actions)
{
    memset(c, 0, sizeof(*c));
    c->fd = -1;
    if (!can_follow && actions && !give_away_given(actions)) {
        shim_stat_err(MESH_E_EXEC);
        shim_log_error("posix_spawn: %s", mesh_err_text(MESH_E_EXEC));
        return EACCES;
    }
    for (unsigned i = 0; i < SHIM_CARRY_LENT && actions && can_follow; i++) {
        struct shim_slot *s = given_slot(i, actions);
        if (s) {
            lend(c, s);
        }
    }
    if (can_follow && shim_work_enter()) {
        shim_fresh_share(true);
        shim_work_leave();
    }
    uint64_t grace = shim_carry_until(false); /* a handshake goes on here */
    for (int fd = 0, end = shim_fdtab_limit(); fd < end; fd++) {
        if (shim_fd_kind(fd) != SHIM_FD_CONN || !shim_carry_is_inherited(fd)) {
            continue;
        }
        struct shim_slot *s = shim_conn_slot(fd);
        shim_carry_settle_until(fd, can_follow && s && shim_carry_is_near(s) ? grace : shim_carry_until(true));
        s = shim_conn_slot(fd);
        struct shim_slot *fresh = shim_fresh_slot(fd);
        if (fresh && can_follow) {
            lend_one(c, fresh);
        } else if (s && can_follow) {
            lend(c, s);
        } else if (s && !shim_ktls_give_away(fd, s)) {
            (void)sys_fcntl(fd, F_SETFD, FD_CLOEXEC); /* of no use to it: closed there */
        }
    }
    if (c->lent) {
        shim_carry_offer(c);
        write_lent(c);
    }
    return 0;
}

void
shim_carry_undo_spawn(const struct shim_carry *c, bool started)
{
    if (c->fd >= 0) {
        (void)sys_fcntl(c->fd, F_SETFD, FD_CLOEXEC);
    }
    for (unsigned i = 0; i < c->lent && !started; i++) {
        atomic_fetch_sub(&shim_slot_at(c->slot[i])->refs, 1);
    }
}
