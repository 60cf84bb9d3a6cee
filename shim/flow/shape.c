/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_shape: see shape.h.
 */
#include "shim/flow/shape.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include "shim/core/stat.h"
#include "shim/flow/limit.h"
#include "shim/flow/retry.h"
#include "shim/flow/rx.h"
#include "shim/flow/rx_int.h"
#include "shim/flow/work.h"
#include "shim/real.h"

#define SECOND   UINT64_C(1000000000)
#define PORTION  UINT64_C(100000000) /* slow_read: what comes in in this time is handed out together */
#define RATE_MAX (UINT64_C(1) << 32)

void
shim_shape_begin(struct shim_slot *s, const struct shim_faults *f)
{
    if (f->stream == MESH_FAULT_NONE) {
        return;
    }
    s->fault = f->stream;
    atomic_store(&s->fault_bytes, f->bytes);
    s->fault_at = 0;
    atomic_fetch_or(&s->flags, SHIM_SF_SHAPED);
    if (f->stream != MESH_FAULT_RESET) {
        shim_stat_add(f->stream == MESH_FAULT_SLOW_READ ? MESH_STAT_FAULT_SLOW : MESH_STAT_FAULT_SHORT, 1);
    }
}

/* ---- reset ---- */

/* Dissolving sends the RST, and leaves ECONNRESET in the kernel for SO_ERROR and poll; shut down it is to
 * poll what a reset socket is. */
static void
reset(int fd, struct shim_slot *s)
{
    static const struct sockaddr none = {.sa_family = AF_UNSPEC};
    uint32_t open = SHIM_PHASE_OPEN;
    atomic_store(&s->err, MESH_E_FAULT_RESET);
    atomic_store(&s->fail_errno, ECONNRESET);
    if (!atomic_compare_exchange_strong(&s->phase, &open, SHIM_PHASE_FAILED)) {
        return;
    }
    shim_stat_err(MESH_E_FAULT_RESET);
    shim_stat_add(MESH_STAT_CLOSED, 1);
    shim_stat_add(MESH_STAT_ACTIVE, (uint64_t)-1);
    shim_stat_conn_closed(s, MESH_E_FAULT_RESET);
    shim_retry_leave(s);
    shim_limit_leave(s);
    (void)sys_call(SYS_connect, fd, &none, sizeof(none), 0);
    (void)sys_call(SYS_shutdown, fd, SHUT_RDWR, 0, 0);
}

/* n bytes more have passed, in whichever direction. */
static void
pass(int fd, struct shim_slot *s, size_t n)
{
    uint64_t left = atomic_load(&s->fault_bytes);
    while (!atomic_compare_exchange_weak(&s->fault_bytes, &left, left > n ? left - n : 0)) {
    }
    if (left <= n && shim_slot_phase(s) == SHIM_PHASE_OPEN) {
        reset(fd, s);
    }
}

bool
shim_shape_opened(int fd, struct shim_slot *s)
{
    if (s->fault == MESH_FAULT_RESET && atomic_load(&s->fault_bytes) == 0) {
        reset(fd, s);
        return true;
    }
    return false;
}

/* ---- slow_read ---- */

static uint64_t
rate_of(struct shim_slot *s)
{
    uint64_t rate = atomic_load(&s->fault_bytes);
    return rate < 1 ? 1 : rate < RATE_MAX ? rate : RATE_MAX;
}

/* How long a portion takes to come in, one byte at least. */
static uint64_t
portion(uint64_t rate)
{
    return rate * PORTION >= SECOND ? PORTION : SECOND / rate;
}

/* What may be handed out now. `fault_at` is the time up to which everything has been. */
static uint64_t
portion_now(struct shim_slot *s, uint64_t rate)
{
    uint64_t now = shim_now(), most = portion(rate);
    if (s->fault_at > now || now - s->fault_at > most) {
        s->fault_at = now - most;
    }
    return (now - s->fault_at) * rate / SECOND;
}

static bool
is_peer_gone(int fd)
{
    struct pollfd p = {fd, POLLRDHUP, 0};
    return sys_poll(&p, 1, 0) > 0;
}

/* Not readable until the next portion has come in. To the kernel a socket whose window has shrunk below a segment
 * is readable, whatever SO_RCVLOWAT says: an acknowledgement opens it, there is room now. */
