/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_registry: a process's word, that it listens or lets go of a listener, see registry.c.
 */
#include <stdlib.h>
#include <string.h>

#include "meshd/attest/attest.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/base/proc.h"
#include "meshd/registry/lent.h"
#include "meshd/registry/listener.h"
#include "meshd/registry/registry_int.h"
#include "meshd/registry/snapfile.h"
#include "meshd/registry/waiting.h"
#include "meshd/stats/stats.h"

static enum mesh_err
check_request(const struct mesh_wire_listen_req *r)
{
    return r->netns && r->cookie && r->port && r->ifaddrs <= MESH_WIRE_IFADDRS ? MESH_OK
                                                                               : MESH_E_PROTOCOL;
}

/* Does a socket of another user listen where `want` says it will? The kernel allows no two. */
static bool
is_taken(const struct meshd_verdict *v, const struct meshd_listener *want, uid_t uid)
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
    struct meshd_verdict v = meshd_verdict_ask(l->e.netns, peer->uid, l->e.addr.port);
    const struct meshd_listening *k = meshd_verdict_find(&v, l->e.cookie);
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
    meshd_registry_counts.registered++;
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
            meshd_registry_counts.overflowed++;
            meshd_registry_counts.registered--;
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
        e = meshd_registry_republish();
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
    h->any = !meshd_left_has(&h->l->left, pid);
    return h->any;
}

/* Children of fork hold it, too, and whoever has its page may be one; who has said that he let go of it,
 * to us or on the page, does not. Others, to whom it was passed, we do not know: after the close the kernel tells. */
uint32_t
meshd_registry_leave(const struct meshd_peer *peer, const struct mesh_wire_unlisten_req *req)
{
    struct meshd_listener *l = meshd_listener_find(req->netns, req->cookie);
    struct holders h = {.l = l};
    if (!l || !meshd_stats_visit_tree(peer, l->e.pid, l->e.uid, on_holder, &h) ||
        !meshd_left_note(&l->left, peer->pid) || h.any) {
        return 0;
    }
    if (!l->e.leaving) {
        l->e.leaving = true;
        l->leaving_ns = meshd_now_ns();
        log_debug("leaving: endpoint %u of %s", l->e.id, l->e.service);
        meshd_registry_refresh();
        l->left_at = meshd_snapfile_generation();
        if (meshd_proc_watch(peer->pid, peer->starttime) != MESH_OK) { /* it may be about to exit */
            log_warn("cannot watch process %d; the sweep will", (int)peer->pid);
        }
    }
    return meshd_stats_deciding(l->left_at, meshd_snapfile_generation());
}
