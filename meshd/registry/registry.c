/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_registry: see registry.h.
 *
 *            listen()                     the kernel: last holder gone, or it does not listen
 *   nothing ----------> listed (provisional) ---> listed (seen in the kernel) ---> nothing
 *                            |  not seen for GRACE_NS                                ^
 *                            +-------------------------------------------------------+
 *
 * A process's word adds a listener, the kernel's word takes it away. Where the kernel cannot be
 * asked, the death of the process that registered it does. What lies in other namespaces is visible
 * from outside only if a privileged user registered it: anybody may own any address in a namespace
 * of his own.
 */
#include "meshd/registry/registry.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uthash.h>

#include "common/snap.h"
#include "meshd/attest/attest.h"
#include "meshd/base/file.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/base/proc.h"
#include "meshd/health/health.h"
#include "meshd/policy/config.h"
#include "meshd/registry/configured.h"
#include "meshd/registry/drain.h"
#include "meshd/registry/front.h"
#include "meshd/registry/given.h"
#include "meshd/registry/lent.h"
#include "meshd/registry/listener.h"
#include "meshd/registry/live.h"
#include "meshd/registry/member.h"
#include "meshd/registry/names.h"
#include "meshd/registry/netlink.h"
#include "meshd/registry/outlier.h"
#include "meshd/registry/router.h"
#include "meshd/registry/service.h"
#include "meshd/registry/snapfile.h"
#include "meshd/registry/table.h"
#include "meshd/registry/waiting.h"
#include "meshd/stats/stats.h"

#define BEAT_MS  500
#define SWEEP_MS 5000
#define GRACE_NS UINT64_C(2000000000)
#define CHANGED_MS 5

static struct meshd_timer *beat_timer, *sweep_timer, *changed_timer;
static struct meshd_registry_info info;
static bool stale; /* something was withdrawn that the snapshot still lists */

static enum mesh_err
publish(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    const struct mesh_snap_settings set = {
        .accept_grace_ms = cfg->accept_grace_ms,
        .handshake_timeout_ms = cfg->handshake_timeout_ms,
        .detect_timeout_ms = cfg->detect_timeout_ms,
        .linger_ms = cfg->linger_ms,
        .mode = cfg->mode,
        .egress = cfg->egress,
        .strict_close = cfg->strict_close,
        .kernel_tls = cfg->kernel_tls,
        .no_resumption = !cfg->session_resumption,
        .live = meshd_live_id(),
    };
    enum mesh_err e = meshd_names_prepare();
    if (e != MESH_OK) {
        return e;
    }
    meshd_snapfile_begin();
    meshd_service_write();
    meshd_given_write(false);
    meshd_listener_write();
    meshd_given_write(true);
    meshd_front_write();
    meshd_names_write();
    meshd_member_write();
    if (meshd_table_end()) {
        meshd_registry_changed();
    }
    meshd_router_write();
    enum mesh_err done = meshd_snapfile_commit(&set);
    meshd_health_changed();
    return done;
}

enum mesh_err
meshd_registry_republish(void)
{
    return publish();
}

enum mesh_err
meshd_registry_publish(void)
{
    enum mesh_err e = meshd_configured_load();
    e = e == MESH_OK ? meshd_front_load() : e;
    e = e == MESH_OK ? meshd_names_load() : e;
    return e == MESH_OK ? publish() : e;
}

/* Publishes, or says why not. The mesh goes on with the previous snapshot. */
static void
republish(void)
{
    enum mesh_err e = publish();
    if (e == MESH_E_NO_MEMORY) {
        info.overflowed++;
        log_error("the snapshot is full: %u listeners", meshd_listener_count());
    }
}

void
meshd_registry_refresh(void)
{
    republish();
}

static void
on_changed(void *arg)
{
    (void)arg;
    meshd_timer_free(changed_timer);
    changed_timer = NULL;
    republish();
}

void
meshd_registry_changed(void)
{
    if (!changed_timer) {
        changed_timer = meshd_timer_new(CHANGED_MS, on_changed, NULL);
    }
}

