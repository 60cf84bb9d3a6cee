/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_stats: what is asked of the pages, see stats.h.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "meshd/base/peer.h"
#include "meshd/stats/origin.h"
#include "meshd/stats/page.h"
#include "meshd/stats/stats.h"
#include "meshd/stats/stats_int.h"
#include "meshd/stats/totals.h"

/* Does the process use this page, by its own word? A process that lets another one of its user in
 * here could as well give it its key. */
static bool
lists(const struct meshd_stats_entry *e, pid_t pid)
{
    struct meshd_page_head h;
    meshd_page_read(e->info.page_id, &h);
    for (unsigned i = 0; i < MESH_PAGE_PIDS; i++) {
        if (h.pids[i] == pid) {
            return true;
        }
    }
    return false;
}

/* In this order: its own page; the one of `root`, from which it was forked, and may have changed its user
 * since; one that it has otherwise from a process of its user. */
static bool
is_tree(const struct meshd_stats_entry *e, const struct meshd_peer *peer, pid_t root, uid_t uid, unsigned pass)
{
    const bool fits[] = {e->info.pid == peer->pid && e->info.starttime == peer->starttime &&
                             e->info.uid == uid,
                         e->info.pid == root && e->info.uid == uid,
                         e->info.uid == uid && peer->uid == uid};
    return !e->folded && fits[pass] && lists(e, peer->pid);
}

bool
meshd_stats_visit_tree(const struct meshd_peer *peer, pid_t root, uid_t uid, meshd_pid_visit *visit,
                       void *arg)
{
    struct meshd_page_head h;
    const struct meshd_stats_entry *found = NULL;
    for (unsigned pass = 0; !found && pass < 3; pass++) {
        for (found = meshd_stats_entries; found && !is_tree(found, peer, root, uid, pass); found = found->hh.next) {
        }
    }
    if (!found) {
        return false;
    }
    meshd_page_read(found->info.page_id, &h);
    for (unsigned i = 0; !h.pids_full && i < MESH_PAGE_PIDS; i++) {
        bool alive = h.pids[i] > 0 && (kill(h.pids[i], 0) == 0 || errno == EPERM);
        if (alive && h.pids[i] != peer->pid && visit(h.pids[i], h.left[i], arg) != 0) {
            break;
        }
    }
    return !h.pids_full;
}

void
meshd_stats_wish(const struct meshd_peer *peer, char *out)
{
    const struct meshd_stats_entry *found = NULL;
    for (const struct meshd_stats_entry *e = meshd_stats_entries; e; e = e->hh.next) {
        if (e->folded || e->info.uid != peer->uid) {
            continue;
        }
        if (e->info.pid == peer->pid && e->info.starttime == peer->starttime) {
            found = e;
            break;
        }
        if (!found && lists(e, peer->pid)) {
            found = e; /* a child of the process that attached */
        }
    }
    memset(out, 0, MESH_SERVICE_MAX);
    if (found) {
        memcpy(out, found->info.service, MESH_SERVICE_MAX);
    }
}

struct client_query {
    const struct mesh_addr *local;
};

static int
is_that_client(const struct meshd_conn *c, void *arg)
{
    const struct client_query *q = arg;
    return c->outbound && c->state != MESH_CONN_CLOSED && !c->plaintext &&
           mesh_addr_eq(&c->local, q->local);
}

/* Clients that were killed before their server knew who they are: it may still speak to them. The oldest is forgotten. Not
 * on the loopback, where the server sees by itself that nobody has the socket, and ports come round soon. */
#define KILLED 256u
static struct {
    struct mesh_addr local;
    uint64_t at_ns;
} killed[KILLED];
static unsigned killed_n;

void
meshd_stats_killed(const struct meshd_conn *c, uint64_t at_ns)
{
    if (c->outbound && c->state == MESH_CONN_HANDSHAKE && !c->plaintext && c->local.port && !mesh_addr_is_loopback(&c->local)) {
        unsigned i = killed_n++ % KILLED;
        killed[i].local = c->local;
        killed[i].at_ns = at_ns;
    }
}

