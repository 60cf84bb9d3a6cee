/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_registry: the kernel's word about what is listed, see registry.c. It is asked now and then, when a process
 * says that it closed or died, and it tells of its own when the last holder of a listener is gone.
 */
#include <stdlib.h>

#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/base/peer.h"
#include "meshd/base/proc.h"
#include "meshd/registry/listener.h"
#include "meshd/registry/registry_int.h"
#include "meshd/registry/waiting.h"

#define GRACE_NS UINT64_C(2000000000) /* for whom the kernel does not show yet, or still */

static bool stale; /* something was withdrawn that the snapshot still lists */

static void
withdraw(struct meshd_listener *l, const char *why)
{
    char text[MESH_ADDR_TEXT];
    uint64_t netns = l->e.netns;
    log_info("withdrawn: %s of %s (%s)", mesh_addr_text(&l->e.addr, text), l->e.service, why);
    meshd_listener_free(l);
    meshd_registry_counts.withdrawn++;
    if (!meshd_listener_has_netns(netns)) {
        meshd_netlink_drop(netns);
    }
}

void
meshd_check_destroyed(uint64_t netns, uid_t uid, bool trusted, uint64_t cookie)
{
    struct meshd_listener *l = meshd_listener_find(netns, cookie);
    if (l && (trusted || l->e.uid == uid)) {
        withdraw(l, "closed");
        stale = true;
    }
}

static int
by_cookie(const void *a, const void *b)
{
    const struct meshd_listening *x = a, *y = b;
    return (x->cookie > y->cookie) - (x->cookie < y->cookie);
}

const struct meshd_listening *
meshd_verdict_find(const struct meshd_verdict *v, uint64_t cookie)
{
    const struct meshd_listening key = {.cookie = cookie};
    return v->n ? bsearch(&key, v->at, v->n, sizeof(key), by_cookie) : NULL;
}

struct meshd_verdict
meshd_verdict_ask(uint64_t netns, uid_t uid, uint16_t port)
{
    struct meshd_verdict v = {0};
    v.known = meshd_netlink_list(netns, uid, port, &v.at, &v.n) == MESH_OK;
    if (v.n) {
        qsort(v.at, v.n, sizeof(*v.at), by_cookie);
    }
    return v;
}

/* It listens: for the first time, or still, because somebody else has it. `now`: all who were about to listen
 * or to close have done so; others are given a moment. */
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
judge(struct meshd_listener *l, const struct meshd_verdict *v)
{
    if (!v->known) {
        if (meshd_proc_is_alive(l->e.pid, l->starttime)) {
            return false;
        }
        withdraw(l, "its process is dead");
        return true;
    }
    if (meshd_verdict_find(v, l->e.cookie)) {
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
    struct meshd_verdict v = meshd_verdict_ask(l->e.netns, l->e.uid, l->e.addr.port);
    bool gone = judge(l, &v);
    free(v.at);
    return gone;
}

/* One dump for each namespace (and user, where the socket is not our own). */
void
meshd_check_all(void)
{
    static uint32_t round;
    bool changed = false;
    struct meshd_listener *l, *first;
    round++;
    while ((first = meshd_listener_unchecked(round)) != NULL) {
        uint64_t netns = first->e.netns;
        uid_t uid = first->e.uid;
        struct meshd_verdict v = meshd_verdict_ask(netns, uid, 0);
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
        meshd_registry_refresh();
    }
}

/* A process that dies with a thousand listeners is one new snapshot, not a thousand. */
void
meshd_check_told(bool lost)
{
    if (stale) {
        stale = false;
        meshd_registry_refresh();
    }
    if (lost) {
        meshd_check_all();
    }
}

void
meshd_registry_unlisten(const struct meshd_peer *peer, const struct mesh_wire_unlisten_req *req)
{
    struct meshd_listener *l = meshd_listener_find(req->netns, req->cookie);
    bool left = l && meshd_left_closed(&l->left, peer->pid); /* a worker may have dropped its privileges */
    if (!l || (!left && peer->uid != 0 && peer->uid != l->e.uid)) {
        return;
    }
    struct meshd_verdict v = meshd_verdict_ask(l->e.netns, l->e.uid, l->e.addr.port);
    bool gone = false;
    if (v.known) {
        l->seen = true; /* it did listen: no grace */
        gone = judge(l, &v);
    } else if (l->e.pid == peer->pid && l->starttime == peer->starttime) {
        withdraw(l, "its process says so");
        gone = true;
    }
    free(v.at);
    if (gone || stay(l, !meshd_left_is_closing(&l->left))) {
        meshd_registry_refresh();
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
        meshd_registry_refresh();
    }
}

uint64_t
meshd_registry_listens_later(const struct meshd_peer *peer, const struct mesh_wire_unlisten_req *req)
{
    uint64_t held = 0;
    if (note_listens(peer, req)) {
        held = meshd_waiting_add(0, NULL);
        if (held == 0) {
            meshd_registry_refresh();
        }
    }
    return held;
}

void
meshd_registry_gone(pid_t pid, uint64_t starttime)
{
    bool changed = false;
    for (struct meshd_listener *l, *next = meshd_listener_first(); (l = next) != NULL;) {
        next = meshd_listener_next(l);
        bool made = l->e.pid == pid && l->starttime == starttime;
        if (made || (l->e.leaving && meshd_left_has(&l->left, pid))) { /* what exits says no more than that it leaves */
            l->seen = true;
            changed |= check_one(l) || stay(l, !meshd_left_is_closing(&l->left));
        }
    }
    if (changed) {
        meshd_registry_refresh();
    }
}
