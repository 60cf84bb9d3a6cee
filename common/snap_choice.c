/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap_choice: see snap.h: from an address of a service to the endpoints that a connection may go to:
 * the router's rules, the split, groups and tiers. Which of them it is, is the caller's to choose.
 */
#include <string.h>

#include "common/snap_int.h"

static const struct mesh_snap_view *
view_of(const struct mesh_snap_choice *c)
{
    return c->view;
}

static enum mesh_err
try_choose(const struct mesh_snap_view *v, void *arg)
{
    struct mesh_snap_query *q = arg;
    enum mesh_err e = mesh_snap_try_find(v, arg);
    const struct mesh_snap_choice c = {v, q->hit, q->plan.is_known ? &q->plan : NULL};
    bool asked = e == MESH_OK && q->score && q->hit->endpoint.flags & MESH_EP_SERVICE;
    return asked ? q->choose(&c, q->arg) : e;
}

enum mesh_err
mesh_snap_choose(const struct mesh_snap *s, uint64_t netns, const struct mesh_addr *a,
                 struct mesh_snap_hit *hit, bool *found, mesh_snap_choose_fn *choose, void *arg)
{
    struct mesh_snap_query q; /* not zeroed: most of it is the attempt's to fill in */
    q.netns = netns;
    q.addr = *a;
    q.hit = hit;
    q.score = 0;
    q.endpoints_only = q.is_kept = false;
    q.choose = choose;
    q.arg = arg;
    enum mesh_err e = mesh_snap_attempt(s, try_choose, &q);
    mesh_snap_keep(s, &q);
    if (e == MESH_OK) {
        *found = q.score > 0;
        hit->needs_local = false; /* an address of a service is no interface's */
    }
    return e;
}

/* ---- router and splitter ---- */

/* As fnmatch(3) with FNM_PATHNAME and without brackets; that one loads conversions and may allocate. What a user
 * calls his units, user@UID/NAME, is not to pass for the host's: nothing but a slash matches one. */
