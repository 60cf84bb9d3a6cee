/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_pick: see pick.h.
 */
#include "shim/route/pick.h"

#include <netinet/in.h>
#include <string.h>

#include "common/hash.h"
#include "shim/core/live.h"
#include "shim/core/rand.h"
#include "shim/link/link.h"
#include "shim/route/client.h"
#include "shim/route/hash.h"
#include "shim/real.h"

#define DRAWS 4 /* of random ones, before the next usable one will do */

void
shim_pick_init(struct shim_pick *p, int fd)
{
    int domain = AF_INET, only = 0;
    socklen_t len = sizeof(domain);
    (void)sys_getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
    len = sizeof(only);
    if (domain == AF_INET6) {
        (void)sys_getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &len);
    }
    *p = (struct shim_pick){.netns = shim_link_netns(fd), .family = domain, .v6only = only != 0, .fd = fd};
}

/* Where a socket of this kind reaches ep; false: nowhere. */
static bool
reach(const struct shim_pick *p, const struct mesh_snap_endpoint *ep, struct mesh_addr *to)
{
    static const uint8_t v4_loopback[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};
    static const uint8_t v6_loopback[16] = {[15] = 1};
    *to = (struct mesh_addr){.port = ep->port};
    memcpy(to->ip, ep->addr, 16);
    if (ep->flags & MESH_EP_ANY) {
        bool dual = !mesh_addr_is_v4(to) && !(ep->flags & MESH_EP_V6ONLY);
        bool v4 = mesh_addr_is_v4(to) || (dual && p->family == AF_INET);
        memcpy(to->ip, v4 ? v4_loopback : v6_loopback, 16);
    }
    bool v6 = p->family == AF_INET6 && !mesh_addr_is_link_local(to); /* an endpoint names no interface */
    return mesh_addr_is_v4(to) ? p->family == AF_INET || !p->v6only : v6;
}

static bool
was_tried(const struct shim_pick *p, uint32_t id)
{
    for (uint32_t i = 0; i < p->tried_count && i < SHIM_PICK_MAX; i++) {
        if (p->tried[i] == id) {
            return true;
        }
    }
    return false;
}

/* To a listener in mode off nothing of the mesh may go. */
static bool
is_usable(const struct shim_lb *lb, struct shim_candidate *c)
{
    const struct mesh_snap_endpoint *ep = &c->endpoint;
    return c->weight > 0 && ep->mode != MESH_MODE_OFF &&
           !(ep->flags & MESH_EP_DRAINING) && !(lb->healthy_only && ep->flags & MESH_EP_UNHEALTHY) &&
           (!(ep->flags & MESH_EP_NETNS) || ep->netns == lb->who->netns) &&
           !was_tried(lb->who, ep->id) && reach(lb->who, ep, &c->to) &&
           shim_outlier_admits(lb->state, lb->list->service, ep->id);
}

enum mesh_err
shim_lb_look(const struct shim_lb *lb, uint32_t i, struct shim_candidate *out, bool *usable)
{
    enum mesh_err e = mesh_snap_member(lb->list, i, &out->endpoint, &out->weight);
    *usable = e == MESH_OK && is_usable(lb, out);
    return e;
}

static enum mesh_err
look_at_unit(const struct shim_lb *lb, uint32_t n, uint32_t *i, struct shim_candidate *out, bool *usable)
{
    enum mesh_err e = mesh_snap_member_at(lb->list, n, i, &out->endpoint, &out->weight);
    *usable = e == MESH_OK && is_usable(lb, out);
    return e;
}

enum mesh_err
shim_lb_at(const struct shim_lb *lb, uint32_t n, struct shim_candidate *out)
{
    uint32_t i = 0;
    bool usable = false;
    if (lb->list->total == 0) {
        return MESH_E_NO_ENDPOINT;
    }
    enum mesh_err e = look_at_unit(lb, n % lb->list->total, &i, out, &usable);
    for (uint32_t k = 1; e == MESH_OK && !usable && k < lb->list->count; k++) {
        e = shim_lb_look(lb, (i + k) % lb->list->count, out, &usable);
    }
    return e == MESH_OK && !usable ? MESH_E_NO_ENDPOINT : e;
}

