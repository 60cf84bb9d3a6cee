/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_stats: see stats.h.
 *
 * A page's life: attached -> orphan (its process is dead, or has another page now) -> folded (in
 * the totals, once nobody holds it) -> saved, unlinked. A crash before the totals are saved folds
 * the page again from its file; after it, the file's "folded" line keeps it from being counted twice.
 */
#include "meshd/stats/stats.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "meshd/attest/attest.h"
#include "meshd/base/file.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/base/proc.h"
#include "meshd/stats/page.h"
#include "meshd/stats/totals.h"

#define PAGES_MAX 16384u
#define SWEEP_MS  1000

struct entry {
    struct meshd_page_info info;
    bool orphan, folded;
    UT_hash_handle hh; /* by info.page_id */
};

static struct entry *entries;
static struct meshd_timer *sweep_timer;
static uint64_t last_id;

static struct entry *
entry_new(const struct meshd_page_info *info)
{
    struct entry *e = calloc(1, sizeof(*e));
    if (e) {
        e->info = *info;
        HASH_ADD(hh, entries, info.page_id, sizeof(e->info.page_id), e);
        last_id = info->page_id > last_id ? info->page_id : last_id;
    }
    return e;
}

static void
entry_free(struct entry *e)
{
    HASH_DEL(entries, e);
    free(e);
}

/* Alive by the pids that the processes wrote, which mean something in our own pid namespace only. */
static uint32_t
count_alive(const struct meshd_page_head *h)
{
    uint32_t n = 0;
    for (unsigned i = 0; i < MESH_PAGE_PIDS; i++) {
        n += h->pids[i] > 0 && (kill(h->pids[i], 0) == 0 || errno == EPERM);
    }
    return n;
}

static int
keep_recent(const struct meshd_conn *c, void *arg)
{
    struct meshd_conn copy = *c;
    const uint64_t *now = arg;
    if (copy.state != MESH_CONN_CLOSED || copy.closed_ns == 0 || copy.closed_ns > *now) {
        copy.closed_ns = *now;
    }
    copy.state = MESH_CONN_CLOSED;
    meshd_recent_add(&copy);
    return 0;
}

/* What was open when the last process died is closed now. */
static void
settle_gauges(struct meshd_counters *c)
{
    uint64_t *opened_in = &c->stat[MESH_STAT_OPEN_IN], *closed = &c->stat[MESH_STAT_CLOSED];
    uint64_t opened = c->stat[MESH_STAT_OPEN_OUT] + *opened_in;
    uint64_t active = c->stat[MESH_STAT_ACTIVE];
    *closed += active <= opened ? active : 0;
    for (unsigned i = 0; i < MESH_STAT_COUNT; i++) {
        c->stat[i] = meshd_stats_is_gauge((enum mesh_stat)i) ? 0 : c->stat[i];
    }
}

static void
fold(struct entry *e)
{
    struct meshd_page_head h;
    uint64_t now = meshd_real_ns();
    meshd_page_read(e->info.page_id, &h);
    settle_gauges(&h.counters);
    meshd_totals_add(e->info.service, &h.counters);
    meshd_page_visit(&e->info, keep_recent, &now);
    e->folded = true;
    log_debug("folded the page of %s, pid %d", e->info.service, (int)e->info.pid);
}

static void
try_fold(struct entry *e)
{
    struct meshd_page_head h;
    meshd_page_read(e->info.page_id, &h);
    if (meshd_page_is_unused(e->info.page_id, count_alive(&h) == 0)) {
        fold(e);
    }
}

void
meshd_stats_gone(pid_t pid, uint64_t starttime)
{
    struct entry *e, *tmp;
    HASH_ITER(hh, entries, e, tmp)
    {
        if (!e->folded && e->info.pid == pid && e->info.starttime == starttime) {
            e->orphan = true;
            try_fold(e);
        }
    }
}

/* Saves the totals, and only then removes the pages that are in them. */
static void
save_folded(void)
{
    struct entry *e, *tmp;
    size_t n = 0;
    uint64_t *ids = calloc(HASH_COUNT(entries) + 1, sizeof(*ids));
    for (e = entries; ids && e; e = e->hh.next) {
        if (e->folded) {
            ids[n++] = e->info.page_id;
        }
    }
    if (n > 0 && meshd_totals_save(ids, n) == MESH_OK) {
        HASH_ITER(hh, entries, e, tmp)
        {
            if (e->folded) {
                meshd_page_unlink(e->info.page_id);
                entry_free(e);
            }
        }
    }
    free(ids);
}

static void
on_sweep(void *arg)
{
    (void)arg;
    for (struct entry *e = entries; e; e = e->hh.next) {
        if (e->orphan && !e->folded) {
            try_fold(e);
        }
    }
    save_folded();
}

static void
take_page(const struct meshd_page_info *info)
{
    if (meshd_totals_has(info->page_id)) {
        meshd_page_unlink(info->page_id);
        return;
    }
    struct entry *e = entry_new(info);
    if (!e) {
        return;
    }
    e->orphan = !meshd_proc_is_alive(info->pid, info->starttime);
    if (!e->orphan && meshd_proc_watch(info->pid, info->starttime) != MESH_OK) {
        e->orphan = true; /* then the lease alone tells */
    }
}

