/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_confine: see confine.h.
 */
#include "shim/flow/confine.h"

#include <fcntl.h>
#include <string.h>

#include "shim/core/fdtab.h"
#include "shim/filter.h"
#include "shim/flow/audit.h"
#include "shim/flow/carry.h"
#include "shim/flow/conn.h"
#include "shim/flow/ident.h"
#include "shim/real.h"

/* Of what a connection needs after its handshake. */
static bool
is_narrow(int id)
{
    return shim_filter_forbids(id, SYS_recvfrom, 0, 0, 1, MSG_PEEK | MSG_DONTWAIT) ||
           shim_filter_forbids(id, SYS_sendto, 0, 0, 1, MSG_NOSIGNAL | MSG_DONTWAIT) ||
           shim_filter_forbids(id, SYS_setsockopt, 0, SOL_SOCKET, SO_RCVLOWAT, 0) ||
           shim_filter_forbids(id, SYS_fcntl, 0, F_GETFL, 0, 0);
}

/* Buffers and key schedules come into being when they are first needed, by mmap: now. */
static void
warm_up(const struct shim_slot *s)
{
    const struct shim_tls_ops *tls = atomic_load(&shim_tls);
    uint8_t rec[64] = {0}, *scratch = shim_scratch_get();
    struct shim_key key;
    shim_scratch_put(scratch);
    memcpy(&key, s->rx_key, sizeof(key));
    (void)tls->seal(&key, SHIM_REC_DATA, rec, 1, rec + 1);
    memcpy(&key, s->tx_key, sizeof(key));
    (void)tls->seal(&key, SHIM_REC_DATA, rec, 1, rec + 1); /* of a copy, and never sent */
    tls->wipe(&key, sizeof(key));
    tls->wipe(rec, sizeof(rec));
    (void)shim_tid();
}

static void
prepare(int fd)
{
    shim_carry_settle(fd);
    struct shim_slot *s = shim_conn_slot(fd); /* loads the engine where it is not there yet */
    if (!s || (shim_slot_phase(s) != SHIM_PHASE_OPEN && shim_slot_phase(s) != SHIM_PHASE_KERNEL)) {
        return;
    }
    if (shim_slot_phase(s) == SHIM_PHASE_OPEN) {
        warm_up(s);
    }
    long fl = sys_fcntl(fd, F_GETFL, 0);
    if (fl >= 0 && fl & O_NONBLOCK) {
        atomic_fetch_or(&s->flags, SHIM_SF_NONBLOCK);
    } else {
        atomic_fetch_and(&s->flags, ~(uint32_t)SHIM_SF_NONBLOCK);
    }
    if (s->rx_lowat > 1 && shim_audit_rx(fd, s, false) == 0) {
        int one = 1;
        (void)sys_setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
        s->rx_lowat = 1;
        shim_lock_put(&s->rx_lock);
    }
}

void
shim_confine_prepare(int id)
{
    if (shim_fdtab_may_write() && is_narrow(id)) {
        shim_confine_settle();
    }
}

void
shim_confine_settle(void)
{
    for (int fd = 0, end = shim_fdtab_limit(); fd < end; fd++) {
        if (shim_fd_kind(fd) == SHIM_FD_CONN) {
            prepare(fd);
        }
    }
}
