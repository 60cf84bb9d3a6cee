/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_member: see member.h.
 *
 * A member is an address that one can connect to, not a listener: of several listeners on one address
 * (SO_REUSEPORT), and of a listener that the configuration names too, one is listed; the
 * configuration's word goes first, for it has the weight.
 *
 *   service ─┬─ group: all        ─┬─ tier: priority 0, same zone ── members, healthy ones first
 *            ├─ group: port 80     ├─ tier: priority 0, elsewhere
 *            ├─ group: subset 1    └─ tier: priority 1 ...
 *            └─ group: subset 1, port 80 ...
 */
#include "meshd/registry/member.h"

#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "meshd/base/log.h"
#include "meshd/policy/config.h"
#include "meshd/registry/listener.h"
#include "meshd/registry/source.h"
#include "meshd/registry/service.h"
#include "meshd/registry/snapfile.h"
#include "meshd/registry/table.h"

struct member {
    uint32_t service, endpoint, id, weight;
    unsigned given; /* who names it: of several the greatest; 0: it registered */
    bool named; /* a wildcard, and the configuration names an address of it */
    bool sick;
    bool mixed; /* healthy and unhealthy ones lie in one row: a table knows them by their place */
    uint8_t flags, priority, distance;
    uint64_t netns;
    struct mesh_addr addr;
    const struct meshd_label_rule *labels; /* but for fixed endpoints, see sort_rules */
    size_t label_count;
};

/* Of one service, in order. */
struct members {
    const struct member *at;
    size_t n;
    const struct meshd_service_rule *rule; /* NULL: not configured */
    const struct meshd_endpoint_rule **rules; /* its endpoints by address, for subsets; NULL: not needed */
};

static struct member *members;
static size_t member_count, member_room;

static uint8_t
distance_of(const struct meshd_endpoint *e)
{
    const struct meshd_config *cfg = meshd_config_current();
    if (!cfg->zone[0]) {
        return MESH_SAME_ZONE; /* nobody knows */
    }
    if (strcmp(e->zone, cfg->zone) == 0 && strcmp(e->region, cfg->region) == 0) {
        return MESH_SAME_ZONE;
    }
    return cfg->region[0] && strcmp(e->region, cfg->region) == 0 ? MESH_SAME_REGION : MESH_ELSEWHERE;
}

void
meshd_member_add(const struct meshd_service_entry *s, const struct meshd_endpoint *e, uint32_t index,
                 unsigned given)
{
    if ((s->addresses == 0 && !s->has_vaddr) || index == MESH_SNAP_NONE) {
        return; /* nobody can ask */
    }
    if (member_count == member_room) {
        size_t room = member_room ? 2 * member_room : 64;
        struct member *more = realloc(members, room * sizeof(*more));
        if (!more) {
            log_error("an endpoint of %s is not chosen: out of memory", s->name);
            return;
        }
        members = more;
        member_room = room;
    }
    members[member_count++] = (struct member){
        .service = s->index, .endpoint = index, .id = e->id, .weight = e->weight, .given = given,
        .sick = e->flags & MESH_EP_UNHEALTHY, .flags = e->flags, .priority = e->priority,
        .distance = distance_of(e), .netns = e->netns, .addr = e->addr, .labels = e->labels,
        .label_count = e->label_count};
}

/* By service, and there by address: the order of round_robin, whoever registered first. */
static int
by_address(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    if (x->service != y->service) {
        return x->service < y->service ? -1 : 1;
    }
    int c = memcmp(x->addr.ip, y->addr.ip, sizeof(x->addr.ip));
    c = c ? c : (x->addr.port > y->addr.port) - (x->addr.port < y->addr.port);
    c = c ? c : (x->netns > y->netns) - (x->netns < y->netns);
    c = c ? c : (y->given > x->given) - (y->given < x->given);
    return c ? c : (x->endpoint > y->endpoint) - (x->endpoint < y->endpoint);
}

/* By service, tier, health; and there by address. */
static int
by_tier(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    if (x->service != y->service) {
        return x->service < y->service ? -1 : 1;
    }
    int c = x->priority - y->priority;
    c = c ? c : x->distance - y->distance;
    c = c || x->mixed ? c : x->sick - y->sick;
    return c ? c : by_address(a, b);
}

/* Does the configuration name an address of which the wildcard listener m is what answers? */
static bool
is_named(const struct member *m, const struct member *from, const struct member *to)
{
    for (const struct member *g = from; g < to; g++) {
        if (g->given && g->addr.port == m->addr.port && g->netns == m->netns &&
            (mesh_addr_is_loopback(&g->addr) || meshd_listener_is_own_address(&g->addr))) {
            return true;
        }
    }
    return false;
}

/* The end of the service that begins at `from`. */
static size_t
service_end(size_t from)
{
    size_t end = from;
    while (end < member_count && members[end].service == members[from].service) {
        end++;
    }
    return end;
}

