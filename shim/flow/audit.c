/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_audit: see audit.h.
 */
#include "shim/flow/audit.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>

#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/real.h"
#include "shim/tls/tls.h"

static bool
counts(int fd, uint64_t *acked, uint64_t *received)
{
    struct tcp_info t;
    socklen_t len = sizeof(t);
    memset(&t, 0, sizeof(t));
    if (sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &t, &len) != 0 ||
        len < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof(t.tcpi_bytes_received)) {
        return false;
    }
    *acked = t.tcpi_bytes_acked;
    *received = t.tcpi_bytes_received;
    return true;
}

/* Two questions about a thing that moves: asked until the first gets the same answer twice. */
static bool
measure(int fd, unsigned long request, bool sent, uint64_t *total)
{
    for (int i = 0; i < 100; i++) {
        uint64_t a[2], b[2];
        int queued = 0;
        if (!counts(fd, &a[0], &a[1]) || sys_call(SYS_ioctl, fd, request, &queued, 0) != 0 ||
            !counts(fd, &b[0], &b[1])) {
            return false;
        }
        if (a[!sent] == b[!sent]) {
            *total = sent ? a[0] + (uint64_t)queued : a[1] - (uint64_t)queued;
            return true;
        }
    }
    return false;
}

static void
give_up(int fd, struct shim_slot *s, const char *side)
{
    atomic_store(&s->err, MESH_E_HOLDER_DIED);
    atomic_fetch_or(&s->flags, SHIM_SF_RX_DEAD | SHIM_SF_TX_DEAD);
    shim_stat_err(MESH_E_HOLDER_DIED);
    shim_log_info("%s: %s", side, mesh_err_text(MESH_E_HOLDER_DIED));
    (void)sys_call(SYS_shutdown, fd, SHUT_RDWR, 0, 0);
}

/* In the kernel's hands nothing is half done; on the way there it may be, both ways. */
static bool
is_kernels(int fd, struct shim_slot *s)
{
    if (shim_slot_has(s, SHIM_SF_MOVING) && !shim_slot_has(s, SHIM_SF_TX_DEAD)) {
        give_up(fd, s, "hand-over");
    }
    return shim_slot_has(s, SHIM_SF_MOVING) || shim_slot_phase(s) == SHIM_PHASE_KERNEL;
}

static void
recover_rx(int fd, struct shim_slot *s)
{
    static const int none = -1;
    uint64_t consumed;
    if (is_kernels(fd, s)) {
        return;
    }
    (void)sys_setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &none, sizeof(none)); /* see count.c */
    atomic_store(&s->rx_offset, 0);
    s->ahead_raw = 0;
    if (!atomic_load(&s->rx_busy) || shim_slot_has(s, SHIM_SF_RX_DEAD | SHIM_SF_RX_EOF)) {
        return;
    }
    if (measure(fd, SIOCINQ, false, &consumed) && consumed == s->rx_begin) {
        s->rx_raw = s->rx_begin;
        shim_audit_rx_end(s);
    } else {
        give_up(fd, s, "receive");
    }
}

/* Where the tail in the spill is sent up to. */
static bool
recover_tail(struct shim_slot *s, uint64_t written)
{
    if (s->tx_spill == 0) {
        return written == s->tx_raw;
    }
    uint64_t sent = written - SHIM_ONCE(s->tx_spill_raw); /* far too much where it is negative */
    if (sent > SHIM_ONCE(s->tx_len)) {
        return false;
    }
    s->tx_off = (uint32_t)sent;
    s->tx_raw = written;
    return true;
}

static void
recover_tx(int fd, struct shim_slot *s)
{
    struct shim_key *key = (struct shim_key *)(void *)s->tx_key;
    uint32_t busy = atomic_load(&s->tx_busy), plan = atomic_load(&s->tx_plan);
    uint64_t written = 0;
    bool ok;
    if (is_kernels(fd, s) || shim_slot_has(s, SHIM_SF_TX_SHUT | SHIM_SF_TX_DEAD)) {
        return; /* nothing will follow */
    }
    ok = measure(fd, SIOCOUTQ, true, &written);
    written -= ok && !shim_slot_has(s, SHIM_SF_SERVER) ? 1 : 0;
    if (ok && busy && written == s->tx_begin) {
        key->seq = s->tx_seq; /* what was sealed never left */
    } else if (ok && busy == 1 && plan && written == s->tx_begin + plan) {
        s->tx_spill = 0; /* all of it left */
    } else if (busy || !ok) {
        ok = false;
    }
    if (ok && busy) {
        s->tx_raw = written;
        shim_audit_tx_end(s);
    } else if (ok) {
        ok = recover_tail(s, written);
    }
    if (!ok) {
        give_up(fd, s, "send");
    }
}

/* Who is stopped with a lock keeps it, and finds out when it goes on: its socket is shut down. Until then
 * nobody waits for it a second time. */
static inline __attribute__((always_inline)) int
lock(int fd, struct shim_slot *s, struct shim_lock *l, bool try,
     void (*recover)(int fd, struct shim_slot *s))
{
    bool lost = shim_slot_has(s, SHIM_SF_RX_DEAD) && shim_slot_has(s, SHIM_SF_TX_DEAD);
    switch (try || lost ? shim_lock_poll(l) : shim_lock_wait(l)) {
    case SHIM_LOCK_OK:
        return 0;
    case SHIM_LOCK_INHERITED:
        recover(fd, s);
        return 0;
    case SHIM_LOCK_STUCK:
        give_up(fd, s, "a stopped process");
        return -ECONNRESET;
    case SHIM_LOCK_BUSY:
        return lost && !try ? -ECONNRESET : -EAGAIN;
    case SHIM_LOCK_OWN:
        break;
    }
    return -EAGAIN;
}

__attribute__((hot)) int
shim_audit_rx(int fd, struct shim_slot *s, bool try)
{
    return lock(fd, s, &s->rx_lock, try, recover_rx);
}

__attribute__((hot)) int
shim_audit_tx(int fd, struct shim_slot *s, bool try)
{
    return lock(fd, s, &s->tx_lock, try, recover_tx);
}
