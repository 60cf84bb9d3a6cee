/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_stat: see stat.h.
 */
#include "shim/core/stat.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "shim/core/edge.h"
#include "shim/real.h"

static struct mesh_page unread;
struct mesh_page *_Atomic shim_page = &unread;
static _Atomic uint32_t place = MESH_PAGE_PIDS; /* ours in the page's table of processes */
static _Atomic uint32_t forks;
static _Atomic uint64_t let_go; /* as on the page: a child does not hold what its parent let go of */

#define PROBES 4u /* enough that few places are taken for ever by processes that are gone */

/* The first place of a process on the page; of 0: that nobody ever had. */
static uint32_t
place_of(const struct mesh_page *p, int32_t pid)
{
    uint32_t i = 0;
    while (i < MESH_PAGE_PIDS && atomic_load(&p->pids[i]) != pid) {
        i++;
    }
    return i;
}

/* Processes do not leave the page: a place is free again when the kernel knows its process no more. While there are
 * new ones only a few are asked for, beginning somewhere else for each process; a page of hundreds that all live
 * would be hundreds of system calls for each fork. */
static uint32_t
take_place(struct mesh_page *p, int32_t me)
{
    uint32_t used = place_of(p, 0), probes = used < MESH_PAGE_PIDS ? PROBES : used;
    for (uint32_t turn = 0; used > 0 && turn < probes; turn++) {
        uint32_t i = ((uint32_t)me + turn) % used;
        int32_t seen = atomic_load(&p->pids[i]);
        bool gone = sys_call(SYS_kill, seen, 0, 0, 0) == -3 /* ESRCH */;
        if (gone && atomic_compare_exchange_strong(&p->pids[i], &seen, me)) {
            return i;
        }
    }
    for (uint32_t i = used; i < MESH_PAGE_PIDS; i++) {
        int32_t none = 0;
        if (atomic_compare_exchange_strong(&p->pids[i], &none, me)) {
            return i;
        }
    }
    return used < MESH_PAGE_PIDS ? take_place(p, me) : MESH_PAGE_PIDS; /* others had the last new ones */
}

/* An image that was executed holds of its listeners what the page says, or less; a process that begins by fork
 * what its parent holds. */
static void
add_pid(struct mesh_page *p, bool forked)
{
    int32_t me = sys_getpid();
    uint32_t i = place_of(p, me);
    bool earlier = i < MESH_PAGE_PIDS;
    i = earlier ? i : take_place(p, me);
    if (i < MESH_PAGE_PIDS) {
        atomic_store(&p->deciding[i], 0); /* of one that was killed, or of threads that ended in exec */
        if (forked || !earlier) {
            atomic_store(&p->left[i], atomic_load(&let_go));
        }
    } else {
        atomic_store(&p->pids_full, 1);
    }
    atomic_store(&place, i);
}

void
shim_stat_page(struct mesh_page *page)
{
    add_pid(page, false);
    atomic_store(&shim_page, page);
}

void
shim_stat_forked(void)
{
    struct mesh_page *p = atomic_load(&shim_page);
    atomic_fetch_add(&forks, 1);
    if (p != &unread) {
        add_pid(p, true);
    }
}

static bool
holds(const struct mesh_page *p, int32_t pid, uint64_t bit)
{
    uint32_t i = place_of(p, pid);
    return i < MESH_PAGE_PIDS && !(atomic_load(&p->left[i]) & bit) &&
           sys_call(SYS_kill, pid, 0, 0, 0) != -3 /* ESRCH */;
}

bool
shim_stat_let_go(uint64_t cookie, int32_t maker)
{
    struct mesh_page *p = atomic_load(&shim_page);
    uint32_t me = atomic_load(&place);
    uint64_t bit = MESH_PAGE_LISTENER(cookie);
    atomic_fetch_or(&let_go, bit);
    if (p == &unread || me >= MESH_PAGE_PIDS) {
        return false;
    }
    atomic_fetch_or(&p->left[me], bit);
    return maker != sys_getpid() && holds(p, maker, bit);
}

void
shim_stat_holds(uint64_t cookie)
{
    struct mesh_page *p = atomic_load(&shim_page);
    uint32_t me = atomic_load(&place);
    atomic_fetch_and(&let_go, ~MESH_PAGE_LISTENER(cookie));
    if (me < MESH_PAGE_PIDS) {
        atomic_fetch_and(&p->left[me], ~MESH_PAGE_LISTENER(cookie));
    }
}