enum mesh_err
shim_lb_draw(const struct shim_lb *lb, struct shim_candidate *out)
{
    uint32_t total = lb->list->total, i = 0;
    for (unsigned k = 0; total > 0 && k < DRAWS; k++) {
        bool usable = false;
        enum mesh_err e = look_at_unit(lb, shim_rand_next_below(lb->random, total), &i, out, &usable);
        if (e != MESH_OK || usable) {
            return e;
        }
    }
    return shim_lb_at(lb, shim_rand_next_below(lb->random, total), out);
}

/* ---- from the address to the endpoints ---- */

struct choice {
    struct shim_pick *who;
    const struct mesh_addr *asked;
    const struct mesh_snap_service *service; /* whose endpoints are looked at: in the hit, or in out->other */
    struct shim_candidate *out;
    struct shim_outlier state;
    uint32_t draw; /* which tier */
    uint64_t random;
    bool hashed;   /* by ring_hash or maglev */
};

static enum mesh_err
balance(const struct shim_lb *lb, struct choice *c)
{
    switch (c->service->load_balancer) {
    case MESH_LB_ROUND_ROBIN:
        if (!c->who->has_turn) {
            c->who->turn = shim_live_turn(c->service->name);
            c->who->has_turn = true;
        }
        return shim_lb_round_robin(lb, c->out);
    case MESH_LB_RANDOM:
        return shim_lb_random(lb, c->out);
    case MESH_LB_PEAK_EWMA:
        return shim_lb_peak_ewma(lb, c->out);
    case MESH_LB_RING_HASH:
        return shim_lb_ring_hash(lb, c->out);
    case MESH_LB_MAGLEV:
        return shim_lb_maglev(lb, c->out);
    default:
        return shim_lb_least_request(lb, c->out);
    }
}

/* ring_hash and maglev have a table of all members, whose health changes nothing in it. Who warms up is not passed over
 * by chance: the same key is to lead to the same endpoint. */
static enum mesh_err
in_hashed_tier(const struct mesh_snap_choice *at, const struct mesh_snap_tier *t, bool all, struct choice *c)
{
    struct mesh_snap_list l;
    struct mesh_snap_hashes table;
    uint32_t among = all ? t->members.count : t->healthy;
    if (among == 0) {
        return MESH_E_NO_ENDPOINT;
    }
    enum mesh_err e = mesh_snap_list(at, c->service, t, true, &l);
    e = e == MESH_OK ? mesh_snap_hashes(at, c->service, t, &table) : e;
    if (e != MESH_OK) {
        return e;
    }
    const struct shim_lb lb = {.list = &l, .who = c->who, .state = &c->state, .random = &c->random, .table = &table,
                               .hash = c->who->hash, .among = among, .healthy_only = !all};
    c->state.cold_too = true;
    return balance(&lb, c);
}

static enum mesh_err
in_tier(const struct mesh_snap_choice *at, const struct mesh_snap_tier *t, bool all, struct choice *c)
{
    struct mesh_snap_list l;
    if (c->hashed) {
        return in_hashed_tier(at, t, all, c);
    }
    enum mesh_err e = mesh_snap_list(at, c->service, t, all, &l);
    const struct shim_lb lb = {.list = &l, .who = c->who, .state = &c->state, .random = &c->random};
    if (e == MESH_OK) {
        do {
            e = balance(&lb, c);
        } while (shim_outlier_again_cold(&c->state, e));
    }
    return e;
}

/* One after the other from `first` on: what of them is healthy, or all. */
static enum mesh_err
each_tier(const struct mesh_snap_choice *at, const struct mesh_snap_group *g, uint32_t first, bool all,
          struct choice *c)
{
    enum mesh_err e = MESH_E_NO_ENDPOINT;
    for (uint32_t k = 0; e == MESH_E_NO_ENDPOINT && k < g->tiers.count; k++) {
        struct mesh_snap_tier t;
        uint32_t i = first + k;
        e = mesh_snap_tier(at, g, i < g->tiers.count ? i : i - g->tiers.count, &t);
        bool panics = e == MESH_OK && t.members.count &&
                      (uint64_t)t.healthy * 100 < (uint64_t)t.members.count * c->service->panic_threshold;
        if (e == MESH_OK) {
            e = in_tier(at, &t, all && panics, c);
        }
    }
    return e;
}

