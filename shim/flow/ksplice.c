/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_ksplice: see ksplice.h.
 *
 * The kernel must never be told that more is to come (SPLICE_F_MORE): TCP sends such bytes after a moment
 * all the same, while its TLS would hold the record back until the next call.
 */
#include "shim/flow/ksplice.h"

#include <errno.h>
#include <fcntl.h>

#include "shim/core/fdtab.h"
#include "shim/flow/audit.h"
#include "shim/flow/conn.h"
#include "shim/flow/ktls.h"
#include "shim/flow/rx.h"
#include "shim/flow/tx.h"
#include "shim/real.h"

static struct shim_slot *
slot_in_kernel(int fd)
{
    struct shim_slot *s = shim_fd_is_mesh(fd) ? shim_conn_slot(fd) : NULL;
    return s && shim_slot_phase(s) == SHIM_PHASE_KERNEL ? s : NULL;
}

bool
shim_ksplice_may(int fd)
{
    struct shim_slot *s = slot_in_kernel(fd);
    return s && !shim_slot_has(s, SHIM_SF_TX_SHUT | SHIM_SF_TX_DEAD | SHIM_SF_FIN_DUE | SHIM_SF_KU_DUE);
}

ssize_t
shim_ksplice_sendfile(int fd, int in, off_t *off, size_t n)
{
    struct shim_slot *s = slot_in_kernel(fd);
    ssize_t r = shim_real.sendfile(fd, in, off, n);
    if (r > 0 && s) {
        shim_tx_count(s, (size_t)r);
    }
    return r < 0 ? -errno : r;
}

/* The kernel splices data only. True when it was something else that stood in the way. */
static bool
take_control(int fd, struct shim_slot *s)
{
    char b;
    if (sys_recv(fd, &b, 1, MSG_PEEK | MSG_DONTWAIT) != -EIO || shim_audit_rx(fd, s, false) != 0) {
        return false;
    }
    (void)shim_ktls_drain_control(fd, s);
    shim_lock_put(&s->rx_lock);
    return true;
}

ssize_t
shim_ksplice(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags)
{
    struct shim_slot *from = slot_in_kernel(in), *to = slot_in_kernel(out);
    if ((!from && !to) || (shim_fd_is_mesh(in) && !from) || (shim_fd_is_mesh(out) && (!to || !shim_ksplice_may(out)))) {
        return SHIM_PASS;
    }
    for (;;) {
        if (from && shim_slot_has(from, SHIM_SF_RX_EOF | SHIM_SF_RX_DEAD)) {
            return shim_slot_has(from, SHIM_SF_RX_EOF) ? 0 : -mesh_err_errno((enum mesh_err)from->err);
        }
        ssize_t r = shim_real.splice(in, in_off, out, out_off, n,
                                     flags & ~(to ? (unsigned)SPLICE_F_MORE : 0));
        if (r < 0 && errno == EINVAL && from && take_control(in, from)) {
            continue;
        }
        if (r > 0 && to) {
            shim_tx_count(to, (size_t)r);
        }
        if (r > 0 && from) {
            shim_rx_count(from, (size_t)r);
        }
        if (r < 0 && from && (errno == EBADMSG || errno == EMSGSIZE)) {
            return shim_ktls_failed(in, from, -errno);
        }
        return r < 0 ? -errno : r;
    }
}
