/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_fresh: see fresh.h.
 */
#include "shim/flow/fresh.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "shim/core/fdtab.h"
#include "shim/core/region.h"
#include "shim/flow/conn.h"
#include "shim/flow/work.h"
#include "shim/real.h"

/* poll() looks from now on whether one of its descriptors has become another process's connection: for good, it
 * costs a load for each. */
static void
watch_out(void)
{
    static _Atomic bool told;
    if (!atomic_exchange(&told, true)) {
        shim_work_expect(1);
    }
}

static void
share(int fd)
{
    uint64_t cookie = shim_cookie(fd);
    struct shim_slot *s = cookie && shim_region_init() ? shim_slot_alloc() : NULL;
    if (s) {
        atomic_store(&s->cookie, cookie);
        atomic_store(&s->phase, SHIM_PHASE_FRESH);
        (void)shim_fdtab_set(fd, SHIM_FD_CONN, shim_slot_handle(s));
        shim_slot_hold(s, shim_fdtab_owner(), shim_conn_adopt_aliases(fd));
        watch_out();
    }
}

/* Neither connected (to one that is not of the mesh), nor listening. */
static bool
is_idle(int fd)
{
    uint8_t state = 0;
    socklen_t len = sizeof(state); /* the first byte of struct tcp_info */
    return sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &len) == 0 && state == TCP_CLOSE;
}

void
shim_fresh_share(void)
{
    for (int fd = 0, end = shim_fdtab_limit(); fd < end; fd++) {
        if (shim_fd_kind(fd) == SHIM_FD_FRESH && is_idle(fd)) {
            share(fd);
        }
    }
}

void
shim_fresh_after(int fd)
{
    if (shim_fd_kind(fd) == SHIM_FD_FRESH) {
        share(fd);
    }
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
shim_fresh_claim(int fd, enum shim_phase phase)
{
    struct shim_slot *s = shim_fresh_slot(fd);
    uint32_t fresh = SHIM_PHASE_FRESH;
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

/* Nobody is left: it is nobody's. Others may have claimed it in this moment, then they are there. */
static void
release(struct shim_slot *s, uint32_t n)
{
    if (shim_slot_release(s, shim_fdtab_owner(), n) == 0) {
        shim_slot_end_unheld(s, shim_conn_end);
    }
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
shim_fresh_close(int fd)
{
    struct shim_slot *s = shim_fresh_slot(fd);
    if (s) {
        release(s, 1);
    }
}