static void
note_mixed(struct member *from, struct member *to)
{
    struct mesh_snap_service s;
    meshd_snapfile_get(MESH_SNAP_SERVICES, from->service, &s);
    for (struct member *m = from; m < to; m++) {
        m->mixed = mesh_hash_is_used(s.load_balancer);
    }
}

/* Leaves what is a member: each address once, and none of weight 0. */
static void
thin_out(void)
{
    const struct member *last = NULL;
    struct member before;
    size_t n = 0;
    for (size_t i = 0, end; i < member_count; i = end) {
        end = service_end(i);
        note_mixed(members + i, members + end);
        for (size_t k = i; k < end; k++) {
            members[k].named = members[k].flags & MESH_EP_ANY && is_named(&members[k], members + i, members + end);
        }
    }
    for (size_t i = 0; i < member_count; i++) {
        struct member m = members[i];
        bool again = last && last->service == m.service && last->netns == m.netns &&
                     mesh_addr_eq(&last->addr, &m.addr);
        before = m;
        last = &before;
        if (!again && m.weight > 0 && !m.named) {
            members[n++] = m;
        }
    }
    member_count = n;
}

static bool
has_label(const struct meshd_label_rule *at, size_t n, const char *label)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(at[i].label, label) == 0) {
            return true;
        }
    }
    return false;
}

static int
compare_addresses(const struct mesh_addr *a, const struct mesh_addr *b)
{
    int c = memcmp(a->ip, b->ip, sizeof(a->ip));
    return c ? c : (a->port > b->port) - (a->port < b->port);
}

static int
by_rule(const void *a, const void *b)
{
    const struct meshd_endpoint_rule *const *x = a, *const *y = b;
    return compare_addresses(&(*x)->addr, &(*y)->addr);
}

static int
address_to_rule(const void *address, const void *rule)
{
    return compare_addresses(address, &(*(const struct meshd_endpoint_rule *const *)rule)->addr);
}

/* Is m part of the rule's subset? */
static bool
is_labelled(const struct member *m, const struct members *all, const struct meshd_subset_rule *s)
{
    const struct meshd_label_rule *labels = m->labels;
    size_t n = m->label_count;
    if (m->given == MESHD_RANKS - MESHD_RANK_CONFIG) {
        const struct meshd_endpoint_rule **at =
            all->rules ? bsearch(&m->addr, all->rules, all->rule->endpoint_count, sizeof(*all->rules), address_to_rule)
                       : NULL;
        labels = at ? (*at)->labels : NULL;
        n = at ? (*at)->label_count : 0;
    }
    for (size_t i = 0; i < s->label_count; i++) {
        if (!has_label(labels, n, s->labels[i].label)) {
            return false;
        }
    }
    return true;
}

static uint32_t
common_factor(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

static struct mesh_snap_part
table_of(const struct meshd_service_rule *rule, const struct member *const *m, size_t n)
{
    struct mesh_snap_part none = {0, 0};
    if (!rule || !mesh_hash_is_used(rule->load_balancer) || n > MESH_HASH_MEMBERS) {
        return none;
    }
    const struct meshd_table_rule how = {rule->load_balancer, rule->hash.minimum_ring_size,
                                         rule->hash.maximum_ring_size, rule->hash.table_size};
    struct meshd_table_member *of = calloc(n + 1, sizeof(*of));
    for (size_t i = 0; of && i < n; i++) {
        of[i] = (struct meshd_table_member){m[i]->addr, m[i]->weight};
    }
    struct mesh_snap_part p = of ? meshd_table_get(&how, of, (uint32_t)n) : none;
    free(of);
    return p;
}

/* Members of one tier. Without common factors: then equal weights are all 1, and turns strictly alternate. */
static void
write_tier(const struct meshd_service_rule *rule, const struct member *const *m, size_t n)
{
    struct mesh_snap_tier t = {.members = {meshd_snapfile_count(MESH_SNAP_MEMBERS), (uint32_t)n},
                               .priority = m[0]->priority, .distance = m[0]->distance};
    uint32_t factor = 0, upto = 0;
    for (size_t i = 0; i < n; i++) {
        factor = common_factor(factor, m[i]->weight);
        t.healthy += !m[i]->sick;
    }
    for (size_t i = 0; i < n; i++) {
        upto += m[i]->weight / factor;
        (void)meshd_snapfile_add(MESH_SNAP_MEMBERS,
                                 &(struct mesh_snap_member){m[i]->endpoint, m[i]->id, upto, 0});
    }
    t.table = table_of(rule, m, n);
    (void)meshd_snapfile_add(MESH_SNAP_TIERS, &t);
}

static struct mesh_snap_part
write_tiers(const struct meshd_service_rule *rule, const struct member *const *m, size_t n)
{
    struct mesh_snap_part p = {meshd_snapfile_count(MESH_SNAP_TIERS), 0};
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i; end < n && m[end]->priority == m[i]->priority && m[end]->distance == m[i]->distance;) {
            end++;
        }
        write_tier(rule, m + i, end - i);
        p.count++;
    }
    return p;
}

