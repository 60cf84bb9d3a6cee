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
#include "meshd/stats/access.h"
#include "meshd/stats/ended.h"
#include "meshd/stats/origin.h"
#include "meshd/stats/page.h"
#include "meshd/stats/quota.h"
#include "meshd/stats/series.h"
#include "meshd/stats/totals.h"

#define SWEEP_MS  1000
#define FORGET_SWEEPS 300
#define HOT_MS    50  /* a page on which many connections end is looked at so often */
#define HOT       256 /* many, in one look */

struct entry {
    struct meshd_page_info info;
    bool orphan, folded;
    uint64_t settled, settling; /* nobody decides by older snapshots any more; is being waited for */
    bool busy[MESH_PAGE_PIDS + 1]; /* not yet seen without a decision since `settling` was current */
    bool hot;
    struct meshd_ended_cursor ended;
    UT_hash_handle hh; /* by info.page_id */
};

static struct entry *entries;
static struct meshd_timer *sweep_timer, *hot_timer;
static uint64_t last_id;

static struct entry *
entry_new(const struct meshd_page_info *info)
{
    struct entry *e = calloc(1, sizeof(*e));
    if (e) {
        e->info = *info;
        HASH_ADD(hh, entries, info.page_id, sizeof(e->info.page_id), e);
        meshd_origin_add(info);
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
put_line(const struct meshd_conn *c, void *arg)
{
    const struct meshd_page_info *info = arg;
    struct meshd_conn copy = *c;
    meshd_origin_apply(&copy, info);
    meshd_access_put(&copy, info);
    return 0;
}

static void
fetch_ended(struct entry *e, bool last)
{
    struct meshd_ended_count n;
    struct meshd_page_info info = e->info;
    meshd_ended_fetch(&e->info, &e->ended, last, put_line, &info, &n);
    e->hot = n.fetched + n.lost > HOT;
    if (n.lost || n.unlisted) {
        meshd_access_lost(n.lost, n.unlisted);
    }
}

static void
on_hot(void *arg)
{
    bool any = false;
    (void)arg;
    for (struct entry *e = entries; e; e = e->hh.next) {
        if (e->hot && !e->folded) {
            fetch_ended(e, false);
            any = any || e->hot;
        }
    }
    meshd_access_flush();
    if (!any) {
        meshd_timer_free(hot_timer);
        hot_timer = NULL;
    }
}

static void
fetch_all_ended(void)
{
    bool any = false;
    for (struct entry *e = entries; e && meshd_access_on(); e = e->hh.next) {
        if (!e->folded) {
            fetch_ended(e, false);
            any = any || e->hot;
        }
    }
    meshd_access_flush();
    if (any && !hot_timer) {
        hot_timer = meshd_timer_new(HOT_MS, on_hot, NULL);
    }
}

struct folding {
    const struct meshd_page_info *info;
    uint64_t now;
};

static int
keep_recent(const struct meshd_conn *c, void *arg)
{
    struct meshd_conn copy = *c;
    const struct folding *f = arg;
    meshd_origin_apply(&copy, f->info);
    if (copy.state != MESH_CONN_CLOSED) {
        bool killed = copy.state == MESH_CONN_OPEN && !(copy.how & MESH_HOW_EXITED);
        copy.reason = killed ? MESH_E_HOLDER_DIED : MESH_OK;
        copy.closed_ns = f->now;
    }
    if (copy.state != MESH_CONN_CLOSED && meshd_access_on()) {
        meshd_access_put(&copy, f->info);
    }
    if (copy.state != MESH_CONN_CLOSED || copy.closed_ns == 0 || copy.closed_ns > f->now) {
        copy.closed_ns = f->now;
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
    struct folding f = {&e->info, meshd_real_ns()};
    meshd_page_read(e->info.page_id, &h);
    fetch_ended(e, true);
    settle_gauges(&h.counters);
    meshd_totals_add(e->info.service, &h.counters);
    meshd_page_visit(&e->info, MESHD_PAGE_ACTIVE | MESHD_PAGE_CLOSED, keep_recent, &f);
    meshd_series_fold(&e->info);
    meshd_origin_gone(&e->info);
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

/* Also when nobody asks: what is idle is forgotten. */
static void
refresh_series(void)
{
    meshd_series_begin();
    for (const struct entry *e = entries; e; e = e->hh.next) {
        if (!e->folded) {
            meshd_series_live(&e->info);
        }
    }
    meshd_series_end(meshd_now_ns());
}

static void
on_sweep(void *arg)
{
    static unsigned turn;
    (void)arg;
    if (++turn % FORGET_SWEEPS == 0) {
        refresh_series();
    }
    for (struct entry *e = entries; e; e = e->hh.next) {
        if (e->orphan && !e->folded) {
            try_fold(e);
        }
    }
    save_folded();
    fetch_all_ended();
}

static void
take_page(const struct meshd_page_info *info)
{
    if (meshd_totals_has(info->page_id)) {
        meshd_page_unlink(info->page_id);
        return;
    }
    struct entry *e = entry_new(info);
    struct meshd_page_head h;
    if (!e) {
        return;
    }
    if (meshd_access_on()) {
        meshd_ended_begin(info->page_id, &e->ended, MESHD_ENDED_RESUME);
    } else {
        meshd_ended_stop(info->page_id, &e->ended);
    }
    meshd_page_read(info->page_id, &h);
    e->orphan = h.version != MESH_PAGE_VERSION /* its process may attach again with a newer library */
                || !meshd_proc_is_alive(info->pid, info->starttime);
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
    (void)meshd_access_configure();
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
    meshd_timer_free(hot_timer);
    sweep_timer = hot_timer = NULL;
    save_folded();
    fetch_all_ended();
    meshd_timer_free(hot_timer);
    hot_timer = NULL;
    HASH_ITER(hh, entries, e, tmp)
    {
        entry_free(e);
    }
    meshd_access_fini();
    meshd_series_fini();
    meshd_origin_fini();
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

static uint32_t
count_of_user(uid_t uid)
{
    uint32_t n = 0;
    for (const struct entry *e = entries; e; e = e->hh.next) {
        n += !e->folded && e->info.uid == uid;
    }
    return n;
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
            .mark = meshd_origin_mark(),
            .pid = peer->pid,
            .uid = peer->uid,
            .gid = peer->gid,
        };
        memcpy(info.service, id->service, sizeof(info.service));
        memcpy(info.id, id->id, sizeof(info.id));
        memcpy(info.exe, peer->exe, sizeof(info.exe));
        memcpy(info.unit, peer->unit, sizeof(info.unit));
        err = meshd_quota_check(peer, HASH_COUNT(entries), count_of_user(peer->uid));
        err = err == MESH_OK ? meshd_page_new(&info) : err;
        if (err != MESH_OK) {
            return err;
        }
        e = entry_new(&info);
        if (!e || meshd_proc_watch(peer->pid, peer->starttime) != MESH_OK) {
            return MESH_E_NO_MEMORY;
        }
        if (meshd_access_on()) {
            meshd_ended_begin(e->info.page_id, &e->ended, MESHD_ENDED_NOW);
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

void
meshd_stats_reload(void)
{
    bool begins = meshd_access_configure();
    for (struct entry *e = entries; e; e = e->hh.next) {
        if (begins && !e->folded) {
            meshd_ended_begin(e->info.page_id, &e->ended, MESHD_ENDED_NOW);
        } else if (!meshd_access_on()) {
            meshd_ended_stop(e->info.page_id, &e->ended);
        }
    }
    meshd_access_reopen();
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

/* In this order: its own page; the one of `root`, from which it was forked, and may have changed its user
 * since; one that it has otherwise from a process of its user. */
static bool
is_tree(const struct entry *e, const struct meshd_peer *peer, pid_t root, uid_t uid, unsigned pass)
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
    const struct entry *found = NULL;
    for (unsigned pass = 0; !found && pass < 3; pass++) {
        for (found = entries; found && !is_tree(found, peer, root, uid, pass); found = found->hh.next) {
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
    bool anywhere = !mesh_addr_is_loopback(local); /* from another namespace of this host too */
    for (const struct entry *e = entries; e; e = e->hh.next) {
        if (!e->folded && (anywhere || e->info.netns == netns) &&
            meshd_page_visit(&e->info, MESHD_PAGE_ACTIVE, is_that_client, &q) != 0) {
            return true;
        }
    }
    return false;
}

/* The next look at a page whose processes have to be found not deciding, each of them once. One that is
 * dead decides nothing; of one whose number says nothing here, in a pid namespace of its own, the page's
 * words cannot be told from those of a dead one, and it counts as alive. */
static bool
settle(struct entry *e, uint64_t generation, uint64_t current)
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
    for (struct entry *e = entries; e; e = e->hh.next) {
        n += !e->folded && e->settled < generation && !settle(e, generation, current);
    }
    return n;
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
    for (const struct entry *e = entries; r == 0 && e; e = e->hh.next) {
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

void
meshd_stats_visit_series(meshd_series_visit_fn *visit, void *arg)
{
    refresh_series();
    meshd_series_visit(visit, arg);
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
