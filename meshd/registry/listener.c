/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_listener: see listener.h.
 *
 * One listener becomes one snapshot endpoint, and one more for each of its ifaddrs; all have its
 * id and cookie. struct note is what only meshd needs of it, for its next life.
 */
#include "meshd/registry/listener.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "meshd/attest/attest.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/base/proc.h"
#include "meshd/health/health.h"
#include "meshd/policy/config.h"
#include "meshd/registry/drain.h"
#include "meshd/registry/front.h"
#include "meshd/registry/member.h"
#include "meshd/registry/given.h"
#include "meshd/registry/names.h"
#include "meshd/registry/outlier.h"
#include "meshd/registry/service.h"
#include "meshd/registry/snapfile.h"

struct note {
    int32_t pid;
    uint32_t uid;
    uint32_t since_s;
    uint32_t starttime; /* low half: enough to tell processes apart */
};
_Static_assert(sizeof(struct note) == sizeof(((struct mesh_snap_endpoint *)0)->pad), "note");

static struct meshd_listener *table;
static uint32_t last_id; /* never used twice, over restarts too */
static uint64_t entries; /* snapshot endpoints that the table makes */

struct meshd_listener *
meshd_listener_find(uint64_t netns, uint64_t cookie)
{
    struct meshd_listener_key key = {netns, cookie};
    struct meshd_listener *l = NULL;
    HASH_FIND(hh, table, &key, sizeof(key), l);
    return l;
}

struct meshd_listener *
meshd_listener_first(void)
{
    return table;
}

struct meshd_listener *
meshd_listener_next(const struct meshd_listener *l)
{
    return l->hh.next;
}

struct meshd_listener *
meshd_listener_unchecked(uint32_t round)
{
    struct meshd_listener *l = table;
    while (l && l->round == round) {
        l = l->hh.next;
    }
    return l;
}

bool
meshd_listener_has_netns(uint64_t netns)
{
    for (const struct meshd_listener *l = table; l; l = l->hh.next) {
        if (l->e.netns == netns) {
            return true;
        }
    }
    return false;
}

uint32_t
meshd_listener_count(void)
{
    return HASH_COUNT(table);
}

enum mesh_mode
meshd_listener_mode(const struct meshd_listener *l)
{
    return meshd_config_rule_mode(meshd_config_current(), meshd_service_rule(l->service), l->e.addr.port);
}

void
meshd_listener_note_peer(struct meshd_listener *l, const struct meshd_peer *peer)
{
    free(l->exe);
    free(l->unit);
    l->exe = strdup(peer->exe);
    l->unit = strdup(peer->unit);
    l->ruled_by = 0;
}

void
meshd_listener_rule(struct meshd_listener *l)
{
    const struct meshd_config *cfg = meshd_config_current();
    struct meshd_peer peer = {.pid = l->e.pid, .uid = l->e.uid};
    if (l->ruled_by == cfg->serial) {
        return;
    }
    snprintf(peer.exe, sizeof(peer.exe), "%s", l->exe ? l->exe : "");
    snprintf(peer.unit, sizeof(peer.unit), "%s", l->unit ? l->unit : "");
    const struct meshd_workload_rule *r = meshd_config_match_workload(cfg, &peer);
    l->e.weight = r ? r->weight : 1;
    l->e.zone = r && r->zone[0] ? r->zone : cfg->zone;
    l->e.region = r && r->region[0] ? r->region : cfg->region;
    l->e.labels = r ? r->labels : NULL;
    l->e.label_count = r ? r->label_count : 0;
    l->ruled_by = cfg->serial;
}

static bool
is_link_local(const struct mesh_addr *a)
{
    return !mesh_addr_is_v4(a) && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

void
meshd_listener_set_flags(struct meshd_listener *l)
{
    const struct mesh_addr *a = &l->e.addr;
    bool any = mesh_addr_is_any(a), v6 = !mesh_addr_is_v4(a);
    uint8_t v6only = any && v6 ? l->e.flags & MESH_EP_V6ONLY : 0;
    bool inside = any || mesh_addr_is_loopback(a) || is_link_local(a) || !l->global;
    l->e.flags = (uint8_t)((any ? MESH_EP_ANY : 0) | v6only | (inside ? MESH_EP_NETNS : 0));
}

/* The kernel lets a socket bind to addresses of its own namespace only. */
bool
meshd_listener_binds(int fd, const struct mesh_addr *a)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    memcpy(&in.sin_addr, a->ip + 12, 4);
    memcpy(&in6.sin6_addr, a->ip, 16);
    return (mesh_addr_is_v4(a) ? bind(fd, (struct sockaddr *)&in, sizeof(in))
                               : bind(fd, (struct sockaddr *)&in6, sizeof(in6))) == 0;
}