static void
withdraw(struct meshd_listener *l, const char *why)
{
    char text[MESH_ADDR_TEXT];
    uint64_t netns = l->e.netns;
    log_info("withdrawn: %s of %s (%s)", mesh_addr_text(&l->e.addr, text), l->e.service, why);
    meshd_listener_free(l);
    info.withdrawn++;
    if (!meshd_listener_has_netns(netns)) {
        meshd_netlink_drop(netns);
    }
}

static void
on_destroyed(uint64_t netns, uid_t uid, bool trusted, uint64_t cookie)
{
    struct meshd_listener *l = meshd_listener_find(netns, cookie);
    if (l && (trusted || l->e.uid == uid)) {
        withdraw(l, "closed");
        stale = true;
    }
}

/* What the kernel lists, for one round of checks; in the order of cookies. */
struct verdict {
    struct meshd_listening *at;
    size_t n;
    bool known;
};

static int
by_cookie(const void *a, const void *b)
{
    const struct meshd_listening *x = a, *y = b;
    return (x->cookie > y->cookie) - (x->cookie < y->cookie);
}

static const struct meshd_listening *
find_cookie(const struct verdict *v, uint64_t cookie)
{
    const struct meshd_listening key = {.cookie = cookie};
    return v->n ? bsearch(&key, v->at, v->n, sizeof(key), by_cookie) : NULL;
}

static struct verdict
ask(uint64_t netns, uid_t uid, uint16_t port)
{
    struct verdict v = {0};
    v.known = meshd_netlink_list(netns, uid, port, &v.at, &v.n) == MESH_OK;
    if (v.n) {
        qsort(v.at, v.n, sizeof(*v.at), by_cookie);
    }
    return v;
}

/* It listens: for the first time, or still, because somebody else has it. `now`: who was about to listen or
 * to close has done so; others are given a moment. */
static bool
stay(struct meshd_listener *l, bool now)
{
    if (!l->e.leaving || (!now && meshd_now_ns() - l->leaving_ns < GRACE_NS)) {
        return false;
    }
    l->e.leaving = false;
    return true;
}

/* True when l was withdrawn. */
static bool
judge(struct meshd_listener *l, const struct verdict *v)
{
    if (!v->known) {
        if (meshd_proc_is_alive(l->e.pid, l->starttime)) {
            return false;
        }
        withdraw(l, "its process is dead");
        return true;
    }
    if (find_cookie(v, l->e.cookie)) {
        l->seen = true;
        return false;
    }
    if (!l->seen && meshd_now_ns() - l->added_ns < GRACE_NS) {
        return false;
    }
    withdraw(l, l->seen ? "no longer listens" : "never listened");
    return true;
}

static bool
check_one(struct meshd_listener *l)
{
    struct verdict v = ask(l->e.netns, l->e.uid, l->e.addr.port);
    bool gone = judge(l, &v);
    free(v.at);
    return gone;
}

/* One dump for each namespace (and user, where the socket is not our own). */
static void
check_all(void)
{
    static uint32_t round;
    bool changed = false;
    struct meshd_listener *l, *first;
    round++;
    while ((first = meshd_listener_unchecked(round)) != NULL) {
        uint64_t netns = first->e.netns;
        uid_t uid = first->e.uid;
        struct verdict v = ask(netns, uid, 0);
        for (struct meshd_listener *next = meshd_listener_first(); (l = next) != NULL;) {
            next = meshd_listener_next(l);
            if (l->e.netns == netns && l->e.uid == uid) {
                l->round = round;
                bool gone = judge(l, &v);
                changed |= gone || stay(l, false);
            }
        }
        free(v.at);
    }
    if (changed) {
        republish();
    }
}

/* A process that dies with a thousand listeners is one new snapshot, not a thousand. */
static void
on_told(bool lost)
{
    if (stale) {
        stale = false;
        republish();
    }
    if (lost) {
        check_all();
    }
}

