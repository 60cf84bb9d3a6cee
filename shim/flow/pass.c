/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_pass: see pass.h.
 */
#include "shim/flow/pass.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "shim/core/env.h"
#include "shim/core/fdtab.h"
#include "shim/core/lock.h"
#include "shim/core/log.h"
#include "shim/core/region.h"
#include "shim/core/stat.h"
#include "shim/flow/carry.h"
#include "shim/flow/conn.h"
#include "shim/flow/ident.h"
#include "shim/flow/listener.h"
#include "shim/flow/shape.h"
#include "shim/flow/work.h"
#include "shim/link/link.h"
#include "shim/real.h"

#define TICK_NS UINT64_C(5000000)

/* A handshake is ours to drive, and only here is the descriptor hidden from poll, select and epoll until
 * it is done: where the connection goes it would look ready at once. So it is given its moment. */
static void
settle(struct shim_slot *s, uint64_t cookie)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_snap_settings set;
    mesh_snap_settings(&snap, &set);
    uint64_t now = shim_now(), until = now + (uint64_t)set.accept_grace_ms * 2000000;
    while (now < until && atomic_load(&s->cookie) == cookie && !shim_slot_has(s, SHIM_SF_LAZY)) {
        enum shim_phase phase = shim_slot_phase(s);
        bool server = shim_slot_has(s, SHIM_SF_SERVER);
        if ((phase != SHIM_PHASE_CONNECTING && phase != SHIM_PHASE_HANDSHAKE) ||
            (server && atomic_load(&s->hs_step) == 0)) { /* a client that says nothing yet */
            return;
        }
        uint64_t tick = now + TICK_NS;
        (void)shim_work_wait(NULL, 0, tick < until ? tick : until, NULL, s);
        now = shim_now();
    }
}

void
shim_pass_sending(int fd, int n)
{
    if (n > 0 && shim_fd_kind(fd) == SHIM_FD_LISTENER) {
        shim_listener_child(); /* who gets it may accept */
    }
    uint64_t cookie = shim_region_any() ? shim_cookie(fd) : 0;
    struct shim_slot *s = shim_slot_find(cookie);
    if (!s || shim_slot_phase(s) == SHIM_PHASE_FRESH) {
        return;
    }
    if (n > 0 && shim_fdtab_may_write()) {
        settle(s, cookie);
    }
    shim_shape_leave(s);
    atomic_fetch_or(&s->flags, SHIM_SF_GIVEN);
    shim_carry_describe(s);
    atomic_fetch_add(&s->refs, (uint32_t)n);
    int own = n > 0 && shim_region_index(s) == 0 ? shim_region_fd() : -1;
    if (own >= 0) {
        enum mesh_err e = shim_link_lend(cookie, own);
        if (e != MESH_OK) { /* enough for a receiver of this tree */
            shim_log_info("a connection that is passed on: %s", mesh_err_text(e));
        }
    }
}

/* Or one that will be: a connection of which TCP is still under way is one of the mesh already. */
static bool
is_connection(int fd)
{
    struct tcp_info info = {.tcpi_state = TCP_CLOSE};
    socklen_t len = sizeof(info);
    return sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_state != TCP_CLOSE &&
           info.tcpi_state != TCP_LISTEN;
}

/* While a connection's slot is looked for and until the descriptor names it: its region is not replaced meanwhile. */
static struct shim_private lock;

static bool
join(int region)
{
    uint32_t busy = shim_work_regions();
    for (int fd = 0, end = shim_fdtab_limit(); fd < end; fd++) {
        uint32_t word = shim_fd_word(fd), kind = word >> SHIM_FD_KIND_SHIFT;
        if (kind == SHIM_FD_CONN || kind == SHIM_FD_CLOSING) {
            busy |= 1u << shim_slot_region(SHIM_FD_INDEX(word));
        }
    }
    return shim_region_join(region, busy);
}

bool
shim_pass_join(int region)
{
    bool locked = shim_private_enter(&lock), there = join(region);
    if (locked) {
        shim_private_leave(&lock);
    }
    return there;
}

/* The slot of fd, which has its name from now on; NULL: there is none. region: where to look, too, or -1. */
static struct shim_slot *
take_in(int fd, int region, bool again)
{
    bool locked = shim_private_enter(&lock);
    struct shim_slot *s = region < 0 || join(region) ? shim_slot_find(shim_cookie(fd)) : NULL;
    if (s && !shim_fdtab_set(fd, SHIM_FD_CONN, shim_slot_handle(s))) {
        s = NULL;
    }
    if (s && shim_region_index(s) > 0) {
        atomic_store(&s->crowded, 1); /* that tree may not know us by this number */
    }
    if (s && again) {
        shim_slot_hold(s, shim_fdtab_owner(), 1);
    } else if (s) {
        shim_slot_name(s, shim_fdtab_owner(), 1);
    }
    if (locked) {
        shim_private_leave(&lock);
    }
    return s;
}

/* A connection that another tree opened, or none of the mesh. One that cannot go on here becomes a dead end. */
static void
claim(int fd, bool again)
{
    int region = -1;
    bool known = false;
    enum mesh_err e = shim_link_claim(fd, &known, &region);
    if (e != MESH_OK ? shim_env.fallback_pass : !known) {
        return;
    }
    struct shim_slot *s = region >= 0 ? take_in(fd, region, again) : NULL;
    if (s) {
        (void)shim_link_try();
    }
    if (s && shim_ident_engine() == MESH_OK) {
        shim_carry_list(s);
    }
    if (region >= 0) {
        (void)sys_close(region);
    }
    if (!s) {
        shim_carry_dead_end(fd);
    }
}

void
shim_pass_received(int fd, bool again)
{
    if (!shim_fd_is_light(shim_fd_word(fd)) && !shim_fdtab_may_write()) {
        return;
    }
    (void)shim_fdtab_set(fd, SHIM_FD_NONE, 0);
    if (!is_connection(fd)) {
        shim_conn_inherited(fd);
    } else if (!take_in(fd, -1, again)) {
        claim(fd, again);
    }
}

void
shim_pass_forked(void)
{
    shim_private_forked(&lock, false);
}
