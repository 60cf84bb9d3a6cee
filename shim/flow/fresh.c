/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_fresh: see fresh.h.
 */
#include "shim/flow/fresh.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "shim/core/fdtab.h"
#include "shim/core/region.h"
#include "shim/core/stat.h"
#include "shim/flow/conn.h"
#include "shim/flow/conn_int.h"
#include "shim/flow/work.h"
#include "shim/real.h"

/* Which of them are one socket only the kernel knows. */
static void
share(int fd)
{
    uint64_t cookie = shim_cookie(fd);
    struct shim_slot *s = shim_conn_has_aliases() ? shim_slot_find(cookie) : NULL;
    if (s && shim_slot_phase(s) == SHIM_PHASE_FRESH) {
        shim_slot_hold(s, shim_fdtab_owner(), 1);
    } else {
        s = cookie && shim_region_init() ? shim_slot_alloc() : NULL;
        if (!s) {
            shim_stat_err(MESH_E_NO_MEMORY);
            return;
        }
        atomic_store(&s->cookie, cookie);
        atomic_store(&s->phase, SHIM_PHASE_FRESH);
    }
    (void)shim_fdtab_set(fd, SHIM_FD_CONN, shim_slot_handle(s));
    shim_work_look();
}

static int
state_of(int fd)
{
    uint8_t state = 0;
    socklen_t len = sizeof(state); /* the first byte of struct tcp_info */
    return sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &len) == 0 ? state : -1;
}

bool
shim_fresh_is_idle(int fd)
{
    return state_of(fd) == TCP_CLOSE;
}

/* What connects to one that is not of the mesh may fail, and connect anew. */
void
shim_fresh_share(bool inherited)
{
    shim_slot_sweep(shim_conn_end);
    for (int fd = 0, end = shim_fdtab_limit(); fd < end; fd++) {
        if (shim_fd_kind(fd) != SHIM_FD_FRESH || (inherited && sys_fcntl(fd, F_GETFD, 0) != 0)) {
            continue;
        }
        int state = state_of(fd);
        if (state == TCP_CLOSE || state == TCP_SYN_SENT) {
            share(fd);
        }
    }
}

/* Nobody is left: it is nobody's. Others may have claimed it in this moment, then they are there. */
static void
release(struct shim_slot *s, uint32_t n)
{
    if (shim_slot_release(s, shim_fdtab_owner(), n) == 0) {
        shim_slot_end_unheld(s, shim_conn_end);
    }
}

/* Whoever holds it, in another process, has heard of the connection's end from the kernel. One of our own that
 * waits for the work lock would wait for us. */
static bool
try_get(struct shim_lock *l)
{
    for (unsigned i = 0; i < 1000; i++) {
        if (shim_lock_poll(l) <= SHIM_LOCK_INHERITED) {
            return true;
        }
        (void)sys_call(SYS_sched_yield, 0, 0, 0, 0);
    }
    return false;
}

/* To those who hold it it is a connection that was reset; what we connect next is not theirs. */
static void
part(struct shim_slot *s)
{
    atomic_store(&s->fail_errno, ECONNRESET);
    atomic_store(&s->err, MESH_E_CONNECT_FAILED);
    atomic_store(&s->phase, SHIM_PHASE_FAILED);
    release(s, shim_fdtab_turn(SHIM_FD_WORD(SHIM_FD_CONN, shim_slot_handle(s)), SHIM_FD_FRESH));
}

bool
shim_fresh_after(struct shim_slot *s)
{
    if (shim_slot_is_only(s, shim_fdtab_owner())) {
        return false;
    }
    bool rx = try_get(&s->rx_lock), tx = rx && try_get(&s->tx_lock);
    if (tx) {
        shim_conn_over(s);
        shim_slot_renew(s);
        shim_lock_put(&s->tx_lock);
    }
    if (rx) {
        shim_lock_put(&s->rx_lock);
    }
    if (!tx) {
        part(s);
    }
    return true;
}

struct shim_slot *
shim_fresh_slot(int fd)
{
    uint32_t word = shim_fd_word(fd);
    struct shim_slot *s = word >> SHIM_FD_KIND_SHIFT == SHIM_FD_CONN ? shim_slot_current(SHIM_FD_INDEX(word)) : NULL;
    return s && shim_slot_phase(s) == SHIM_PHASE_FRESH ? s : NULL;
}

bool
shim_fresh_is(int fd)
{
    return shim_fd_kind(fd) == SHIM_FD_FRESH || shim_fresh_slot(fd);
}

struct shim_slot *
shim_fresh_claim(int fd, uint64_t cookie, enum shim_phase phase)
{
    struct shim_slot *s = shim_fresh_slot(fd);
    uint32_t fresh = SHIM_PHASE_FRESH;
    if (s && atomic_load(&s->cookie) != cookie) { /* closed where we could not see it, and another socket since */
        shim_fresh_close(fd);
        (void)shim_fdtab_set(fd, SHIM_FD_FRESH, 0);
        return NULL;
    }
    if (!s || !atomic_compare_exchange_strong(&s->phase, &fresh, phase)) {
        return NULL;
    }
    struct shim_work *w = shim_work_of(s); /* of an attempt that failed elsewhere */
    if (w && !w->owned) {
        shim_work_drop(w);
    }
    return s;
}

bool
shim_fresh_again(struct shim_slot *s)
{
    if (shim_slot_is_only(s, shim_fdtab_owner())) {
        return false;
    }
    shim_slot_renew(s);
    return true;
}

void
shim_fresh_unshare(int fd)
{
    struct shim_slot *s = shim_fresh_slot(fd);
    if (s) {
        release(s, shim_fdtab_turn(shim_fd_word(fd), SHIM_FD_FRESH));
    }
}

void
shim_fresh_join(int fd)
{
    struct shim_slot *s = shim_region_any() ? shim_slot_find(shim_cookie(fd)) : NULL;
    if (s && shim_slot_phase(s) == SHIM_PHASE_FRESH) {
        (void)shim_fdtab_set(fd, SHIM_FD_CONN, shim_slot_handle(s));
        shim_slot_hold(s, shim_fdtab_owner(), 1 + shim_conn_adopt_aliases(fd));
    }
}

void
shim_fresh_close(int fd)
{
    struct shim_slot *s = shim_fresh_slot(fd);
    if (s) {
        release(s, 1);
    }
}
