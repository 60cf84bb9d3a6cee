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

#include <limits.h>
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
#include "meshd/policy/config.h"
#include "meshd/registry/given.h"
#include "meshd/registry/listener.h"
#include "meshd/registry/netlink.h"
#include "meshd/registry/service.h"
#include "meshd/registry/snapfile.h"

#define BEAT_MS  500
#define SWEEP_MS 5000
#define GRACE_NS UINT64_C(2000000000)

static struct meshd_timer *beat_timer, *sweep_timer;
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
    };
    enum mesh_err e = meshd_snapfile_begin(meshd_service_count(),
                                           meshd_listener_entries() + meshd_given_count());
    if (e != MESH_OK) {
        return e;
    }
    meshd_service_write();
    meshd_listener_write();
    meshd_given_write();
    meshd_snapfile_commit(&set, cfg->trust_domain);
    return MESH_OK;
}

enum mesh_err
meshd_registry_publish(void)
{
    enum mesh_err e = meshd_given_load();
    return e == MESH_OK ? publish() : e;
}

/* Publishes, or says why not. The mesh goes on with the previous snapshot. */
static void
republish(void)
{
    enum mesh_err e = publish();
    if (e != MESH_OK) {
        info.overflowed++;
        log_error("the snapshot is full: %u listeners", meshd_listener_count());
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
                changed |= judge(l, &v);
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
}

static void
on_beat(void *arg)
{
    (void)arg;
    meshd_snapfile_beat();
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
    if (gone) {
        republish();
    }
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

static bool
is_privileged(uid_t uid)
{
    return uid == 0 || uid == geteuid();
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
confirm(struct meshd_listener *l, const struct meshd_peer *peer)
{
    struct verdict v = ask(l->e.netns, peer->uid, l->e.addr.port);
    const struct meshd_listening *k = find_cookie(&v, l->e.cookie);
    enum mesh_err e = MESH_OK;
    if (k && peer->uid != 0 && k->uid != 0 && k->uid != peer->uid) {
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
    const struct mesh_wire_listen_req *req, struct meshd_listener **out)
{
    struct meshd_listener want = {
        .e = {.netns = req->netns, .cookie = req->cookie, .inode = req->inode, .pid = peer->pid,
              .uid = peer->uid, .since_ns = meshd_real_ns(), .flags = req->flags},
        .starttime = peer->starttime,
        .added_ns = meshd_now_ns(),
        .global = is_privileged(peer->uid) || req->netns == meshd_netlink_own(),
    };
    want.e.addr.port = req->port;
    memcpy(want.e.addr.ip, req->addr, 16);
    enum mesh_err e = confirm(&want, peer);
    if (e != MESH_OK) {
        return e;
    }
    meshd_listener_set_flags(&want);
    meshd_listener_set_ifaddrs(&want, req, req->netns == meshd_netlink_own());
    return meshd_listener_put(&want, id, out);
}

enum mesh_err
meshd_registry_listen(const struct meshd_peer *peer, const struct meshd_identity *id,
                      const struct mesh_wire_listen_req *req, int *diag_fd,
                      struct mesh_wire_listen_rep *rep)
{
    char text[MESH_ADDR_TEXT];
    enum mesh_err e = check_request(req);
    if (e == MESH_OK && *diag_fd >= 0) {
        e = meshd_netlink_adopt(req->netns, peer->uid, diag_fd);
    }
    if (e != MESH_OK) {
        return e;
    }
    bool covered = meshd_netlink_open(req->netns, peer->pid) ||
                   meshd_netlink_covers(req->netns, peer->uid);
    struct meshd_listener *l = meshd_listener_find(req->netns, req->cookie);
    if (!l || is_privileged(peer->uid) || l->e.uid == peer->uid) {
        e = add(peer, id, req, &l);
    }
    if (e == MESH_OK) {
        e = publish();
        if (e != MESH_OK) {
            meshd_listener_free(l);
            info.overflowed++;
        }
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

bool
meshd_registry_is_local_endpoint(uint64_t netns, const struct mesh_addr *a)
{
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_snap_hit hit;
    bool found = false;
    return netns == meshd_netlink_own() && mesh_snap_find(&s, netns, a, &hit, &found) == MESH_OK &&
           found && (!hit.needs_local || meshd_listener_is_own_address(a));
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
    meshd_snapfile_visit(meshd_listener_restore, NULL);
    for (struct meshd_listener *l = meshd_listener_first(); l; l = meshd_listener_next(l)) {
        bool covered = meshd_netlink_open(l->e.netns, l->e.pid);
        bool watched = meshd_proc_watch(l->e.pid, l->starttime) == MESH_OK;
        log_debug("taken over: endpoint %u%s%s", l->e.id, covered ? "" : ", not verifiable",
                  watched ? "" : ", not watched");
    }
    e = meshd_given_load();
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
    beat_timer = sweep_timer = NULL;
    meshd_netlink_fini();
    meshd_listener_free_all();
    meshd_given_fini();
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
        if (visit(&l->e, arg) != 0) {
            return;
        }
    }
    meshd_given_visit(visit, arg);
}
