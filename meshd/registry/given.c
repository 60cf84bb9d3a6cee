/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_given: see given.h.
 */
#include "meshd/registry/given.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "meshd/attest/attest.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/health/health.h"
#include "meshd/policy/config.h"
#include "meshd/registry/drain.h"
#include "meshd/registry/listener.h"
#include "meshd/registry/member.h"
#include "meshd/registry/netlink.h"
#include "meshd/registry/outlier.h"
#include "meshd/registry/service.h"
#include "meshd/registry/snapfile.h"

struct given {
    struct meshd_service_entry *service;
    struct mesh_addr addr;
    uint32_t id;
    uint32_t weight;
    uint8_t priority;
    char zone[MESH_SERVICE_MAX], region[MESH_SERVICE_MAX];
    const char *from; /* of `names` */
    uint32_t line;
    uint64_t since_ns;
};

/* Where endpoints are from: few, and never forgotten, for what is shown may outlive a configuration. */
struct name {
    UT_hash_handle hh;
    char text[];
};

/* For meshd's next life, in an endpoint's pad. */
struct note {
    uint8_t rank, priority, spare[2];
    uint32_t weight;
    uint64_t since_ns;
};
_Static_assert(sizeof(struct note) == sizeof(((struct mesh_snap_endpoint *)0)->pad), "note");

static struct meshd_given_set *table;
static struct name *names;
static uint32_t count;

static const char *
name_of(const char *text)
{
    struct name *n = NULL;
    HASH_FIND_STR(names, text, n);
    size_t len = strlen(text) + 1;
    if (!n && (n = calloc(1, sizeof(*n) + len)) != NULL) {
        memcpy(n->text, text, len);
        HASH_ADD_STR(names, text, n);
    }
    return n ? n->text : "";
}

static struct meshd_given_key
key_of(uint32_t rank, const char *service)
{
    struct meshd_given_key key;
    memset(&key, 0, sizeof(key)); /* all of it is hashed */
    snprintf(key.service, sizeof(key.service), "%s", service);
    key.rank = rank;
    return key;
}

static struct meshd_given_set *
find_set(const struct meshd_given_key *key)
{
    struct meshd_given_set *s = NULL;
    HASH_FIND(hh, table, key, sizeof(*key), s);
    return s;
}

/* The one in force for the same service and of the same source, or NULL. */
static struct meshd_given_set *
in_force(const struct meshd_given_set *set)
{
    return find_set(&set->key);
}

static int
by_address(const void *a, const void *b)
{
    const struct given *x = a, *y = b;
    int c = memcmp(x->addr.ip, y->addr.ip, sizeof(x->addr.ip));
    return c ? c : (x->addr.port > y->addr.port) - (x->addr.port < y->addr.port);
}

/* While ids are still places in the list. */
static int
by_address_and_place(const void *a, const void *b)
{
    const struct given *x = a, *y = b;
    int c = by_address(a, b);
    return c ? c : (x->id > y->id) - (x->id < y->id);
}

static const struct given *
find(const struct meshd_given_set *set, const struct mesh_addr *a)
{
    const struct given key = {.addr = *a};
    return set && set->count ? bsearch(&key, set->at, set->count, sizeof(key), by_address) : NULL;
}

static bool
fill(struct given *g, const char *service, const struct meshd_endpoint_rule *r)
{
    char id[MESH_ID_MAX];
    struct meshd_service_entry *s =
        meshd_attest_id(service, id) == MESH_OK ? meshd_service_get(service, id) : NULL;
    if (!s) {
        return false;
    }
    *g = (struct given){.service = s, .addr = r->addr, .weight = r->weight,
                        .priority = r->priority, .from = name_of(r->at.file), .line = r->at.line};
    memcpy(g->zone, r->zone, sizeof(g->zone));
    memcpy(g->region, r->region, sizeof(g->region));
    return true;
}

void
meshd_given_free(struct meshd_given_set *set)
{
    for (uint32_t i = 0; set && i < set->count; i++) {
        meshd_service_put(set->at[i].service);
    }
    if (set) {
        free(set->at);
    }
    free(set);
}

/* In the order of addresses, each once: of equal ones the first of the list. */
static void
arrange(struct meshd_given_set *set, const struct meshd_given_set *old)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < set->count; i++) {
        set->at[i].id = i; /* the place in the list, for a moment */
    }
    if (set->count) {
        qsort(set->at, set->count, sizeof(*set->at), by_address_and_place);
    }
    for (uint32_t i = 0; i < set->count; i++) {
        struct given g = set->at[i];
        if (n && mesh_addr_eq(&set->at[n - 1].addr, &g.addr)) {
            meshd_service_put(g.service);
            continue;
        }
        const struct given *was = find(old, &g.addr);
        g.id = was ? was->id : meshd_listener_next_id();
        g.since_ns = was ? was->since_ns : meshd_real_ns();
        set->at[n++] = g;
    }
    set->count = n;
}

