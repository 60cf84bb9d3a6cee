/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_stat: see stat.h.
 */
#include "shim/core/stat.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "shim/real.h"

static struct mesh_page unread;
struct mesh_page *_Atomic shim_page = &unread;
static _Atomic uint32_t conn_hint;

static void
add_pid(struct mesh_page *p)
{
    int32_t me = sys_getpid();
    for (unsigned i = 0; i < MESH_PAGE_PIDS; i++) {
        int32_t seen = atomic_load(&p->pids[i]);
        if (seen == me) {
            return;
        }
        bool unused = seen == 0 || sys_call(SYS_kill, seen, 0, 0, 0) == -3 /* ESRCH */;
        if (unused && atomic_compare_exchange_strong(&p->pids[i], &seen, me)) {
            return;
        }
    }
    atomic_store(&p->pids_full, 1);
}

void
shim_stat_page(struct mesh_page *page)
{
    add_pid(page);
    atomic_store(&shim_page, page);
}

void
shim_stat_forked(void)
{
    struct mesh_page *p = atomic_load(&shim_page);
    if (p != &unread) {
        add_pid(p);
    }
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
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

struct mesh_page_conn *
shim_stat_conn(const struct shim_slot *s)
{
    struct mesh_page *p = atomic_load_explicit(&shim_page, memory_order_acquire);
    uint32_t i = s->conn;
    if (i == 0 || i > MESH_PAGE_CONNS || p == &unread) {
        return NULL;
    }
    struct mesh_page_conn *c = &mesh_page_conns(p)[i - 1];
    return c->cookie == atomic_load(&s->cookie) ? c : NULL;
}

/* The next entry in turn that is free or closed: closed ones live as long as there is room. */
static struct mesh_page_conn *
conn_claim(struct mesh_page *p)
{
    struct mesh_page_conn *conns = mesh_page_conns(p);
    uint32_t start = atomic_fetch_add(&conn_hint, 1);
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

void
shim_stat_conn_new(struct shim_slot *s, bool plaintext)
{
    struct mesh_page *p = atomic_load(&shim_page);
    s->conn = 0;
    if (p == &unread) {
        return;
    }
    struct mesh_page_conn *c = conn_claim(p);
    if (!c) {
        atomic_fetch_add(&p->conns_full, 1);
        shim_stat_err(MESH_E_STATS_FULL);
        return;
    }
    bool server = shim_slot_has(s, SHIM_SF_SERVER);
    memset((char *)c + sizeof(c->state), 0, sizeof(*c) - sizeof(c->state));
    c->outbound = !server;
    c->plaintext = plaintext;
    memcpy(c->local_addr, s->local.ip, 16);
    memcpy(c->peer_addr, s->peer.ip, 16);
    c->local_port = s->local.port;
    c->peer_port = s->peer.port;
    c->pid = sys_getpid();
    c->cookie = atomic_load(&s->cookie);
    c->opened_ns = wall_ns();
    s->conn = (uint32_t)(c - mesh_page_conns(p)) + 1;
    atomic_store(&c->state, plaintext ? MESH_CONN_OPEN : MESH_CONN_HANDSHAKE);
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
shim_stat_conn_open(struct shim_slot *s, const char *peer_id, uint16_t cipher, uint64_t us)
{
    struct mesh_page *p = atomic_load(&shim_page);
    struct mesh_page_conn *c = shim_stat_conn(s);
    bucket_add(p->handshake_us, us);
    shim_stat_add(MESH_STAT_HS_OK, 1);
    shim_stat_add(MESH_STAT_ACTIVE, 1);
    shim_stat_add(shim_slot_has(s, SHIM_SF_SERVER) ? MESH_STAT_OPEN_IN : MESH_STAT_OPEN_OUT, 1);
    if (!c) {
        return;
    }
    c->cipher = cipher;
    c->handshake_us = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
    snprintf(c->peer_id, sizeof(c->peer_id), "%s", peer_id);
    const char *sa = strstr(peer_id, "/sa/");
    snprintf(c->peer_service, sizeof(c->peer_service), "%.*s", MESH_SERVICE_MAX - 1,
             sa ? sa + 4 : "");
    atomic_store(&c->state, MESH_CONN_OPEN);
}

void
shim_stat_conn_closed(struct shim_slot *s, enum mesh_err why)
{
    struct mesh_page_conn *c = shim_stat_conn(s);
    if (c) {
        c->closed_ns = wall_ns();
        c->reason = why;
        atomic_store(&c->state, MESH_CONN_CLOSED);
        s->conn = 0;
    }
}