static bool
was_killed(const struct mesh_addr *local, uint64_t since_ns)
{
    for (unsigned i = 0; i < KILLED && i < killed_n; i++) {
        if (killed[i].at_ns >= since_ns && mesh_addr_eq(&killed[i].local, local)) {
            return true;
        }
    }
    return false;
}

bool
meshd_stats_is_client(uint64_t netns, const struct mesh_addr *local, uint64_t since_ns)
{
    struct client_query q = {local};
    bool anywhere = !mesh_addr_is_loopback(local); /* from another namespace of this host too */
    if (was_killed(local, since_ns)) {
        return true;
    }
    for (const struct meshd_stats_entry *e = meshd_stats_entries; e; e = e->hh.next) {
        if (!e->folded && (anywhere || e->info.netns == netns) &&
            meshd_page_visit(&e->info, MESHD_PAGE_ACTIVE, is_that_client, &q) != 0) {
            return true;
        }
    }
    return false;
}

struct coming_query {
    const uint8_t *tail;
    uint64_t netns, page_netns, since_ns;
    uint16_t port;
};

static int
is_coming(const struct meshd_conn *c, void *arg)
{
    const struct coming_query *q = arg;
    return c->outbound && c->state == MESH_CONN_HANDSHAKE && !c->plaintext && c->local.port == 0 && c->attempts > 0 &&
           c->opened_ns >= q->since_ns && c->peer.port == q->port && memcmp(c->peer.ip + 12, q->tail, 4) == 0 &&
           (q->netns == q->page_netns || !mesh_addr_is_loopback(&c->peer));
}

bool
meshd_stats_is_coming(uint64_t netns, const uint8_t *tail, uint16_t port, uint64_t since_ns)
{
    struct coming_query q = {.tail = tail, .netns = netns, .since_ns = since_ns, .port = port};
    for (const struct meshd_stats_entry *e = meshd_stats_entries; e; e = e->hh.next) {
        q.page_netns = e->info.netns;
        if (!e->folded && meshd_page_visit(&e->info, MESHD_PAGE_ACTIVE, is_coming, &q) != 0) {
            return true;
        }
    }
    return false;
}

/* The next look at a page whose processes have to be found not deciding, each of them once. One that is
 * dead decides nothing; of one whose number says nothing here, in a pid namespace of its own, the page's
 * words cannot be told from those of a dead one, and it counts as alive. */
static bool
settle(struct meshd_stats_entry *e, uint64_t generation, uint64_t current)
{
    struct meshd_page_head h;
    bool any = false, ours = false;
    if (e->settling < generation) {
        e->settling = current;
        memset(e->busy, true, sizeof(e->busy));
    }
    meshd_page_read(e->info.page_id, &h);
    for (unsigned i = 0; i < MESH_PAGE_PIDS; i++) {
        ours = ours || h.pids[i] == e->info.pid;
    }
    for (unsigned i = 0; i <= MESH_PAGE_PIDS; i++) {
        bool dead = i < MESH_PAGE_PIDS && ours && h.pids[i] > 0 && kill(h.pids[i], 0) != 0 && errno == ESRCH;
        e->busy[i] = e->busy[i] && h.deciding[i] && !dead;
        any = any || e->busy[i];
    }
    if (!any) {
        e->settled = e->settling;
    }
    return !any;
}

uint32_t
meshd_stats_deciding(uint64_t generation, uint64_t current)
{
    uint32_t n = 0;
    atomic_thread_fence(memory_order_seq_cst); /* the snapshot was published before the pages are read */
    for (struct meshd_stats_entry *e = meshd_stats_entries; e; e = e->hh.next) {
        n += !e->folded && e->settled < generation && !settle(e, generation, current);
    }
    return n;
}