struct meshd_given_set *
meshd_given_make(enum meshd_rank rank, const char *service, const struct meshd_endpoint_rule *list,
                 size_t n)
{
    struct meshd_given_set *set = calloc(1, sizeof(*set));
    if (!set) {
        return NULL;
    }
    set->key = key_of(rank, service);
    set->at = calloc(n + 1, sizeof(*set->at));
    for (size_t i = 0; set->at && i < n && fill(&set->at[i], service, &list[i]); i++) {
        set->count++;
    }
    if (set->count < n || !set->at) {
        meshd_given_free(set);
        return NULL;
    }
    arrange(set, in_force(set));
    return set;
}

/* ---- the table ---- */

static void
drop(struct meshd_given_set *set)
{
    HASH_DEL(table, set);
    count -= set->count;
    meshd_given_free(set);
}

/* Endpoints of a that are not in b. */
static uint32_t
missing(const struct meshd_given_set *a, const struct meshd_given_set *b)
{
    uint32_t n = 0;
    for (uint32_t i = 0; a && i < a->count; i++) {
        n += find(b, &a->at[i].addr) == NULL;
    }
    return n;
}

static uint32_t
altered(const struct meshd_given_set *a, const struct meshd_given_set *b)
{
    uint32_t n = 0;
    for (uint32_t i = 0; b && i < a->count; i++) {
        const struct given *x = &a->at[i], *y = find(b, &x->addr);
        n += y && (x->weight != y->weight || x->priority != y->priority || strcmp(x->zone, y->zone) != 0 ||
                   strcmp(x->region, y->region) != 0);
    }
    return n;
}

static void
report(const struct meshd_given_set *set, const struct meshd_given_set *old)
{
    uint32_t more = missing(set, old), less = missing(old, set), other = altered(set, old);
    if (more || less || other) {
        const struct given *g = set->count ? set->at : old->at;
        log_info("endpoints of %s from %s: %u (%u added, %u removed, %u changed)", set->key.service,
                 g->from, set->count, more, less, other);
    }
}

void
meshd_given_put(struct meshd_given_set *set)
{
    struct meshd_given_set *old = in_force(set);
    report(set, old);
    if (old) {
        drop(old);
    }
    HASH_ADD(hh, table, key, sizeof(set->key), set);
    set->next = NULL;
    set->fresh = true;
    count += set->count;
}

void
meshd_given_settle(enum meshd_rank rank, bool all)
{
    struct meshd_given_set *s, *next;
    HASH_ITER(hh, table, s, next) {
        if (s->key.rank != rank) {
            continue;
        }
        if (all && !s->fresh && s->count) {
            log_info("endpoints of %s from %s: none (%u removed)", s->key.service, s->at->from,
                     s->count);
        }
        if (s->count == 0 || (all && !s->fresh)) {
            drop(s);
        } else {
            s->fresh = false;
        }
    }
}

/* A former meshd wrote the set in the order of addresses; the file may be somebody else's work. */
void
meshd_given_restore(const struct mesh_snap_endpoint *e, const struct mesh_snap_service *s, void *arg)
{
    struct note note;
    struct meshd_endpoint_rule r = {.addr = {.port = e->port}};
    (void)arg;
    memcpy(&note, e->pad, sizeof(note));
    memcpy(r.addr.ip, e->addr, 16);
    if (e->cookie != 0 || e->flags & MESH_EP_SERVICE || note.rank >= MESHD_RANKS ||
        !meshd_attest_is_service_name(s->name)) {
        return;
    }
    r.weight = note.weight;
    r.priority = note.priority;
    struct meshd_given_key key = key_of(note.rank, s->name);
    struct meshd_given_set *set = find_set(&key);
    if (!set && (set = meshd_given_make(note.rank, s->name, NULL, 0)) != NULL) {
        HASH_ADD(hh, table, key, sizeof(set->key), set);
    }
    struct given *more = set ? realloc(set->at, (set->count + 1u) * sizeof(*more)) : NULL;
    if (more) {
        set->at = more;
    }
    if (!more || find(set, &r.addr) || !fill(&more[set->count], s->name, &r)) {
        return;
    }
    more[set->count].id = e->id;
    more[set->count].since_ns = note.since_ns;
    bool in_order = set->count == 0 || by_address(&more[set->count - 1], &more[set->count]) < 0;
    set->count++;
    count++;
    if (!in_order) {
        qsort(more, set->count, sizeof(*more), by_address);
    }
}