bool
meshd_listener_is_own_address(const struct mesh_addr *a)
{
    int fd = socket(mesh_addr_is_v4(a) ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool is = fd >= 0 && meshd_listener_binds(fd, a);
    if (fd >= 0) {
        close(fd);
    }
    return is;
}

static bool
takes_ifaddr(const struct meshd_listener *l, const struct mesh_addr *a)
{
    bool v4 = mesh_addr_is_v4(a), own_v4 = mesh_addr_is_v4(&l->e.addr);
    bool family = v4 ? own_v4 || !(l->e.flags & MESH_EP_V6ONLY) : !own_v4;
    return family && !mesh_addr_is_any(a) && !mesh_addr_is_loopback(a) && !is_link_local(a) &&
           (v4 ? a->ip[12] < 224 : a->ip[0] != 0xff); /* no multicast */
}

void
meshd_listener_set_ifaddrs(struct meshd_listener *l, const struct mesh_wire_listen_req *req,
                           bool verify)
{
    l->e.ifaddrs = 0;
    if (!(l->e.flags & MESH_EP_ANY) || !l->global) {
        return;
    }
    for (unsigned i = 0; i < req->ifaddrs && i < MESH_WIRE_IFADDRS; i++) {
        struct mesh_addr a = {.port = l->e.addr.port};
        memcpy(a.ip, req->ifaddr[i], 16);
        if (takes_ifaddr(l, &a) && (!verify || meshd_listener_is_own_address(&a))) {
            l->e.ifaddr[l->e.ifaddrs++] = a;
        }
    }
}

uint32_t
meshd_listener_next_id(void)
{
    meshd_snapfile_set_last_id(++last_id);
    return last_id;
}

void
meshd_listener_begin(void)
{
    last_id = meshd_snapfile_last_id();
}

static struct meshd_listener *
listener_new(const struct meshd_listener *want)
{
    struct meshd_listener *l = calloc(1, sizeof(*l));
    if (!l) {
        return NULL;
    }
    l->key = (struct meshd_listener_key){want->e.netns, want->e.cookie};
    l->e.id = meshd_listener_next_id();
    l->e.since_ns = want->e.since_ns;
    HASH_ADD(hh, table, key, sizeof(l->key), l);
    return l;
}

/* Everything but identity, age and place in the tables. Takes the reference to s. */
static void
take_over(struct meshd_listener *l, const struct meshd_listener *want,
          struct meshd_service_entry *s)
{
    struct meshd_listener old = *l;
    if (l->service) {
        meshd_service_put(l->service);
    }
    *l = *want;
    l->key = old.key;
    l->hh = old.hh;
    l->e.id = old.e.id;
    l->e.since_ns = old.e.since_ns;
    l->exe = old.exe;
    l->unit = old.unit;
    l->service = s;
    l->e.service = s->name;
    l->e.zone = l->e.region = "";
    l->e.from = "listener";
}

enum mesh_err
meshd_listener_put(const struct meshd_listener *want, const struct meshd_identity *id,
                   struct meshd_listener **out)
{
    struct meshd_listener *l = meshd_listener_find(want->e.netns, want->e.cookie);
    uint64_t more = 1 + want->e.ifaddrs, less = l ? 1 + l->e.ifaddrs : 0;
    if (!meshd_snapfile_has_room(meshd_service_count() + 1,
                                 entries + meshd_given_count() + meshd_front_count() +
                                     meshd_names_entries() + 2 + more - less)) {
        return MESH_E_NO_MEMORY;
    }
    struct meshd_service_entry *s = meshd_service_get(id->service, id->id);
    if (!s) {
        return MESH_E_NO_MEMORY;
    }
    if (!l) {
        l = listener_new(want);
    }
    if (!l) {
        meshd_service_put(s);
        return MESH_E_NO_MEMORY;
    }
    take_over(l, want, s);
    entries += more - less;
    *out = l;
    return MESH_OK;
}

void
meshd_listener_free(struct meshd_listener *l)
{
    HASH_DEL(table, l);
    entries -= 1 + l->e.ifaddrs;
    meshd_service_put(l->service);
    free(l->exe);
    free(l->unit);
    free(l);
}

void
meshd_listener_free_all(void)
{
    while (table) {
        meshd_listener_free(table);
    }
}

static void
write_listener(struct meshd_listener *l)
{
    meshd_listener_rule(l);
    struct note note = {l->e.pid, l->e.uid, (uint32_t)(l->e.since_ns / 1000000000u),
                        (uint32_t)l->starttime};
    const uint8_t draining = l->e.leaving || meshd_drain_has(&l->e) ? MESH_EP_DRAINING : 0;
    struct meshd_endpoint now = l->e;
    now.flags |= meshd_health_flag(&l->e);
    struct mesh_snap_endpoint e = {
        .port = l->e.addr.port,
        .flags = (uint8_t)(now.flags | draining),
        .mode = (uint8_t)meshd_listener_mode(l),
        .service = l->service->index,
        .netns = l->e.netns,
        .cookie = l->e.cookie,
        .id = l->e.id,
    };
    memcpy(e.addr, l->e.addr.ip, 16);
    memcpy(e.pad, &note, sizeof(note));
    meshd_outlier_meet(&l->e, l->service);
    meshd_member_add(l->service, &now, meshd_snapfile_endpoint(&e), 0);
    e.flags = (uint8_t)((now.flags & MESH_EP_UNHEALTHY) | draining);
    for (unsigned i = 0; i < l->e.ifaddrs; i++) {
        memcpy(e.addr, l->e.ifaddr[i].ip, 16);
        (void)meshd_snapfile_endpoint(&e);
    }
}

uint32_t
meshd_listener_entries(void)
{
    return (uint32_t)entries;
}

void
meshd_listener_write(void)
{
    for (struct meshd_listener *l = table; l; l = l->hh.next) {
        write_listener(l);
    }
}

static void
restore_ifaddr(const struct mesh_snap_endpoint *e, struct meshd_listener *l)
{
    if (!(l->e.flags & MESH_EP_ANY) || l->e.ifaddrs >= MESH_WIRE_IFADDRS) {
        return;
    }
    struct mesh_addr *a = &l->e.ifaddr[l->e.ifaddrs++];
    *a = (struct mesh_addr){.port = e->port};
    memcpy(a->ip, e->addr, 16);
    entries++;
}

void
meshd_listener_restore(const struct mesh_snap_endpoint *e, const struct mesh_snap_service *s,
                       void *arg)
{
    struct meshd_identity id = {0};
    struct meshd_listener *l = meshd_listener_find(e->netns, e->cookie);
    struct note note;
    (void)arg;
    memcpy(&note, e->pad, sizeof(note));
    last_id = e->id > last_id ? e->id : last_id; /* of a file that is not whole, or older */
    if (e->cookie == 0 || !meshd_attest_is_service_name(s->name)) {
        return;
    }
    if (l) {
        restore_ifaddr(e, l);
        return;
    }
    struct meshd_listener want = {
        .e = {.netns = e->netns, .cookie = e->cookie, .pid = note.pid, .uid = note.uid,
              .since_ns = (uint64_t)note.since_s * 1000000000u,
              .flags = e->flags & (MESH_EP_ANY | MESH_EP_V6ONLY | MESH_EP_NETNS)}, /* the rest is found out anew */
        .starttime = meshd_proc_starttime(note.pid),
        .added_ns = meshd_now_ns(),
        .seen = true,
        .global = true,
    };
    if ((uint32_t)want.starttime != note.starttime) {
        want.starttime = 0; /* that process is gone */
    }
    want.e.addr.port = e->port;
    memcpy(want.e.addr.ip, e->addr, 16);
    snprintf(id.service, sizeof(id.service), "%s", s->name);
    if (meshd_attest_id(s->name, id.id) != MESH_OK ||
        meshd_listener_put(&want, &id, &l) != MESH_OK) {
        log_warn("an endpoint of %s could not be taken over", id.service);
        return;
    }
    l->e.id = e->id;
    struct meshd_peer peer = {.pid = note.pid};
    if (want.starttime) { /* it lives */
        meshd_attest_look(&peer);
    }
    meshd_listener_note_peer(l, &peer);
}
