/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_serve: see serve.h. Bodies have their exact length already [base/frame.c]; their content is
 * the client's word.
 */
#include "meshd/serve.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "mesh/wire.h"
#include "meshd/attest/attest.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/ident/ca.h"
#include "meshd/ident/handoff.h"
#include "meshd/policy/config.h"
#include "meshd/registry/lent.h"
#include "meshd/registry/registry.h"
#include "meshd/stats/stats.h"

struct caller {
    struct meshd_peer peer;
    struct meshd_identity id;
};

static enum mesh_err
reply_with(struct meshd_reply *rep, const void *body, size_t len)
{
    rep->body = malloc(len);
    if (!rep->body) {
        return MESH_E_NO_MEMORY;
    }
    memcpy(rep->body, body, len);
    rep->len = len;
    return MESH_OK;
}

/* `wish`: MESH_SERVICE_MAX bytes that may lack their NUL. */
static enum mesh_err
identify(const struct meshd_peer *peer, const char *wish, struct meshd_identity *id)
{
    char name[MESH_SERVICE_MAX] = "";
    memcpy(name, wish, sizeof(name) - 1);
    return meshd_attest_identity(peer, name, id);
}

static enum mesh_err
on_attach(const struct meshd_peer *peer, struct meshd_request *req, struct meshd_reply *rep)
{
    struct mesh_wire_attach_req in;
    struct mesh_wire_attach_rep out = {0};
    struct meshd_registry_info info;
    struct meshd_identity id;
    memcpy(&in, req->body, sizeof(in));
    enum mesh_err e = identify(peer, in.service, &id);
    if (e == MESH_OK) {
        e = meshd_stats_attach(peer, &id, in.netns, &out.page_id, &rep->fd[1]);
    }
    if (e != MESH_OK) {
        return e;
    }
    rep->fd[0] = meshd_registry_snapshot_fd();
    if (rep->fd[0] < 0) {
        return MESH_E_SYSTEM;
    }
    meshd_registry_info(&info);
    out.epoch = info.epoch;
    memcpy(out.service, id.service, sizeof(out.service));
    memcpy(out.id, id.id, sizeof(out.id));
    snprintf(out.trust_domain, sizeof(out.trust_domain), "%s",
             meshd_config_current()->trust_domain);
    return reply_with(rep, &out, sizeof(out));
}

static enum mesh_err
pack_svid(const struct meshd_svid *s, struct meshd_reply *rep)
{
    struct mesh_wire_cert_rep head = {
        .not_before = s->info.not_before,
        .not_after = s->info.not_after,
        .renew_at = s->info.renew_at,
        .chain_len = (uint32_t)s->chain_len,
        .key_len = (uint32_t)s->key_len,
        .bundle_len = (uint32_t)s->bundle_len,
    };
    const struct {
        const void *at;
        size_t n;
    } parts[] = {{&head, sizeof(head)}, {s->chain, s->chain_len}, {s->key, s->key_len},
                 {s->bundle, s->bundle_len}};
    size_t total = sizeof(head) + s->chain_len + s->key_len + s->bundle_len, at = 0;
    memcpy(head.id, s->info.id, sizeof(head.id));
    snprintf(head.trust_domain, sizeof(head.trust_domain), "%s",
             meshd_config_current()->trust_domain);
    rep->body = total <= MESH_WIRE_MAX ? malloc(total) : NULL;
    if (!rep->body) {
        return MESH_E_NO_MEMORY;
    }
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        memcpy(rep->body + at, parts[i].at, parts[i].n);
        at += parts[i].n;
    }
    rep->len = total;
    return MESH_OK;
}