struct shim_deciding
shim_stat_decide(void)
{
    uint64_t mask = shim_signals_hold();
    struct mesh_page *p = atomic_load(&shim_page);
    struct shim_deciding d = {&p->deciding[atomic_load(&place)], mask, atomic_load(&forks)};
    atomic_fetch_add(d.count, 1);
    atomic_thread_fence(memory_order_seq_cst);
    return d;
}

void
shim_stat_decided(struct shim_deciding d)
{
    if (d.forks == atomic_load(&forks)) {
        atomic_fetch_sub(d.count, 1);
    }
    shim_signals_release(d.mask);
}

void
shim_stat_err(enum mesh_err e)
{
    struct mesh_page *p = atomic_load(&shim_page);
    if ((unsigned)e < MESH_ERR_COUNT && e != MESH_OK) {
        atomic_fetch_add_explicit(&p->err[e], 1, memory_order_relaxed);
    }
}

static uint64_t
wall_ns(void)
{
    struct timespec ts;
    (void)shim_real_clock(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

__attribute__((hot)) struct mesh_page_conn *
shim_stat_conn(const struct shim_slot *s)
{
    struct mesh_page *p = atomic_load_explicit(&shim_page, memory_order_acquire);
    uint32_t i = SHIM_ONCE(s->conn);
    if (i == 0 || i > MESH_PAGE_CONNS || p == &unread) {
        return NULL;
    }
    struct mesh_page_conn *c = &mesh_page_conns(p)[i - 1];
    return c->cookie == atomic_load(&s->cookie) ? c : NULL;
}

/* The next entry in turn, of all processes of the page, that is free or closed: closed ones live as long
 * as there is room, the oldest goes first. */
static struct mesh_page_conn *
conn_claim(struct mesh_page *p)
{
    struct mesh_page_conn *conns = mesh_page_conns(p);
    uint32_t start = atomic_fetch_add_explicit(&p->turn, 1, memory_order_relaxed);
    for (uint32_t i = 0; i < MESH_PAGE_CONNS; i++) {
        struct mesh_page_conn *c = &conns[(start + i) % MESH_PAGE_CONNS];
        uint32_t seen = atomic_load_explicit(&c->state, memory_order_relaxed);
        if ((seen == MESH_CONN_FREE || seen == MESH_CONN_CLOSED) &&
            atomic_compare_exchange_strong(&c->state, &seen, MESH_CONN_CLAIMED)) {
            return c;
        }
    }
    return NULL;
}

/* An entry for a connection that begins; NULL, and counted, when there is none. */
static struct mesh_page_conn *
entry_new(struct mesh_page *p, const char *service, unsigned attempts)
{
    struct mesh_page_conn *c = conn_claim(p);
    if (!c) {
        atomic_fetch_add(&p->conns_full, 1);
        shim_stat_err(MESH_E_STATS_FULL);
        return NULL;
    }
    memset((char *)c + sizeof(c->state), 0, sizeof(*c) - sizeof(c->state));
    for (size_t i = 0; i < sizeof(c->service) - 1 && service[i]; i++) {
        c->service[i] = service[i];
    }
    c->attempts = (uint16_t)attempts;
    c->pid = sys_getpid();
    c->opened_ns = wall_ns();
    c->mark = p->mark;
    return c;
}

void
shim_stat_conn_new(struct shim_slot *s, const char *service, unsigned attempts)
{
    struct mesh_page *p = atomic_load(&shim_page);
    s->conn = 0;
    struct mesh_page_conn *c = p == &unread ? NULL : entry_new(p, service, attempts);
    if (!c) {
        return;
    }
    bool routed = shim_slot_has(s, SHIM_SF_ROUTED);
    const struct mesh_addr *asked = routed ? &s->asked : &s->peer;
    c->outbound = !shim_slot_has(s, SHIM_SF_SERVER);
    memcpy(c->local_addr, s->local.ip, 16);
    memcpy(c->peer_addr, s->peer.ip, 16);
    memcpy(c->asked_addr, asked->ip, 16);
    c->local_port = s->local.port;
    c->peer_port = s->peer.port;
    c->asked_port = asked->port;
    c->how = routed ? MESH_HOW_ROUTED : 0;
    c->endpoint = atomic_load(&s->endpoint);
    c->cookie = atomic_load(&s->cookie);
    if (attempts > 1) {
        c->opened_ns -= shim_now() - s->opened_ns; /* the connection began with the first one */
    }
    s->conn = (uint32_t)(c - mesh_page_conns(p)) + 1;
    atomic_store(&c->state, MESH_CONN_HANDSHAKE);
}

void
shim_stat_conn_local(const struct shim_slot *s)
{
    struct mesh_page_conn *c = shim_stat_conn(s);
    if (c) {
        memcpy(c->local_addr, s->local.ip, 16);
        atomic_thread_fence(memory_order_release); /* while the port is 0 the address counts for nothing */
        c->local_port = s->local.port;
    }
}

void
shim_stat_conn_asked(const struct shim_slot *s, uint64_t service, uint64_t route)
{
    struct mesh_page_conn *c = shim_stat_conn(s);
    if (c) {
        c->asked_service = service;
        c->route = route;
    }
}

static void
bucket_add(_Atomic uint64_t *buckets, uint64_t us)
{
    unsigned b = 0;
    while (b < MESH_PAGE_BUCKETS - 1 && us >= UINT64_C(1) << b) {
        b++;
    }
    atomic_fetch_add_explicit(&buckets[b], 1, memory_order_relaxed);
}

void
shim_stat_conn_peer(const struct shim_slot *s, const char *peer_id, uint16_t cipher)
{
    struct mesh_page_conn *c = shim_stat_conn(s);
    if (c) {
        c->cipher = cipher;
        snprintf(c->peer_id, sizeof(c->peer_id), "%s", peer_id);
    }
}

void
shim_stat_conn_open(struct shim_slot *s, const char *peer_id, uint16_t cipher, uint64_t us)
{
    struct mesh_page *p = atomic_load(&shim_page);
    struct mesh_page_conn *c = shim_stat_conn(s);
    bucket_add(p->handshake_us, us);
    shim_stat_add(MESH_STAT_HS_OK, 1);
    shim_stat_add(MESH_STAT_ACTIVE, 1);
    shim_stat_add(shim_slot_has(s, SHIM_SF_SERVER) ? MESH_STAT_OPEN_IN : MESH_STAT_OPEN_OUT, 1);
    if (!c) {
        if (p != &unread) {
            shim_edge_unlisted(p, !shim_slot_has(s, SHIM_SF_SERVER), true);
        }
        return;
    }
    shim_stat_conn_peer(s, peer_id, cipher);
    c->handshake_us = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
    c->how |= MESH_HOW_OPENED;
    shim_edge_opened(p, c);
    atomic_store(&c->state, MESH_CONN_OPEN);
}

void
shim_stat_connected(const struct shim_slot *s)
{
    struct mesh_page *p = atomic_load(&shim_page);
    struct mesh_page_conn *c = shim_stat_conn(s);
    uint64_t us = (shim_now() - s->opened_ns) / 1000;
    bucket_add(p->connect_us, us);
    if (c) {
        shim_edge_connected(p, c, us);
    }
}

void
shim_stat_conn_note(const struct shim_slot *s, uint32_t how, int no)
{
    struct mesh_page_conn *c = shim_stat_conn(s);
    if (c) {
        c->os_errno = no > 0 && no < 4096 ? (uint16_t)no : c->os_errno;
        atomic_fetch_or_explicit(&c->how, how, memory_order_relaxed);
    }
}

void
shim_stat_conn_broke(const struct shim_slot *s, long r)
{
    if (r < 0 && r != -EAGAIN && r != -EINTR) {
        shim_stat_conn_note(s, r == -ECONNRESET ? MESH_HOW_RESET : 0, (int)-r);
    }
}

static void
entry_close(struct mesh_page *p, struct mesh_page_conn *c, enum mesh_err why)
{
    bool retried = c->how & MESH_HOW_RETRIED;
    c->closed_ns = wall_ns();
    c->reason = why;
    shim_edge_ended(p, c);
    if (!retried) {
        shim_edge_number(p, c);
    }
    uint64_t number = c->number;
    atomic_store(&c->state, MESH_CONN_CLOSED);
    if (!retried) { /* the entry may be another's by now */
        shim_edge_publish(p, (uint64_t)(c - mesh_page_conns(p)), number);
    }
}

void
shim_stat_conn_plain(struct shim_slot *s)
{
    struct mesh_page_conn *c = shim_stat_conn(s);
    if (c) {
        c->plaintext = 1;
        c->how |= MESH_HOW_OPENED;
        shim_edge_opened(atomic_load(&shim_page), c);
        shim_stat_conn_closed(s, MESH_OK);
    }
}

void
shim_stat_conn_closed(struct shim_slot *s, enum mesh_err why)
{
    struct mesh_page *p = atomic_load(&shim_page);
    struct mesh_page_conn *c = shim_stat_conn(s);
    enum shim_phase phase = shim_slot_phase(s);
    if (c) {
        c->how |= shim_slot_has(s, SHIM_SF_RX_EOF) ? MESH_HOW_PEER_END : 0;
        c->how |= shim_slot_has(s, SHIM_SF_ABORT) ? MESH_HOW_ABORTED : 0;
        entry_close(p, c, why);
        s->conn = 0;
    } else if (p != &unread && (phase == SHIM_PHASE_OPEN || phase == SHIM_PHASE_KERNEL)) {
        shim_edge_unlisted(p, !shim_slot_has(s, SHIM_SF_SERVER), false);
    }
}

void
shim_stat_refused(const struct mesh_addr *to, const char *service, enum mesh_err why)
{
    struct mesh_page *p = atomic_load(&shim_page);
    struct mesh_page_conn *c = p == &unread ? NULL : entry_new(p, service, 0);
    if (c) {
        c->outbound = 1;
        memcpy(c->asked_addr, to->ip, 16);
        c->asked_port = to->port;
        entry_close(p, c, why);
    }
}

void
shim_stat_conn_carried(struct shim_slot *s, const struct mesh_page_conn *from)
{
    struct mesh_page *p = atomic_load(&shim_page);
    uint64_t cookie = atomic_load(&s->cookie);
    if (p == &unread || shim_stat_conn(s)) {
        return;
    }
    shim_stat_add(MESH_STAT_ACTIVE, 1);
    struct mesh_page_conn *c = from->cookie == cookie ? conn_claim(p) : NULL;
    if (!c) {
        atomic_fetch_add(&p->conns_full, 1);
        shim_stat_err(MESH_E_STATS_FULL);
        return;
    }
    memcpy((char *)c + sizeof(c->state), (const char *)from + sizeof(from->state),
           sizeof(*c) - sizeof(c->state));
    atomic_store(&c->tx_bytes, 0); /* they stay with who carried them */
    atomic_store(&c->rx_bytes, 0);
    c->how &= ~(uint32_t)MESH_HOW_MOVED;
    c->number = 0;
    c->pid = sys_getpid();
    c->edge = shim_edge_find(p, c);
    s->conn = (uint32_t)(c - mesh_page_conns(p)) + 1;
    atomic_store(&c->state, MESH_CONN_OPEN);
}

/* Our list's part in a connection that another image or process lists now. */
static void
leave_entry(struct mesh_page_conn *c)
{
    uint32_t open = MESH_CONN_OPEN;
    struct mesh_page *p = atomic_load(&shim_page);
    uint16_t edge = c->edge;
    uint64_t tx = c->tx_bytes, rx = c->rx_bytes;
    c->closed_ns = wall_ns();
    c->how |= MESH_HOW_MOVED;
    if (atomic_compare_exchange_strong(&c->state, &open, MESH_CONN_CLOSED)) {
        shim_edge_moved(p, edge, tx, rx);
        shim_stat_add(MESH_STAT_ACTIVE, (uint64_t)-1);
    }
}

void
shim_stat_conn_moved(struct shim_slot *s)
{
    struct mesh_page_conn *c = shim_stat_conn(s);
    if (c) {
        s->conn = 0;
        leave_entry(c);
    }
}

void
shim_stat_conn_left(const struct shim_slot *s)
{
    struct mesh_page *p = atomic_load(&shim_page);
    if (s->conn == 0 || p == &unread || shim_stat_conn(s)) {
        return;
    }
    for (uint32_t i = 0; i < MESH_PAGE_CONNS; i++) {
        struct mesh_page_conn *c = &mesh_page_conns(p)[i];
        if (c->cookie == atomic_load(&s->cookie) && atomic_load(&c->state) == MESH_CONN_OPEN) {
            leave_entry(c);
            return;
        }
    }
}