void
meshd_given_recall(enum meshd_rank rank, const char *service, meshd_source_visit *visit, void *arg)
{
    struct meshd_given_key key = key_of(rank, service);
    const struct meshd_given_set *set = find_set(&key);
    int r = 0;
    for (uint32_t i = 0; set && r == 0 && i < set->count; i++) {
        const struct given *g = &set->at[i];
        struct meshd_endpoint_rule e = {.addr = g->addr, .weight = g->weight, .priority = g->priority};
        memcpy(e.zone, g->zone, sizeof(e.zone));
        memcpy(e.region, g->region, sizeof(e.region));
        r = visit(&e, arg);
    }
}

uint32_t
meshd_given_size(const struct meshd_given_set *set)
{
    const struct meshd_given_set *old = in_force(set);
    return old ? old->count : 0;
}

void
meshd_given_fini(void)
{
    struct meshd_given_set *s, *next;
    struct name *n, *after;
    HASH_ITER(hh, table, s, next) {
        drop(s);
    }
    HASH_ITER(hh, names, n, after) {
        HASH_DEL(names, n);
        free(n);
    }
}

uint32_t
meshd_given_count(void)
{
    return count;
}

/* DNS knows addresses only: what else there is to say of them is the configuration's, as it is now. */
static void
describe_dns(const struct given *g, struct meshd_endpoint *e)
{
    const struct meshd_service_rule *r = meshd_service_rule(g->service);
    if (r) {
        e->zone = r->dns.zone;
        e->region = r->dns.region;
        e->labels = r->dns.labels;
        e->label_count = r->dns.label_count;
    }
}

/* For each of some ten thousand in each snapshot: the addresses of interfaces, of which fixed endpoints have none,
 * are not even cleared. */
static void
describe(const struct given *g, uint32_t rank, struct meshd_endpoint *e)
{
    memset(e, 0, offsetof(struct meshd_endpoint, ifaddr));
    e->id = g->id;
    e->addr = g->addr;
    e->flags = mesh_addr_is_loopback(&g->addr) ? MESH_EP_NETNS : 0;
    e->mode = meshd_config_rule_mode(meshd_config_current(), meshd_service_rule(g->service), g->addr.port);
    e->service = g->service->name;
    e->netns = meshd_netlink_own();
    e->since_ns = g->since_ns;
    e->weight = g->weight;
    e->priority = g->priority;
    e->zone = g->zone;
    e->region = g->region;
    e->from = g->from;
    e->line = g->line;
    if (rank == MESHD_RANK_DNS) {
        describe_dns(g, e);
    }
    e->draining = meshd_drain_has(e);
}

static void
write_one(const struct given *g, uint32_t rank)
{
    struct meshd_endpoint d;
    describe(g, rank, &d);
    d.flags |= meshd_health_flag(&d);
    struct mesh_snap_endpoint e = {.port = d.addr.port,
                                   .flags = (uint8_t)(d.flags | (d.draining ? MESH_EP_DRAINING : 0)),
                                   .mode = (uint8_t)d.mode, .netns = d.netns, .id = d.id,
                                   .service = g->service->index};
    const struct note note = {.rank = (uint8_t)rank, .priority = g->priority, .weight = g->weight,
                              .since_ns = g->since_ns};
    memcpy(e.addr, d.addr.ip, 16);
    memcpy(e.pad, &note, sizeof(note));
    meshd_outlier_meet(&d, g->service);
    uint32_t index = meshd_snapfile_endpoint(&e);
    meshd_member_add(g->service, &d, index, MESHD_RANKS - rank);
}

void
meshd_given_write(bool configured)
{
    for (const struct meshd_given_set *s = table; s; s = s->hh.next) {
        bool mine = (s->key.rank == MESHD_RANK_CONFIG) == configured;
        for (uint32_t i = 0; mine && i < s->count; i++) {
            write_one(&s->at[i], s->key.rank);
        }
    }
}

int
meshd_given_visit(meshd_endpoint_visit *visit, void *arg)
{
    int r = 0;
    for (const struct meshd_given_set *s = table; r == 0 && s; s = s->hh.next) {
        for (uint32_t i = 0; r == 0 && i < s->count; i++) {
            struct meshd_endpoint d;
            describe(&s->at[i], s->key.rank, &d);
            r = visit(&d, arg);
        }
    }
    return r;
}