/* Without a wish in the request it is that of the process's ATTACH. */
static enum mesh_err
on_cert(const struct meshd_peer *peer, struct meshd_request *req, struct meshd_reply *rep)
{
    struct meshd_identity id;
    struct meshd_svid svid;
    char wish[MESH_SERVICE_MAX] = "";
    if (req->len == sizeof(wish)) {
        memcpy(wish, req->body, sizeof(wish));
    } else {
        meshd_stats_wish(peer, wish);
    }
    enum mesh_err e = identify(peer, wish, &id);
    if (e == MESH_OK) {
        e = meshd_ca_issue(id.service, id.id, meshd_config_current()->cert_ttl_s, peer->pid, &svid);
    }
    if (e != MESH_OK) {
        return e;
    }
    e = pack_svid(&svid, rep);
    meshd_svid_fini(&svid);
    return e;
}

static enum mesh_err
on_listen(const struct meshd_peer *peer, struct meshd_request *req, struct meshd_reply *rep)
{
    struct mesh_wire_listen_req in;
    struct mesh_wire_listen_rep out = {0};
    struct meshd_identity id;
    memcpy(&in, req->body, sizeof(in));
    enum mesh_err e = identify(peer, in.service, &id);
    if (e == MESH_OK) {
        e = meshd_registry_listen_later(peer, &id, &in, &req->fd, &out, &rep->held);
    }
    return e == MESH_OK ? reply_with(rep, &out, sizeof(out)) : e;
}

static enum mesh_err
on_unlisten(const struct meshd_peer *peer, struct meshd_request *req, struct meshd_reply *rep)
{
    struct mesh_wire_unlisten_req in;
    (void)rep;
    memcpy(&in, req->body, sizeof(in));
    meshd_registry_unlisten(peer, &in);
    return MESH_OK;
}

static enum mesh_err
on_leave(const struct meshd_peer *peer, struct meshd_request *req, struct meshd_reply *rep)
{
    struct mesh_wire_unlisten_req in;
    struct mesh_wire_leave_rep out = {0};
    memcpy(&in, req->body, sizeof(in));
    out.deciding = meshd_registry_leave(peer, &in);
    return reply_with(rep, &out, sizeof(out));
}

static enum mesh_err
on_listens(const struct meshd_peer *peer, struct meshd_request *req, struct meshd_reply *rep)
{
    struct mesh_wire_unlisten_req in;
    memcpy(&in, req->body, sizeof(in));
    rep->held = meshd_registry_listens_later(peer, &in);
    return MESH_OK;
}

static enum mesh_err
on_peer(const struct meshd_peer *peer, struct meshd_request *req, struct meshd_reply *rep)
{
    struct mesh_wire_peer_req in;
    struct mesh_wire_peer_rep out = {0};
    struct mesh_addr at = {0};
    (void)peer;
    memcpy(&in, req->body, sizeof(in));
    memcpy(at.ip, in.addr, 16);
    at.port = in.port;
    /* A client of this host, whose connect has just begun. In this order: it may get its address in between. */
    bool near = memcmp(at.ip + 12, in.to_tail, 4) == 0 || meshd_registry_is_own_address(&at);
    uint64_t since = meshd_real_ns() - (uint64_t)meshd_config_current()->handshake_timeout_ms * 1000000;
    bool coming = in.to != 0 && near && meshd_stats_is_coming(in.netns, in.to_tail, in.to, since);
    out.known = meshd_stats_is_client(in.netns, &at, since) ? MESH_PEER_YES : coming ? MESH_PEER_COMING : MESH_PEER_NO;
    return reply_with(rep, &out, sizeof(out));
}

/* What connect() can be called on. */
static bool
is_fresh_tcp(int fd)
{
    int type = 0, protocol = 0;
    socklen_t len = sizeof(int);
    struct sockaddr_storage sa;
    socklen_t sa_len = sizeof(sa);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 && protocol == IPPROTO_TCP &&
           getpeername(fd, (struct sockaddr *)&sa, &sa_len) < 0 && errno == ENOTCONN;
}

/* To listed endpoints only, where the caller stands: in our own namespace, or by the socket that he made there. Nobody
 * reaches through us what he could not reach himself. He has a copy of the socket and could make it block, so not
 * everybody may bring one. */