static void
on_sweep(void *arg)
{
    (void)arg;
    check_all();
    meshd_live_correct();
}

static void
on_beat(void *arg)
{
    (void)arg;
    if (!meshd_snapfile_is_whole()) {
        log_error("the snapshot was damaged by somebody else; it is published anew");
        republish();
    }
    meshd_snapfile_beat();
    meshd_outlier_watch();
}

void
meshd_registry_unlisten(const struct meshd_peer *peer, const struct mesh_wire_unlisten_req *req)
{
    struct meshd_listener *l = meshd_listener_find(req->netns, req->cookie);
    if (!l || (peer->uid != 0 && peer->uid != l->e.uid)) {
        return;
    }
    struct verdict v = ask(l->e.netns, l->e.uid, l->e.addr.port);
    bool gone = false;
    if (v.known) {
        l->seen = true; /* it did listen: no grace */
        gone = judge(l, &v);
    } else if (l->e.pid == peer->pid && l->starttime == peer->starttime) {
        withdraw(l, "its process says so");
        gone = true;
    }
    free(v.at);
    if (gone || stay(l, true)) {
        republish();
    }
}

static bool
note_listens(const struct meshd_peer *peer, const struct mesh_wire_unlisten_req *req)
{
    struct meshd_listener *l = meshd_listener_find(req->netns, req->cookie);
    return l && (peer->uid == 0 || peer->uid == l->e.uid) && stay(l, true);
}

void
meshd_registry_listens(const struct meshd_peer *peer, const struct mesh_wire_unlisten_req *req)
{
    if (note_listens(peer, req)) {
        republish();
    }
}

uint64_t
meshd_registry_listens_later(const struct meshd_peer *peer, const struct mesh_wire_unlisten_req *req)
{
    uint64_t held = 0;
    if (note_listens(peer, req)) {
        held = meshd_waiting_add(0, NULL);
        if (held == 0) {
            republish();
        }
    }
    return held;
}

struct holders {
    const struct meshd_listener *l;
    bool any;
};

static int
on_holder(pid_t pid, uint64_t left, void *arg)
{
    struct holders *h = arg;
    if (left & MESH_PAGE_LISTENER(h->l->e.cookie)) {
        return 0;
    }
    for (unsigned i = 0; i < MESHD_LEFT_MAX; i++) {
        if (h->l->left[i] == pid) {
            return 0;
        }
    }
    h->any = true;
    return 1;
}

/* False when there is no room for it. */
static bool
note_left(struct meshd_listener *l, pid_t pid)
{
    pid_t *place = NULL;
    for (pid_t *p = l->left; p < l->left + MESHD_LEFT_MAX; p++) {
        if (*p == pid) {
            return true;
        }
        if (*p == 0 || (!place && kill(*p, 0) != 0 && errno == ESRCH)) {
            place = !place || *p == 0 ? p : place;
        }
    }
    if (place) {
        *place = pid;
    }
    return place != NULL;
}

/* Children of fork hold it, too, and whoever has its page may be one; who has said that he let go of it,
 * to us or on the page, does not. Others, to whom it was passed, we do not know: after the close the kernel tells. */
uint32_t
meshd_registry_leave(const struct meshd_peer *peer, const struct mesh_wire_unlisten_req *req)
{
    struct meshd_listener *l = meshd_listener_find(req->netns, req->cookie);
    struct holders h = {.l = l};
    if (!l || !meshd_stats_visit_tree(peer, l->e.pid, l->e.uid, on_holder, &h) ||
        !note_left(l, peer->pid) || h.any) {
        return 0;
    }
    if (!l->e.leaving) {
        l->e.leaving = true;
        l->leaving_ns = meshd_now_ns();
        log_debug("leaving: endpoint %u of %s", l->e.id, l->e.service);
        republish();
        l->left_at = meshd_snapfile_generation();
    }
    return meshd_stats_deciding(l->left_at, meshd_snapfile_generation());
}