enum mesh_err
meshd_stats_init(const char *run_dir)
{
    char pages[PATH_MAX], totals[PATH_MAX];
    if (!meshd_path(pages, sizeof(pages), run_dir, "pages") ||
        !meshd_path(totals, sizeof(totals), run_dir, "totals")) {
        return MESH_E_CONFIG;
    }
    enum mesh_err e = meshd_page_init(pages);
    if (e == MESH_OK) {
        e = meshd_totals_load(totals);
    }
    if (e != MESH_OK) {
        return e;
    }
    meshd_page_scan(take_page);
    on_sweep(NULL);
    sweep_timer = meshd_timer_new(SWEEP_MS, on_sweep, NULL);
    return sweep_timer ? MESH_OK : MESH_E_NO_MEMORY;
}

void
meshd_stats_fini(void)
{
    struct entry *e, *tmp;
    meshd_timer_free(sweep_timer);
    sweep_timer = NULL;
    save_folded();
    HASH_ITER(hh, entries, e, tmp)
    {
        entry_free(e);
    }
    meshd_totals_fini();
}

static struct entry *
find_peer(const struct meshd_peer *peer, const struct meshd_identity *id)
{
    struct entry *found = NULL;
    for (struct entry *e = entries; e; e = e->hh.next) {
        if (e->orphan || e->folded || e->info.pid != peer->pid ||
            e->info.starttime != peer->starttime) {
            continue;
        }
        if (strcmp(e->info.id, id->id) == 0 && e->info.uid == peer->uid) {
            found = e;
        } else {
            e->orphan = true; /* it became another program */
        }
    }
    return found;
}

enum mesh_err
meshd_stats_attach(const struct meshd_peer *peer, const struct meshd_identity *id, uint64_t netns,
                   uint64_t *page_id, int *fd)
{
    struct entry *e = find_peer(peer, id);
    enum mesh_err err = MESH_OK;
    if (!e) {
        uint64_t now = meshd_real_ns();
        struct meshd_page_info info = {
            .page_id = now / 1000 > last_id ? now / 1000 : last_id + 1,
            .attached_ns = now,
            .starttime = peer->starttime,
            .netns = netns,
            .pid = peer->pid,
            .uid = peer->uid,
            .gid = peer->gid,
        };
        memcpy(info.service, id->service, sizeof(info.service));
        memcpy(info.id, id->id, sizeof(info.id));
        memcpy(info.exe, peer->exe, sizeof(info.exe));
        memcpy(info.unit, peer->unit, sizeof(info.unit));
        err = HASH_COUNT(entries) < PAGES_MAX ? meshd_page_new(&info) : MESH_E_NO_MEMORY;
        if (err != MESH_OK) {
            return err;
        }
        e = entry_new(&info);
        if (!e || meshd_proc_watch(peer->pid, peer->starttime) != MESH_OK) {
            return MESH_E_NO_MEMORY;
        }
        log_info("attached: %s, pid %d, uid %u", id->id, (int)peer->pid, (unsigned)peer->uid);
    }
    int page = meshd_page_open(e->info.page_id);
    if (page < 0) {
        log_error("statistics page of pid %d: %s", (int)peer->pid, strerror(errno));
        return MESH_E_SYSTEM;
    }
    *page_id = e->info.page_id;
    *fd = page;
    return MESH_OK;
}

/* Does the process use this page, by its own word? A process that lets another one of its user in
 * here could as well give it its key. */
static bool
lists(const struct entry *e, pid_t pid)
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

void
meshd_stats_wish(const struct meshd_peer *peer, char *out)
{
    const struct entry *found = NULL;
    for (const struct entry *e = entries; e; e = e->hh.next) {
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

bool
meshd_stats_is_client(uint64_t netns, const struct mesh_addr *local)
{
    struct client_query q = {local};
    for (const struct entry *e = entries; e; e = e->hh.next) {
        if (!e->folded && e->info.netns == netns &&
            meshd_page_visit(&e->info, is_that_client, &q) != 0) {
            return true;
        }
    }
    return false;
}

static void
describe(const struct entry *e, struct meshd_workload *w)
{
    struct meshd_page_head h;
    const struct meshd_page_info *i = &e->info;
    meshd_page_read(i->page_id, &h);
    uint32_t alive = count_alive(&h);
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
    for (const struct entry *e = entries; e; e = e->hh.next) {
        if (!e->folded) {
            describe(e, &w);
            if (visit(&w, arg) != 0) {
                return;
            }
        }
    }
}

struct filter {
    bool closed;
    meshd_conn_visit *visit;
    void *arg;
};

static int
pass_filter(const struct meshd_conn *c, void *arg)
{
    const struct filter *f = arg;
    return (c->state == MESH_CONN_CLOSED) == f->closed ? f->visit(c, f->arg) : 0;
}

static int
visit_pages(struct filter *f)
{
    int r = 0;
    for (const struct entry *e = entries; r == 0 && e; e = e->hh.next) {
        r = e->folded ? 0 : meshd_page_visit(&e->info, pass_filter, f);
    }
    return r;
}

void
meshd_stats_visit_active(meshd_conn_visit *visit, void *arg)
{
    struct filter f = {false, visit, arg};
    visit_pages(&f);
}

void
meshd_stats_visit_closed(meshd_conn_visit *visit, void *arg)
{
    struct filter f = {true, visit, arg};
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
add_page(const struct entry *e, struct meshd_total *all, size_t *n)
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
    struct meshd_total *all = meshd_totals_copy(HASH_COUNT(entries), n);
    for (const struct entry *e = entries; all && e; e = e->hh.next) {
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
    for (const struct entry *e = entries; e; e = e->hh.next) {
        n += !e->folded;
    }
    return n;
}