static bool
matches(const char *pattern, const char *text)
{
    const char *star = NULL, *from = NULL;
    while (*text) {
        if (*pattern == '*') {
            star = ++pattern;
            from = text;
        } else if ((*pattern == '?' && *text != '/') || *pattern == *text) {
            pattern++;
            text++;
        } else if (star && *from != '/') {
            pattern = star;
            text = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return !*pattern;
}

static bool
route_takes(const struct mesh_snap_route *r, const struct mesh_snap_client *who, const struct mesh_addr *to)
{
    return (r->port == 0 || r->port == to->port) && (r->uid == MESH_SNAP_NONE || r->uid == who->uid) &&
           (!r->source[0] || strcmp(r->source, who->service) == 0) &&
           mesh_addr_in(to, r->net, r->prefix) && (!r->unit[0] || matches(r->unit, who->unit));
}

/* The target whose part of the weights `draw` of 2^32 falls into. */
static enum mesh_err
split(const struct mesh_snap_view *v, const struct mesh_snap_part *p, uint32_t draw,
      struct mesh_snap_target *out)
{
    enum mesh_err e = MESH_E_SNAPSHOT;
    if (p->count == 0 || !mesh_snap_has(v, MESH_SNAP_TARGETS, p)) {
        return e;
    }
    e = mesh_snap_get(v, MESH_SNAP_TARGETS, p->first + p->count - 1, out);
    uint32_t unit = (uint32_t)((uint64_t)draw * out->upto >> 32);
    for (uint32_t i = 0; e == MESH_OK && i < p->count; i++) {
        e = mesh_snap_get(v, MESH_SNAP_TARGETS, p->first + i, out);
        if (e != MESH_OK || unit < out->upto) {
            return e;
        }
    }
    return MESH_E_SNAPSHOT;
}

enum mesh_err
mesh_snap_route(const struct mesh_snap_choice *c, const struct mesh_snap_client *who,
                const struct mesh_addr *asked, uint32_t draw, struct mesh_snap_target *out, uint32_t *rule)
{
    const struct mesh_snap_part *p = &c->hit->service.routes;
    *rule = MESH_SNAP_NONE;
    for (uint32_t i = 0; i < p->count; i++) {
        struct mesh_snap_route r;
        enum mesh_err e = mesh_snap_get(view_of(c), MESH_SNAP_ROUTES, p->first + i, &r);
        if (e != MESH_OK) {
            return e;
        }
        r.source[sizeof(r.source) - 1] = r.unit[sizeof(r.unit) - 1] = '\0';
        if (route_takes(&r, who, asked)) {
            *rule = i;
            return split(view_of(c), &r.targets, draw, out);
        }
    }
    *out = (struct mesh_snap_target){.service = c->hit->endpoint.service};
    return MESH_OK;
}

enum mesh_err
mesh_snap_route_name(const struct mesh_snap_choice *c, uint32_t rule, uint64_t *out)
{
    const struct mesh_snap_part *p = &c->hit->service.routes;
    struct mesh_snap_route r;
    *out = 0;
    if (rule >= p->count) {
        return MESH_OK;
    }
    enum mesh_err e = mesh_snap_get(view_of(c), MESH_SNAP_ROUTES, p->first + rule, &r);
    *out = e == MESH_OK ? r.name : 0;
    return e;
}

enum mesh_err
mesh_snap_split(const struct mesh_snap_choice *c, uint32_t rule, uint32_t i, struct mesh_snap_target *out)
{
    const struct mesh_snap_part *p = &c->hit->service.routes;
    struct mesh_snap_route r;
    if (rule >= p->count) {
        return MESH_E_NO_ENDPOINT;
    }
    enum mesh_err e = mesh_snap_get(view_of(c), MESH_SNAP_ROUTES, p->first + rule, &r);
    if (e != MESH_OK || i >= r.targets.count) {
        return e == MESH_OK ? MESH_E_NO_ENDPOINT : e;
    }
    return mesh_snap_get(view_of(c), MESH_SNAP_TARGETS, r.targets.first + i, out);
}

enum mesh_err
mesh_snap_failover(const struct mesh_snap_choice *c, const struct mesh_snap_part *targets, uint32_t i,
                   struct mesh_snap_target *out)
{
    return i < targets->count ? mesh_snap_get(view_of(c), MESH_SNAP_TARGETS, targets->first + i, out)
                              : MESH_E_NO_ENDPOINT;
}

/* ---- resolver: the endpoints ---- */

enum mesh_err
mesh_snap_target_service(const struct mesh_snap_choice *c, const struct mesh_snap_target *t,
                         struct mesh_snap_service *room, const struct mesh_snap_service **out)
{
    bool asked = t->service == c->hit->endpoint.service;
    *out = asked ? &c->hit->service : room;
    return asked ? MESH_OK : mesh_snap_get_service(view_of(c), t->service, room);
}

enum mesh_err
mesh_snap_group(const struct mesh_snap_choice *c, const struct mesh_snap_service *s, uint32_t subset,
                uint16_t port, struct mesh_snap_group *out)
{
    struct mesh_snap_group g;
    bool found = false;
    if (c->plan && s == &c->hit->service && subset == c->plan->group.subset && port == c->plan->group.port) {
        *out = c->plan->group;
        return MESH_OK;
    }
    for (uint32_t i = 0; i < s->groups.count; i++) {
        enum mesh_err e = mesh_snap_get(view_of(c), MESH_SNAP_GROUPS, s->groups.first + i, &g);
        if (e != MESH_OK) {
            return e;
        }
        if (g.subset == subset && g.port == port) {
            *out = g;
            found = true;
            break;
        }
    }
    if (!found) {
        return MESH_E_NO_ENDPOINT;
    }
    return mesh_snap_has(view_of(c), MESH_SNAP_TIERS, &out->tiers) ? MESH_OK : MESH_E_SNAPSHOT;
}

enum mesh_err
mesh_snap_tier(const struct mesh_snap_choice *c, const struct mesh_snap_group *g, uint32_t i,
               struct mesh_snap_tier *out)
{
    if (i >= g->tiers.count) {
        return MESH_E_NO_ENDPOINT;
    }
    if (c->plan && g->tiers.first + i == c->plan->group.tiers.first) {
        *out = c->plan->tier;
        return MESH_OK;
    }
    enum mesh_err e = mesh_snap_get(view_of(c), MESH_SNAP_TIERS, g->tiers.first + i, out);
    bool good = e == MESH_OK && mesh_snap_has(view_of(c), MESH_SNAP_MEMBERS, &out->members) &&
                out->healthy <= out->members.count;
    return good ? MESH_OK : MESH_E_SNAPSHOT;
}

/* What part of the tier is healthy, in percent; Envoy's factor 1.4 says how much it may bear. */
static unsigned
capacity(const struct mesh_snap_tier *t)
{
    if (t->healthy == t->members.count) {
        return t->members.count ? 100 : 0; /* nearly always, and without a division */
    }
    unsigned p = (unsigned)((uint64_t)t->healthy * 140 / t->members.count);
    return p < 100 ? p : 100;
}

/* Which tier has the n-th percent of what all can bear. *left: what nobody bears. */
static enum mesh_err
tier_at(const struct mesh_snap_choice *c, const struct mesh_snap_group *g, unsigned n, uint32_t *index, unsigned *left)
{
    struct mesh_snap_tier t;
    unsigned sum = 0;
    *index = MESH_SNAP_NONE;
    for (uint32_t i = 0; i < g->tiers.count && sum < 100; i++) {
        enum mesh_err e = mesh_snap_tier(c, g, i, &t);
        if (e != MESH_OK) {
            return e;
        }
        sum += capacity(&t);
        if (*index == MESH_SNAP_NONE && n < sum) {
            *index = i;
        }
    }
    *left = sum < 100 ? 100 - sum : 0;
    return MESH_OK;
}

enum mesh_err
mesh_snap_first_tier(const struct mesh_snap_choice *c, const struct mesh_snap_group *g, uint32_t draw,
                     uint32_t *first, bool *lacks)
{
    unsigned left = 0;
    if (g->tiers.count == 0) {
        return MESH_E_NO_ENDPOINT;
    }
    if (c->plan && g->tiers.first == c->plan->group.tiers.first && capacity(&c->plan->tier) == 100) {
        *first = 0; /* the best one bears all */
        *lacks = false;
        return MESH_OK;
    }
    enum mesh_err e = tier_at(c, g, draw % 100, first, &left);
    if (e == MESH_OK && *first == MESH_SNAP_NONE && left < 100) {
        e = tier_at(c, g, draw % (100 - left), first, &left);
    }
    *first = *first == MESH_SNAP_NONE ? 0 : *first;
    *lacks = left > 0;
    return e;
}

enum mesh_err
mesh_snap_list(const struct mesh_snap_choice *c, const struct mesh_snap_service *s,
               const struct mesh_snap_tier *t, bool all, struct mesh_snap_list *out)
{
    struct mesh_snap_member last = {.upto = 0};
    uint32_t n = all ? t->members.count : t->healthy;
    if (c->plan && !all && t->members.first == c->plan->tier.members.first && n == c->plan->tier.healthy) {
        *out = (struct mesh_snap_list){c->view, s, t->members.first, n, c->plan->total};
        return MESH_OK;
    }
    enum mesh_err e =
        n ? mesh_snap_get(view_of(c), MESH_SNAP_MEMBERS, t->members.first + n - 1, &last) : MESH_OK;
    *out = (struct mesh_snap_list){c->view, s, t->members.first, n, last.upto};
    return e;
}

static enum mesh_err
get_member(const struct mesh_snap_list *l, uint32_t i, struct mesh_snap_member *out)
{
    return mesh_snap_get(l->view, MESH_SNAP_MEMBERS, l->first + i, out);
}

void
mesh_snap_plan(const struct mesh_snap_view *v, const struct mesh_snap_hit *hit, uint16_t port, struct mesh_snap_plan *out)
{
    const struct mesh_snap_choice c = {v, hit, NULL};
    struct mesh_snap_list l = {.total = 0};
    memset(out, 0, sizeof(*out));
    enum mesh_err e = mesh_snap_group(&c, &hit->service, 0, hit->endpoint.flags & MESH_EP_PORT ? port : 0, &out->group);
    e = e == MESH_OK ? mesh_snap_tier(&c, &out->group, 0, &out->tier) : e;
    e = e == MESH_OK ? mesh_snap_list(&c, &hit->service, &out->tier, false, &l) : e;
    out->total = l.total;
    out->is_known = e == MESH_OK;
}

/* Where it would lie with equal weights. */
static uint32_t
likely_at(const struct mesh_snap_list *l, uint32_t n)
{
    if (n >= l->total) {
        return 0;
    }
    return l->count == l->total ? n : (uint32_t)((uint64_t)n * l->count / l->total);
}

/* It lies there, or beside, or is searched for. */
enum mesh_err
mesh_snap_weigh(const struct mesh_snap_list *l, uint32_t n, uint32_t *index)
{
    uint32_t low = 0, high = l->count, at = likely_at(l, n);
    for (bool first = true; low < high; first = false) {
        struct mesh_snap_member m;
        enum mesh_err e = get_member(l, at, &m);
        if (e != MESH_OK) {
            return e;
        }
        if (m.upto > n) {
            high = at;
            at = high - 1;
        } else {
            low = at + 1;
            at = low;
        }
        at = first ? at : low + (high - low) / 2;
    }
    *index = low;
    return low < l->count ? MESH_OK : MESH_E_SNAPSHOT;
}

/* Which units of weight it has: those from *from to before m->upto. */
static enum mesh_err
get_units(const struct mesh_snap_list *l, uint32_t i, uint32_t *from, struct mesh_snap_member *m)
{
    struct mesh_snap_member before = {.upto = 0};
    if (i >= l->count) {
        return MESH_E_SNAPSHOT;
    }
    enum mesh_err e = get_member(l, i, m);
    if (e == MESH_OK && i > 0) {
        e = get_member(l, i - 1, &before);
    }
    *from = before.upto;
    return e == MESH_OK && m->upto < before.upto ? MESH_E_SNAPSHOT : e;
}

static enum mesh_err
get_endpoint_of(const struct mesh_snap_list *l, const struct mesh_snap_member *m, struct mesh_snap_endpoint *ep)
{
    enum mesh_err e = mesh_snap_get_endpoint(l->view, m->endpoint, ep);
    return e == MESH_OK && (ep->id != m->id || ep->flags & MESH_EP_SERVICE) ? MESH_E_SNAPSHOT : e;
}

enum mesh_err
mesh_snap_member(const struct mesh_snap_list *l, uint32_t i, struct mesh_snap_endpoint *ep,
                 uint32_t *weight)
{
    struct mesh_snap_member m;
    uint32_t from = 0;
    enum mesh_err e = get_units(l, i, &from, &m);
    if (e != MESH_OK) {
        return e;
    }
    *weight = m.upto - from;
    return get_endpoint_of(l, &m, ep);
}

enum mesh_err
mesh_snap_member_at(const struct mesh_snap_list *l, uint32_t n, uint32_t *index, struct mesh_snap_endpoint *ep,
                    uint32_t *weight)
{
    struct mesh_snap_member m;
    uint32_t from = 0, i = likely_at(l, n);
    enum mesh_err e = i < l->count ? get_units(l, i, &from, &m) : MESH_E_SNAPSHOT;
    if (e == MESH_OK && (n < from || n >= m.upto)) {
        e = mesh_snap_weigh(l, n, &i);
        e = e == MESH_OK ? get_units(l, i, &from, &m) : e;
    }
    if (e != MESH_OK) {
        return e;
    }
    *index = i;
    *weight = m.upto - from;
    return get_endpoint_of(l, &m, ep);
}