void
meshd_registry_gone(pid_t pid, uint64_t starttime)
{
    bool changed = false;
    for (struct meshd_listener *l, *next = meshd_listener_first(); (l = next) != NULL;) {
        next = meshd_listener_next(l);
        if (l->e.pid == pid && l->starttime == starttime) {
            l->seen = true;
            changed |= check_one(l);
        }
    }
    if (changed) {
        republish();
    }
}

static enum mesh_err
check_request(const struct mesh_wire_listen_req *r)
{
    return r->netns && r->cookie && r->port && r->ifaddrs <= MESH_WIRE_IFADDRS ? MESH_OK
                                                                               : MESH_E_PROTOCOL;
}

/* Does a socket of another user listen where `want` says it will? The kernel allows no two. */
static bool
is_taken(const struct verdict *v, const struct meshd_listener *want, uid_t uid)
{
    for (size_t i = 0; i < v->n; i++) {
        const struct mesh_addr *a = &v->at[i].addr, *b = &want->e.addr;
        if (v->at[i].uid != uid &&
            (mesh_addr_eq(a, b) || mesh_addr_is_any(a) || mesh_addr_is_any(b))) {
            return true;
        }
    }
    return false;
}

/* The kernel's word about a listener: its address is what the kernel says. Not listed yet is fine,
 * the program may be about to listen. */
static enum mesh_err
confirm(struct meshd_listener *l, const struct meshd_peer *peer, bool shown)
{
    struct verdict v = ask(l->e.netns, peer->uid, l->e.addr.port);
    const struct meshd_listening *k = find_cookie(&v, l->e.cookie);
    enum mesh_err e = MESH_OK;
    if (k && !shown && peer->uid != 0 && k->uid != 0 && k->uid != peer->uid) {
        e = MESH_E_DENIED; /* somebody else's socket */
    } else if (!k && peer->uid != 0 && is_taken(&v, l, peer->uid)) {
        e = MESH_E_DENIED;
    } else if (k) {
        l->e.addr = k->addr;
        l->seen = true;
    }
    free(v.at);
    return e;
}

static enum mesh_err
add(const struct meshd_peer *peer, const struct meshd_identity *id,
    const struct mesh_wire_listen_req *req, bool shown, struct meshd_listener **out)
{
    struct meshd_listener want = {
        .e = {.netns = req->netns, .cookie = req->cookie, .inode = req->inode, .pid = peer->pid,
              .uid = peer->uid, .since_ns = meshd_real_ns(), .flags = req->flags},
        .starttime = peer->starttime,
        .added_ns = meshd_now_ns(),
        .global = meshd_peer_is_privileged(peer) || req->netns == meshd_netlink_own(),
    };
    want.e.addr.port = req->port;
    memcpy(want.e.addr.ip, req->addr, 16);
    enum mesh_err e = confirm(&want, peer, shown);
    if (e != MESH_OK) {
        return e;
    }
    /* Bound, but the kernel still refuses: listed, so that nothing goes there in plaintext, but not chosen. */
    want.e.leaving = !want.seen;
    want.leaving_ns = meshd_now_ns();
    meshd_listener_set_flags(&want);
    meshd_listener_set_ifaddrs(&want, req, req->netns == meshd_netlink_own());
    e = meshd_listener_put(&want, id, out);
    if (e == MESH_OK) {
        meshd_listener_note_peer(*out, peer);
    }
    return e;
}

