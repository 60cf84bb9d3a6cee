/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_age: see age.h.
 */
#include "shim/flow/age.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>

#include "shim/core/fdtab.h"
#include "shim/core/log.h"
#include "shim/core/rand.h"
#include "shim/core/stat.h"
#include "shim/flow/audit.h"
#include "shim/flow/tx.h"
#include "shim/flow/work.h"
#include "shim/real.h"

#define MS    UINT64_C(1000000)
#define AGAIN (50 * MS) /* somebody sends just now, or there is no room for the end */
#define TRIES 20u

struct aged {
    uint64_t at, age_at; /* to be looked at; its end whatever it does */
    uint32_t idle_ms;    /* 0: no matter */
    uint32_t word;       /* of the descriptor table */
    int fd;
    uint32_t tries;
};
static struct aged table[SHIM_SLOTS]; /* untouched pages cost nothing */
static _Atomic uint32_t count, closed; /* closed: descriptors of connections, since all was looked through */
static _Atomic uint64_t next = SHIM_NEVER;

uint64_t
shim_age_next(void)
{
    return atomic_load_explicit(&next, memory_order_relaxed);
}

/* A tenth more or less: what began together does not end together. */
static uint64_t
jittered(uint32_t ms)
{
    return ms * MS - ms * MS / 10 + shim_rand_below(2001) * (ms * MS / 10000);
}

/* NULL: this process has no descriptor of it any more. The program may have given it another number. */
static struct shim_slot *
slot_of(struct aged *a)
{
    struct shim_slot *s = a->word ? shim_slot_current(SHIM_FD_INDEX(a->word)) : NULL;
    if (s && shim_fd_word(a->fd) != a->word) {
        a->fd = shim_fdtab_other(a->word, -1);
    }
    return s && a->fd >= 0 ? s : NULL;
}

static void
leave(uint32_t i)
{
    table[i] = table[--count];
    if (count == 0) {
        next = SHIM_NEVER;
        atomic_fetch_sub(&shim_work_count, SHIM_WORK_AGED);
    }
}

/* Of those that were closed there are never more than of the others. */
void
shim_age_closed(void)
{
    uint32_t n = atomic_load(&count);
    if (n == 0 || 2 * (atomic_fetch_add(&closed, 1) + 1) < n || !shim_work_enter()) {
        return;
    }
    atomic_store(&closed, 0);
    for (uint32_t i = 0; i < count;) {
        if (slot_of(&table[i])) {
            i++;
        } else {
            leave(i);
        }
    }
    shim_work_leave();
}

void
shim_age_open(int fd, const struct shim_slot *s, const struct mesh_snap_limits *l)
{
    uint64_t now = shim_now();
    if ((l->idle_timeout_ms == 0 && l->max_age_ms == 0) || count == SHIM_SLOTS) {
        return;
    }
    struct aged a = {
        .age_at = l->max_age_ms ? now + jittered(l->max_age_ms) : SHIM_NEVER,
        .idle_ms = l->idle_timeout_ms,
        .word = SHIM_FD_WORD(SHIM_FD_CONN, shim_slot_handle(s)),
        .fd = fd,
    };
    a.at = l->idle_timeout_ms ? now + l->idle_timeout_ms * MS : SHIM_NEVER;
    a.at = a.age_at < a.at ? a.age_at : a.at;
    next = a.at < next ? a.at : next;
    table[count++] = a;
    if (count == 1) {
        atomic_fetch_add(&shim_work_count, SHIM_WORK_AGED);
    }
}

/* How long no byte has come or gone; 0: it cannot be told. */
static uint64_t
idle_ns(int fd)
{
    struct tcp_info t;
    socklen_t len = sizeof(t);
    memset(&t, 0, sizeof(t));
    if (sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &t, &len) != 0) {
        return 0;
    }
    uint32_t ms = t.tcpi_last_data_sent < t.tcpi_last_data_recv ? t.tcpi_last_data_sent : t.tcpi_last_data_recv;
    return ms * MS;
}

static void
end(struct aged *a, struct shim_slot *s, enum mesh_err why)
{
    char peer[MESH_ADDR_TEXT];
    bool mine = shim_audit_tx(a->fd, s, true) == 0;
    int r = mine ? shim_tx_close_notify(a->fd, s) : -1;
    if (mine) {
        shim_lock_put(&s->tx_lock);
    }
    if (r != 0 && a->tries++ < TRIES) {
        a->at = shim_now() + AGAIN;
        return;
    }
    atomic_store(&s->err, why);
    atomic_fetch_or(&s->flags, SHIM_SF_RX_SHUT | SHIM_SF_TX_DEAD);
    atomic_fetch_and(&s->flags, ~(uint32_t)SHIM_SF_TX_SHUT); /* which would say that the program did it */
    shim_stat_err(why);
    shim_log_info("%s: %s", mesh_addr_text(&s->peer, peer), mesh_err_text(why));
    (void)sys_call(SYS_shutdown, a->fd, SHUT_RDWR, 0, 0);
    a->word = 0;
}

/* False: it is none of ours any more. */
static bool
look_at(struct aged *a, uint64_t now)
{
    struct shim_slot *s = slot_of(a);
    if (!s || shim_slot_phase(s) != SHIM_PHASE_OPEN || shim_slot_has(s, SHIM_SF_TX_DEAD)) {
        return false;
    }
    if (now < a->at) {
        return true;
    }
    uint64_t limit = a->idle_ms * MS, idle = a->idle_ms ? idle_ns(a->fd) : 0;
    if (now >= a->age_at) {
        end(a, s, MESH_E_MAX_AGE);
    } else if (limit && idle >= limit) {
        end(a, s, MESH_E_IDLE);
    } else {
        a->at = limit ? now + limit - idle : SHIM_NEVER;
        a->at = a->age_at < a->at ? a->age_at : a->at;
    }
    return a->word != 0;
}

void
shim_age_drive(void)
{
    uint64_t now = shim_now();
    if (now < next) {
        return;
    }
    next = SHIM_NEVER;
    for (uint32_t i = 0; i < count;) {
        if (look_at(&table[i], now)) {
            next = table[i].at < next ? table[i].at : next;
            i++;
        } else {
            leave(i);
        }
    }
}
