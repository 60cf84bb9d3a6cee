/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_stats: see stats.h; here, what becomes of the pages.
 *
 * A page's life: attached -> orphan (its process is dead, or has another page now) -> folded (in
 * the totals, once nobody holds it) -> saved, unlinked. A crash before the totals are saved folds
 * the page again from its file; after it, the file's "folded" line keeps it from being counted twice.
 */
#include "meshd/stats/stats.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
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
#include "meshd/stats/stats_int.h"
#include "meshd/stats/totals.h"

#define SWEEP_MS  1000
#define FORGET_SWEEPS 300
#define HOT_MS    50  /* a page on which many connections end is looked at so often */
#define HOT       256 /* many, in one look */

struct meshd_stats_entry *meshd_stats_entries;
static struct meshd_timer *sweep_timer, *hot_timer;
static uint64_t last_id;

static struct meshd_stats_entry *
entry_new(const struct meshd_page_info *info)
{
    struct meshd_stats_entry *e = calloc(1, sizeof(*e));
    if (e) {
        e->info = *info;
        HASH_ADD(hh, meshd_stats_entries, info.page_id, sizeof(e->info.page_id), e);
        meshd_origin_add(info);
        last_id = info->page_id > last_id ? info->page_id : last_id;
    }
    return e;
}

static void
entry_free(struct meshd_stats_entry *e)
{
    HASH_DEL(meshd_stats_entries, e);
    free(e);
}

uint32_t
meshd_stats_alive(const struct meshd_page_head *h)
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
fetch_ended(struct meshd_stats_entry *e, bool last)
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
    for (struct meshd_stats_entry *e = meshd_stats_entries; e; e = e->hh.next) {
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
    for (struct meshd_stats_entry *e = meshd_stats_entries; e && meshd_access_on(); e = e->hh.next) {
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
    meshd_stats_killed(c, f->now);
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
fold(struct meshd_stats_entry *e)
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
try_fold(struct meshd_stats_entry *e)
{
    struct meshd_page_head h;
    meshd_page_read(e->info.page_id, &h);
    if (meshd_page_is_unused(e->info.page_id, meshd_stats_alive(&h) == 0)) {
        fold(e);
    }
}

void
meshd_stats_gone(pid_t pid, uint64_t starttime)
{
    struct meshd_stats_entry *e, *tmp;
    HASH_ITER(hh, meshd_stats_entries, e, tmp)
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
    struct meshd_stats_entry *e, *tmp;
    size_t n = 0;
    uint64_t *ids = calloc(HASH_COUNT(meshd_stats_entries) + 1, sizeof(*ids));
    for (e = meshd_stats_entries; ids && e; e = e->hh.next) {
        if (e->folded) {
            ids[n++] = e->info.page_id;
        }
    }
    if (n > 0 && meshd_totals_save(ids, n) == MESH_OK) {
        HASH_ITER(hh, meshd_stats_entries, e, tmp)
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
    for (const struct meshd_stats_entry *e = meshd_stats_entries; e; e = e->hh.next) {
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
    for (struct meshd_stats_entry *e = meshd_stats_entries; e; e = e->hh.next) {
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
    struct meshd_stats_entry *e = entry_new(info);
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
    struct meshd_stats_entry *e, *tmp;
    meshd_timer_free(sweep_timer);
    meshd_timer_free(hot_timer);
    sweep_timer = hot_timer = NULL;
    save_folded();
    fetch_all_ended();
    meshd_timer_free(hot_timer);
    hot_timer = NULL;
    HASH_ITER(hh, meshd_stats_entries, e, tmp)
    {
        entry_free(e);
    }
    meshd_access_fini();
    meshd_series_fini();
    meshd_origin_fini();
    meshd_totals_fini();
}

static struct meshd_stats_entry *
find_peer(const struct meshd_peer *peer, const struct meshd_identity *id)
{
    struct meshd_stats_entry *found = NULL;
    for (struct meshd_stats_entry *e = meshd_stats_entries; e; e = e->hh.next) {
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
    for (const struct meshd_stats_entry *e = meshd_stats_entries; e; e = e->hh.next) {
        n += !e->folded && e->info.uid == uid;
    }
    return n;
}

enum mesh_err
meshd_stats_attach(const struct meshd_peer *peer, const struct meshd_identity *id, uint64_t netns,
                   uint64_t *page_id, int *fd)
{
    struct meshd_stats_entry *e = find_peer(peer, id);
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
        err = meshd_quota_check(peer, HASH_COUNT(meshd_stats_entries), count_of_user(peer->uid));
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
    for (struct meshd_stats_entry *e = meshd_stats_entries; e; e = e->hh.next) {
        if (begins && !e->folded) {
            meshd_ended_begin(e->info.page_id, &e->ended, MESHD_ENDED_NOW);
        } else if (!meshd_access_on()) {
            meshd_ended_stop(e->info.page_id, &e->ended);
        }
    }
    meshd_access_reopen();
}

void
meshd_stats_visit_series(meshd_series_visit_fn *visit, void *arg)
{
    refresh_series();
    meshd_series_visit(visit, arg);
}