static int
by_port(const void *a, const void *b)
{
    const struct member *x = *(const struct member *const *)a, *y = *(const struct member *const *)b;
    return x->addr.port != y->addr.port ? x->addr.port - y->addr.port : (x > y) - (x < y);
}

/* Groups of one subset, which has the n members in `pick`: of all ports, and of each. `ports`: all of the service's
 * in the order of their ports; behind `pick` there is room for as many. */
static void
write_groups(const struct members *all, uint32_t subset, const struct member **pick, size_t n,
             const struct member *const *ports)
{
    struct mesh_snap_group g = {.subset = subset, .tiers = write_tiers(all->rule, pick, n)};
    const struct mesh_snap_part whole = g.tiers;
    const struct member **sorted = pick + n;
    (void)meshd_snapfile_add(MESH_SNAP_GROUPS, &g);
    memcpy(sorted, pick, n * sizeof(*pick));
    if (n) {
        qsort(sorted, n, sizeof(*sorted), by_port); /* each port's stay in the order of tiers */
    }
    for (size_t i = 0, from = 0, to; i < all->n; i++) {
        if (i > 0 && ports[i]->addr.port == ports[i - 1]->addr.port) {
            continue;
        }
        g.port = ports[i]->addr.port;
        for (to = from; to < n && sorted[to]->addr.port == g.port;) {
            to++;
        }
        g.tiers = to - from == n ? whole : write_tiers(all->rule, sorted + from, to - from);
        (void)meshd_snapfile_add(MESH_SNAP_GROUPS, &g);
        from = to;
    }
}

static size_t
pick_subset(const struct members *m, size_t subset, const struct member **out)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        if (subset == 0 || is_labelled(&m->at[i], m, &m->rule->subsets[subset - 1])) {
            out[n++] = &m->at[i];
        }
    }
    return n;
}

/* What stands in for a subset without endpoints. */
static size_t
pick_instead(const struct members *m, const struct member **out)
{
    for (size_t k = 1; m->rule->subset_fallback == MESHD_DEFAULT_SUBSET && k <= m->rule->subset_count; k++) {
        if (strcmp(m->rule->subsets[k - 1].name, m->rule->default_subset) == 0) {
            return pick_subset(m, k, out);
        }
    }
    return m->rule->subset_fallback == MESHD_ANY_ENDPOINT ? pick_subset(m, 0, out) : 0;
}

/* NULL when there is no memory, or nothing to sort. */
static const struct meshd_endpoint_rule **
sort_rules(const struct meshd_service_rule *r)
{
    const struct meshd_endpoint_rule **at =
        r && r->subset_count && r->endpoint_count ? calloc(r->endpoint_count, sizeof(*at)) : NULL;
    for (size_t i = 0; at && i < r->endpoint_count; i++) {
        at[i] = &r->endpoints[i];
    }
    if (at) {
        qsort(at, r->endpoint_count, sizeof(*at), by_rule);
    }
    return at;
}

/* room: for three times as many as there are members. */
static void
write_service(uint32_t index, struct members *m, const struct member **room)
{
    struct mesh_snap_service s;
    const struct member **pick = room + m->n;
    uint32_t subsets = m->rule ? (uint32_t)m->rule->subset_count : 0;
    meshd_snapfile_get(MESH_SNAP_SERVICES, index, &s);
    s.groups.first = meshd_snapfile_count(MESH_SNAP_GROUPS);
    m->rules = sort_rules(m->rule);
    for (size_t i = 0; i < m->n; i++) {
        room[i] = &m->at[i];
    }
    if (m->n) {
        qsort(room, m->n, sizeof(*room), by_port);
    }
    for (uint32_t k = 0; k <= subsets; k++) {
        size_t n = pick_subset(m, k, pick);
        if (n == 0 && k > 0) {
            n = pick_instead(m, pick);
        }
        write_groups(m, k, pick, n, room);
    }
    free(m->rules);
    s.groups.count = meshd_snapfile_count(MESH_SNAP_GROUPS) - s.groups.first;
    s.live.endpoints = (uint32_t)m->n;
    meshd_snapfile_put(MESH_SNAP_SERVICES, index, &s);
}

void
meshd_member_write(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    if (member_count) {
        qsort(members, member_count, sizeof(*members), by_address);
        thin_out();
        qsort(members, member_count, sizeof(*members), by_tier);
    }
    const struct member **room = calloc(3 * member_count + 1, sizeof(*room));
    if (!room) {
        log_error("no endpoint is chosen: out of memory");
        return;
    }
    size_t i = 0;
    for (uint32_t k = 0; k < meshd_snapfile_count(MESH_SNAP_SERVICES); k++) {
        struct mesh_snap_service s;
        meshd_snapfile_get(MESH_SNAP_SERVICES, k, &s);
        size_t end = i < member_count && members[i].service == k ? service_end(i) : i;
        struct members m = {members + i, end - i, meshd_config_service(cfg, s.name), NULL};
        write_service(k, &m, room);
        i = end;
    }
    free(room);
    member_count = 0;
}

void
meshd_member_fini(void)
{
    free(members);
    members = NULL;
    member_count = member_room = 0;
}