/* Everything but the publication. */
static enum mesh_err
enlist(const struct meshd_peer *peer, const struct meshd_identity *id, const struct mesh_wire_listen_req *req,
       int *diag_fd, struct mesh_wire_listen_rep *rep)
{
    char text[MESH_ADDR_TEXT];
    enum mesh_err e = check_request(req);
    bool shown = meshd_lent_cookie(*diag_fd) == req->cookie;
    if (e == MESH_OK && *diag_fd >= 0 && !shown) {
        e = meshd_netlink_adopt(req->netns, peer->uid, diag_fd);
    }
    if (e != MESH_OK) {
        return e;
    }
    bool covered = meshd_netlink_open(req->netns, peer->pid) ||
                   meshd_netlink_covers(req->netns, peer->uid);
    struct meshd_listener *l = meshd_listener_find(req->netns, req->cookie);
    if (!l || shown || meshd_peer_is_privileged(peer) || l->e.uid == peer->uid) {
        e = add(peer, id, req, shown, &l);
    }
    if (e != MESH_OK) {
        log_warn("listener of %s refused: %s", id->service, mesh_err_text(e));
        return e;
    }
    if (meshd_proc_watch(peer->pid, peer->starttime) != MESH_OK) {
        log_warn("cannot watch process %d; the sweep will", (int)peer->pid);
    }
    info.registered++;
    log_info("registered: %s of %s, pid %d", mesh_addr_text(&l->e.addr, text), l->e.service,
             (int)peer->pid);
    *rep = (struct mesh_wire_listen_rep){.endpoint_id = l->e.id, .need_diag = !covered,
                                         .mode = (uint8_t)meshd_listener_mode(l)};
    return MESH_OK;
}

/* No room for it, or no disk. */
static void
take_back(uint32_t endpoint_id, enum mesh_err e)
{
    for (struct meshd_listener *l = meshd_listener_first(); l; l = meshd_listener_next(l)) {
        if (l->e.id == endpoint_id) {
            log_warn("listener of %s refused: %s", l->e.service, mesh_err_text(e));
            meshd_listener_free(l);
            info.overflowed++;
            info.registered--;
            return;
        }
    }
}

enum mesh_err
meshd_registry_listen(const struct meshd_peer *peer, const struct meshd_identity *id,
                      const struct mesh_wire_listen_req *req, int *diag_fd,
                      struct mesh_wire_listen_rep *rep)
{
    enum mesh_err e = enlist(peer, id, req, diag_fd, rep);
    if (e == MESH_OK) {
        e = publish();
        if (e != MESH_OK) {
            take_back(rep->endpoint_id, e);
        }
    }
    return e;
}

enum mesh_err
meshd_registry_listen_later(const struct meshd_peer *peer, const struct meshd_identity *id,
                            const struct mesh_wire_listen_req *req, int *diag_fd,
                            struct mesh_wire_listen_rep *rep, uint64_t *held)
{
    enum mesh_err e = enlist(peer, id, req, diag_fd, rep);
    *held = e == MESH_OK ? meshd_waiting_add(rep->endpoint_id, take_back) : 0;
    if (e == MESH_OK && *held == 0) {
        take_back(rep->endpoint_id, MESH_E_NO_MEMORY);
        e = MESH_E_NO_MEMORY;
    }
    return e;
}

bool
meshd_registry_is_local_endpoint(uint64_t netns, const struct mesh_addr *a, int fd)
{
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_snap_hit hit;
    bool found = false;
    if (netns == 0 || netns != (fd >= 0 ? meshd_netlink_of(fd) : meshd_netlink_own()) ||
        mesh_snap_find_endpoint(&s, netns, a, &hit, &found) != MESH_OK || !found) {
        return false;
    }
    return !hit.needs_local || (fd >= 0 ? meshd_listener_binds(fd, a) : meshd_listener_is_own_address(a));
}

bool
meshd_registry_peer_at(const struct mesh_addr *a, char *id)
{
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_snap_hit hit;
    bool found = false;
    if (mesh_snap_find_endpoint(&s, meshd_netlink_own(), a, &hit, &found) != MESH_OK || !found ||
        (hit.needs_local && !meshd_listener_is_own_address(a)) || hit.endpoint.mode == MESH_MODE_OFF) {
        return false;
    }
    memcpy(id, hit.service.id, MESH_ID_MAX);
    return true;
}

uint64_t
meshd_registry_netns(void)
{
    return meshd_netlink_own();
}