static enum mesh_err
in_group(const struct mesh_snap_choice *at, const struct mesh_snap_group *g, struct choice *c)
{
    uint32_t first = 0;
    bool lacks = false;
    enum mesh_err e = mesh_snap_first_tier(at, g, c->draw, &first, &lacks);
    return e == MESH_OK ? each_tier(at, g, first, lacks, c) : e;
}

/* As in Envoy, the key that leads to an endpoint leads to its priority, too. */
static void
draw_tier(struct choice *c)
{
    c->hashed = mesh_hash_is_used(c->service->load_balancer);
    c->draw = c->who->draw;
    if (c->hashed) {
        c->draw = mesh_hash_draw(shim_hash_of(c->who, c->service, c->asked));
    }
}

static enum mesh_err
in_target(const struct mesh_snap_choice *at, const struct mesh_snap_target *t, struct choice *c)
{
    struct mesh_snap_group g;
    bool of_port = at->hit->endpoint.flags & MESH_EP_PORT;
    enum mesh_err e = mesh_snap_target_service(at, t, &c->out->other, &c->service);
    if (e == MESH_OK) {
        draw_tier(c);
        e = mesh_snap_group(at, c->service, t->subset, of_port ? c->asked->port : 0, &g);
    }
    return e == MESH_OK ? in_group(at, &g, c) : e;
}

static enum mesh_err
fail_over(const struct mesh_snap_choice *at, struct choice *c)
{
    const struct mesh_snap_part targets = c->service->failover;
    enum mesh_err e = MESH_E_NO_ENDPOINT;
    for (uint32_t i = 0; e == MESH_E_NO_ENDPOINT; i++) {
        struct mesh_snap_target t;
        if (mesh_snap_failover(at, &targets, i, &t) != MESH_OK) {
            break;
        }
        e = in_target(at, &t, c);
    }
    return e;
}

/* Route, split, and the endpoints; then, when none is left, where they fail over to. */
static enum mesh_err
choose(const struct mesh_snap_choice *at, void *arg)
{
    struct choice *c = arg;
    struct mesh_snap_target t;
    uint32_t rule;
    c->service = &at->hit->service;
    if (at->hit->service.routes.count && !c->who->client.service) {
        shim_client_get(&c->who->client);
    }
    enum mesh_err e = mesh_snap_route(at, &c->who->client, c->asked, c->who->draw, &t, &rule);
    if (e == MESH_OK) {
        e = mesh_snap_route_name(at, rule, &c->out->route);
    }
    if (e == MESH_OK) {
        e = in_target(at, &t, c);
    }
    if (e == MESH_E_NO_ENDPOINT) {
        e = fail_over(at, c);
    }
    c->out->service = c->service;
    return e;
}

enum mesh_err
shim_pick(struct shim_pick *p, const struct mesh_snap *snap, const struct mesh_addr *asked,
          struct mesh_snap_hit *hit, struct shim_candidate *out)
{
    struct choice c;
    bool found = false;
    c.who = p;
    c.asked = asked;
    c.out = out;
    out->service = &hit->service;
    c.state = (struct shim_outlier){0};
    c.random = shim_rand();
    if (p->tried_count >= SHIM_PICK_MAX) {
        return MESH_E_NO_ENDPOINT;
    }
    if (!p->has_draw) {
        p->draw = (uint32_t)(c.random >> 32);
        p->has_draw = true;
    }
    enum mesh_err e = MESH_OK;
    do {
        e = mesh_snap_choose(snap, p->netns, asked, hit, &found, choose, &c);
        if (e == MESH_OK && (!found || !(hit->endpoint.flags & MESH_EP_SERVICE))) {
            return MESH_E_NO_ENDPOINT; /* it was an address of a service a moment ago */
        }
    } while (shim_outlier_again(&c.state, e, out->service, out->endpoint.id, &out->probe));
    if (e != MESH_OK) {
        return e == MESH_E_NO_ENDPOINT && c.state.full ? MESH_E_OVERFLOW : e;
    }
    p->tried[p->tried_count++] = out->endpoint.id;
    return MESH_OK;
}