static void
describe(const struct meshd_stats_entry *e, struct meshd_workload *w)
{
    struct meshd_page_head h;
    const struct meshd_page_info *i = &e->info;
    meshd_page_read(i->page_id, &h);
    uint32_t alive = meshd_stats_alive(&h);
    *w = (struct meshd_workload){
        .page_id = i->page_id, .pid = i->pid, .uid = i->uid, .gid = i->gid,
        .processes = alive ? alive : 1, .starttime = i->starttime, .netns = i->netns,
        .attached_ns = i->attached_ns, .conns_full = h.conns_full, .pids_full = h.pids_full,
        .counters = h.counters,
    };
    memcpy(w->service, i->service, sizeof(w->service));
    memcpy(w->id, i->id, sizeof(w->id));
    memcpy(w->exe, i->exe, sizeof(w->exe));
    memcpy(w->unit, i->unit, sizeof(w->unit));
}

void
meshd_stats_visit_workloads(meshd_workload_visit *visit, void *arg)
{
    struct meshd_workload w;
    for (const struct meshd_stats_entry *e = meshd_stats_entries; e; e = e->hh.next) {
        if (!e->folded) {
            describe(e, &w);
            if (visit(&w, arg) != 0) {
                return;
            }
        }
    }
}

struct filter {
    const struct meshd_page_info *info;
    unsigned states;
    meshd_conn_visit *visit;
    void *arg;
};

static int
pass_filter(const struct meshd_conn *c, void *arg)
{
    const struct filter *f = arg;
    struct meshd_conn copy = *c;
    meshd_origin_apply(&copy, f->info);
    return f->visit(&copy, f->arg);
}

static int
visit_pages(struct filter *f)
{
    int r = 0;
    for (const struct meshd_stats_entry *e = meshd_stats_entries; r == 0 && e; e = e->hh.next) {
        f->info = &e->info;
        r = e->folded ? 0 : meshd_page_visit(&e->info, f->states, pass_filter, f);
    }
    return r;
}

void
meshd_stats_visit_active(meshd_conn_visit *visit, void *arg)
{
    struct filter f = {NULL, MESHD_PAGE_ACTIVE, visit, arg};
    visit_pages(&f);
}

void
meshd_stats_visit_closed(meshd_conn_visit *visit, void *arg)
{
    struct filter f = {NULL, MESHD_PAGE_CLOSED, visit, arg};
    if (visit_pages(&f) == 0) {
        meshd_recent_visit(visit, arg);
    }
}

static int
by_service(const void *a, const void *b)
{
    const struct meshd_total *x = a, *y = b;
    return strcmp(x->service, y->service);
}

/* Adds one page to the array of *n totals, which has room for one more. */
static void
add_page(const struct meshd_stats_entry *e, struct meshd_total *all, size_t *n)
{
    struct meshd_page_head h;
    size_t i = 0;
    while (i < *n && strcmp(all[i].service, e->info.service) != 0) {
        i++;
    }
    if (i == *n) {
        memcpy(all[i].service, e->info.service, sizeof(all[i].service));
        ++*n;
    }
    meshd_page_read(e->info.page_id, &h);
    meshd_counters_add(&all[i].counters, &h.counters);
}

static struct meshd_total *
all_totals(size_t *n)
{
    struct meshd_total *all = meshd_totals_copy(HASH_COUNT(meshd_stats_entries), n);
    for (const struct meshd_stats_entry *e = meshd_stats_entries; all && e; e = e->hh.next) {
        if (!e->folded) {
            add_page(e, all, n);
        }
    }
    if (all) {
        qsort(all, *n, sizeof(*all), by_service);
    }
    return all;
}

void
meshd_stats_visit_totals(meshd_total_visit *visit, void *arg)
{
    size_t n = 0;
    struct meshd_total *all = all_totals(&n);
    for (size_t i = 0; all && i < n && visit(&all[i], arg) == 0; i++) {
    }
    free(all);
}

void
meshd_stats_sum(struct meshd_counters *out)
{
    size_t n = 0;
    struct meshd_total *all = all_totals(&n);
    *out = (struct meshd_counters){0};
    for (size_t i = 0; all && i < n; i++) {
        meshd_counters_add(out, &all[i].counters);
    }
    free(all);
}

uint32_t
meshd_stats_attached(void)
{
    uint32_t n = 0;
    for (const struct meshd_stats_entry *e = meshd_stats_entries; e; e = e->hh.next) {
        n += !e->folded;
    }
    return n;
}