struct mesh_snap
meshd_registry_view(void)
{
    return meshd_snapfile_view();
}

bool
meshd_registry_service_at(uint32_t index, struct mesh_snap_service *out)
{
    if (index >= meshd_snapfile_count(MESH_SNAP_SERVICES)) {
        return false;
    }
    meshd_snapfile_get(MESH_SNAP_SERVICES, index, out);
    return true;
}

bool
meshd_registry_is_whole(void)
{
    return meshd_snapfile_is_whole();
}

uint32_t
meshd_registry_live_count(uint32_t id)
{
    return meshd_live_count(id);
}

int
meshd_registry_live_fd(void)
{
    return meshd_live_fd();
}

int
meshd_registry_snapshot_fd(void)
{
    return meshd_snapfile_fd();
}

enum mesh_err
meshd_registry_init(const char *run_dir)
{
    char path[PATH_MAX];
    if (!meshd_path(path, sizeof(path), run_dir, "snapshot")) {
        return MESH_E_CONFIG;
    }
    enum mesh_err e = meshd_snapfile_open(path, MESH_SNAP_AREA);
    if (e == MESH_OK) {
        e = meshd_netlink_init(on_destroyed, on_told);
    }
    if (e != MESH_OK) {
        return e;
    }
    meshd_live_init();
    meshd_drain_init(run_dir);
    meshd_listener_begin();
    meshd_snapfile_visit(meshd_listener_restore, NULL);
    meshd_snapfile_visit(meshd_given_restore, NULL);
    for (struct meshd_listener *l = meshd_listener_first(); l; l = meshd_listener_next(l)) {
        bool covered = meshd_netlink_open(l->e.netns, l->e.pid);
        bool watched = meshd_proc_watch(l->e.pid, l->starttime) == MESH_OK;
        log_debug("taken over: endpoint %u%s%s", l->e.id, covered ? "" : ", not verifiable",
                  watched ? "" : ", not watched");
    }
    e = meshd_configured_load();
    e = e == MESH_OK ? meshd_front_load() : e;
    e = e == MESH_OK ? meshd_names_load() : e;
    if (e != MESH_OK) {
        return e;
    }
    check_all();
    meshd_snapfile_beat();
    beat_timer = meshd_timer_new(BEAT_MS, on_beat, NULL);
    sweep_timer = meshd_timer_new(SWEEP_MS, on_sweep, NULL);
    return beat_timer && sweep_timer ? meshd_registry_publish() : MESH_E_NO_MEMORY;
}

void
meshd_registry_fini(void)
{
    meshd_timer_free(beat_timer);
    meshd_timer_free(sweep_timer);
    meshd_timer_free(changed_timer);
    meshd_waiting_fini();
    beat_timer = sweep_timer = changed_timer = NULL;
    meshd_netlink_fini();
    meshd_listener_free_all();
    meshd_given_fini();
    meshd_front_fini();
    meshd_names_fini();
    meshd_member_fini();
    meshd_live_fini();
    meshd_drain_fini();
    meshd_snapfile_close();
}

void
meshd_registry_info(struct meshd_registry_info *out)
{
    *out = info;
    out->generation = meshd_snapfile_generation();
    out->epoch = meshd_snapfile_epoch();
    out->services = meshd_service_count();
    out->endpoints = meshd_listener_count() + meshd_given_count();
    out->namespaces = meshd_netlink_namespaces();
}

void
meshd_registry_visit_services(meshd_service_visit *visit, void *arg)
{
    meshd_service_visit_all(visit, arg);
}

void
meshd_registry_visit_endpoints(meshd_endpoint_visit *visit, void *arg)
{
    for (struct meshd_listener *l = meshd_listener_first(); l; l = meshd_listener_next(l)) {
        l->e.mode = meshd_listener_mode(l);
        meshd_listener_rule(l);
        l->e.draining = meshd_drain_has(&l->e);
        if (visit(&l->e, arg) != 0) {
            return;
        }
    }
    meshd_given_visit(visit, arg);
}