static void
hold_back(int fd, struct shim_slot *s, uint64_t rate)
{
    static const int most = INT_MAX, on = 1;
    shim_work_wake(s);
    if (!shim_work_enter()) {
        return; /* in a handler above the lock's holder: it is asked again */
    }
    struct shim_work *w = shim_work_of(s);
    w = w ? w : shim_work_new(s, fd);
    if (w && !w->wake_at) {
        w->wake_at = s->fault_at + portion(rate);
    }
    if (w && s->rx_lowat != (uint32_t)most) { /* also when a byte or two came due meanwhile, and were taken */
        s->rx_lowat = (uint32_t)most;
        (void)sys_setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &most, sizeof(most));
    }
    shim_work_leave();
    (void)sys_setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

bool
shim_shape_wake(int fd, struct shim_slot *s)
{
    if (shim_lock_poll(&s->rx_lock) > SHIM_LOCK_INHERITED) {
        return false;
    }
    shim_rx_set_lowat(fd, s);
    shim_lock_put(&s->rx_lock);
    return true;
}

void
shim_shape_share(struct shim_work *w)
{
    struct shim_slot *s = shim_slot_at(w->slot);
    if (w->wake_at && atomic_load(&s->cookie) == w->cookie && shim_shape_wake(w->fd, s)) {
        w->wake_at = 0;
    }
}

void
shim_shape_leave(const struct shim_slot *s)
{
    if (!shim_slot_has(s, SHIM_SF_SHAPED) || !shim_work_enter()) {
        return;
    }
    struct shim_work *w = shim_work_of(s);
    if (w) {
        shim_shape_share(w);
    }
    shim_work_leave();
}

/* ---- both ---- */

static uint64_t
reading_room(int fd, struct shim_slot *s)
{
    if (s->fault == MESH_FAULT_RESET) {
        return atomic_load(&s->fault_bytes);
    }
    if (s->fault != MESH_FAULT_SLOW_READ) {
        return UINT64_MAX;
    }
    uint64_t n = portion_now(s, rate_of(s));
    return n == 0 && is_peer_gone(fd) ? UINT64_MAX : n;
}

ssize_t
shim_shape_read(int fd, struct shim_slot *s, struct shim_iov *room)
{
    uint64_t most = reading_room(fd, s), rate = rate_of(s);
    bool slow = s->fault == MESH_FAULT_SLOW_READ && most < UINT64_MAX;
    size_t cut = most < room->left ? room->left - (size_t)most : 0;
    ssize_t r = -EAGAIN;
    room->left -= cut;
    if (room->left > 0) {
        s->shaping = 1;
        r = shim_rx_take(fd, s, room);
        s->shaping = 0;
    }
    room->left += cut;
    if (r > 0 && s->fault == MESH_FAULT_RESET) {
        pass(fd, s, (size_t)r);
    }
    if (slow) {
        s->fault_at += r > 0 ? (uint64_t)r * SECOND / rate : 0;
        if (most == 0 || (r > 0 && (uint64_t)r == most)) {
            hold_back(fd, s, rate);
        }
    }
    return r;
}

size_t
shim_shape_room(const struct shim_slot *s)
{
    uint64_t n = atomic_load(&s->fault_bytes);
    if (s->fault == MESH_FAULT_SLOW_READ) {
        return SIZE_MAX;
    }
    return s->fault == MESH_FAULT_SHORT_WRITE && n == 0 ? 1 : (size_t)n;
}

void
shim_shape_wrote(int fd, struct shim_slot *s, size_t n)
{
    if (n > 0 && s->fault == MESH_FAULT_RESET) {
        pass(fd, s, n);
    }
}

/* Setting TCP_NOTSENT_LOWAT to what it is changes nothing but that the kernel tells those who wait that
 * there is room: to an edge-triggered program a short write means that there was none. */
bool
shim_shape_cuts(int fd, const struct shim_slot *s)
{
    int val = 0;
    socklen_t len = sizeof(val);
    if (s->fault != MESH_FAULT_SHORT_WRITE) {
        return shim_slot_phase(s) == SHIM_PHASE_FAILED; /* the next call says it */
    }
    if (sys_getsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &val, &len) == 0) {
        (void)sys_setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &val, sizeof(val));
    }
    return true;
}