static enum mesh_err
on_handoff(const struct meshd_peer *peer, struct meshd_request *req, struct meshd_reply *rep)
{
    struct mesh_wire_handoff_req in;
    struct meshd_identity id;
    struct mesh_addr to = {0};
    char wish[MESH_SERVICE_MAX];
    (void)rep;
    memcpy(&in, req->body, sizeof(in));
    in.expect_id[sizeof(in.expect_id) - 1] = '\0';
    if (in.len != req->len - sizeof(in)) {
        return MESH_E_PROTOCOL;
    }
    memcpy(to.ip, in.addr, 16);
    to.port = in.port;
    bool elsewhere = in.netns != meshd_registry_netns() && meshd_peer_is_privileged(peer) && is_fresh_tcp(req->fd);
    int there = elsewhere ? req->fd : -1;
    if (!meshd_registry_is_local_endpoint(in.netns, &to, there)) {
        return MESH_E_DENIED;
    }
    meshd_stats_wish(peer, wish);
    enum mesh_err e = identify(peer, wish, &id);
    if (e != MESH_OK) {
        return e;
    }
    const struct meshd_handoff_job job = {
        .to = to, .service = id.service, .id = id.id, .expect_id = in.expect_id,
        .data = req->body + sizeof(in), .len = in.len, .pid = peer->pid, .fd = there,
    };
    req->fd = elsewhere ? -1 : req->fd; /* it is the job's */
    return meshd_handoff_start(&job);
}

static enum mesh_err
on_lend(const struct meshd_peer *peer, struct meshd_request *req, struct meshd_reply *rep)
{
    struct mesh_wire_lend_req in;
    (void)rep;
    memcpy(&in, req->body, sizeof(in));
    return meshd_lent_put(peer, in.cookie, &req->fd);
}

static enum mesh_err
on_claim(const struct meshd_peer *peer, struct meshd_request *req, struct meshd_reply *rep)
{
    struct mesh_wire_claim_rep out = {0};
    out.known = meshd_lent_get(peer, req->fd, &rep->fd[0]);
    return reply_with(rep, &out, sizeof(out));
}

static enum mesh_err
on_live(const struct meshd_peer *peer, struct meshd_request *req, struct meshd_reply *rep)
{
    (void)peer;
    (void)req;
    rep->fd[0] = meshd_registry_live_fd();
    return rep->fd[0] >= 0 ? MESH_OK : MESH_E_SYSTEM;
}

typedef enum mesh_err serve_fn(const struct meshd_peer *peer, struct meshd_request *req,
                               struct meshd_reply *rep);

static const struct {
    const char *name;
    serve_fn *fn;
} requests[] = {
    [MESH_WIRE_ATTACH] = {"attach", on_attach},
    [MESH_WIRE_CERT] = {"cert", on_cert},
    [MESH_WIRE_LISTEN] = {"listen", on_listen},
    [MESH_WIRE_UNLISTEN] = {"unlisten", on_unlisten},
    [MESH_WIRE_PEER] = {"peer", on_peer},
    [MESH_WIRE_HANDOFF] = {"handoff", on_handoff},
    [MESH_WIRE_LEND] = {"lend", on_lend},
    [MESH_WIRE_CLAIM] = {"claim", on_claim},
    [MESH_WIRE_LIVE] = {"live", on_live},
    [MESH_WIRE_LEAVE] = {"leave", on_leave},
    [MESH_WIRE_LISTENS] = {"listens", on_listens},
};

void
meshd_serve(struct meshd_request *req, struct meshd_reply *rep)
{
    struct meshd_peer peer;
    if (req->type >= sizeof(requests) / sizeof(requests[0]) || !requests[req->type].fn) {
        rep->err = MESH_E_PROTOCOL;
        return;
    }
    rep->err = meshd_attest_peer(req->sock, &peer);
    if (rep->err == MESH_OK) {
        rep->err = requests[req->type].fn(&peer, req, rep);
    }
    if (rep->err != MESH_OK) {
        log_warn("%s: %s", requests[req->type].name, mesh_err_text(rep->err));
    }
}
