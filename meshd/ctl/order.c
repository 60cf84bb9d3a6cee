/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_order: drain, undrain and draining; see show.h. What changes something is for root and meshd's
 * own user; the kernel says who asks.
 *
 * An order is done when three things hold, of which none can come back while it stands:
 *   - no process is still choosing by a snapshot from before the order (meshd_stats_deciding);
 *   - no attempt or connection is counted for an endpoint of it in the live state;
 *   - no open connection to it is listed on a page, of a client or of the server.
 * The first is looked at first: whoever decided before the order is then counted or listed.
 */
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/suggest.h"
#include "meshd/attest/attest.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/ctl/show.h"
#include "meshd/ctl/table.h"
#include "meshd/policy/config.h"
#include "meshd/registry/registry.h"
#include "meshd/stats/stats.h"

#define NAMES_MAX 256u

static const char *
target_text(const struct meshd_drain *d, char *out)
{
    return d->service[0] ? d->service : mesh_addr_text(&d->addr, out);
}

/* What an order covers now. */
struct covered {
    const struct meshd_drain *d;
    struct meshd_endpoint *at;
    uint32_t count, room;
    uint64_t live;
};

static int
collect(const struct meshd_endpoint *e, void *arg)
{
    struct covered *c = arg;
    if (!meshd_registry_drain_covers(c->d, e)) {
        return 0;
    }
    if (c->count == c->room) {
        uint32_t room = c->room ? 2 * c->room : 16;
        struct meshd_endpoint *more = realloc(c->at, room * sizeof(*more));
        if (!more) {
            return 1;
        }
        c->at = more;
        c->room = room;
    }
    c->live += meshd_registry_live_count(e->id);
    c->at[c->count++] = *e;
    return 0;
}

static struct covered
cover(const struct meshd_drain *d)
{
    struct covered c = {.d = d};
    meshd_registry_visit_endpoints(collect, &c);
    return c;
}

/* -- connections that are left ---------------------------------------------------------------- */

struct left {
    const struct covered *what;
    uint64_t out, in;
};

static bool
leads_to(const struct meshd_endpoint *e, const struct meshd_conn *c, const struct mesh_addr *a)
{
    if (mesh_addr_is_loopback(a) && c->netns != e->netns) {
        return false;
    }
    bool any = e->flags & MESH_EP_ANY && a->port == e->addr.port && mesh_addr_is_loopback(a);
    for (unsigned i = 0; !any && i < e->ifaddrs && i < MESH_WIRE_IFADDRS; i++) {
        any = mesh_addr_eq(&e->ifaddr[i], a);
    }
    return any || mesh_addr_eq(&e->addr, a);
}

/* The one that was chosen is named; others went to its own address. */
static bool
is_to(const struct meshd_endpoint *e, const struct meshd_conn *c)
{
    if (!c->outbound) {
        return strcmp(c->service, e->service) == 0 && c->local.port == e->addr.port &&
               (e->flags & MESH_EP_ANY || mesh_addr_eq(&c->local, &e->addr));
    }
    return c->endpoint == e->id + 1 || leads_to(e, c, &c->peer);
}

static int
count_left(const struct meshd_conn *c, void *arg)
{
    struct left *l = arg;
    const struct covered *w = l->what;
    const char *server = c->outbound ? c->peer_service : c->service;
    bool counts = w->d->service[0] ? strcmp(server, w->d->service) == 0
                                   : mesh_addr_eq(c->outbound ? &c->peer : &c->local, &w->d->addr);
    for (uint32_t i = 0; !counts && i < w->count; i++) {
        counts = is_to(&w->at[i], c);
    }
    l->out += counts && c->outbound;
    l->in += counts && !c->outbound;
    return 0;
}

/* -- as JSON ---------------------------------------------------------------------------------- */

static json_t *
describe(const struct meshd_drain *d)
{
    char text[MESH_ADDR_TEXT];
    struct meshd_registry_info info;
    struct covered c = cover(d);
    struct left left = {.what = &c};
    meshd_registry_info(&info);
    uint32_t deciding = meshd_stats_deciding(d->generation, info.generation);
    meshd_stats_visit_active(count_left, &left);
    /* A connection within the host is listed on both sides. */
    uint64_t open = left.out > left.in ? left.out : left.in;
    uint64_t most = open > c.live ? open : c.live;
    json_t *row = json_pack("{s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:b}", "target",
                            target_text(d, text), "kind", d->service[0] ? "service" : "endpoint",
                            "since", meshd_show_seconds(d->since_ns), "generation",
                            (json_int_t)d->generation, "endpoints", (json_int_t)c.count, "processes",
                            (json_int_t)meshd_stats_attached(), "unacknowledged",
                            (json_int_t)deciding, "connections", (json_int_t)most, "drained",
                            deciding == 0 && most == 0);
    free(c.at);
    return row;
}

struct listing {
    json_t *rows;
    const char *only;
};

static int
on_drain(const struct meshd_drain *d, void *arg)
{
    char text[MESH_ADDR_TEXT];
    struct listing *l = arg;
    struct meshd_drain wanted = {.service = ""};
    bool same = !l->only[0] || strcmp(target_text(d, text), l->only) == 0 ||
                (!d->service[0] && meshd_config_addr(l->only, &wanted.addr) &&
                 mesh_addr_eq(&wanted.addr, &d->addr));
    return same ? json_array_append_new(l->rows, describe(d)) : 0;
}

json_t *
meshd_order_draining(const struct meshd_question *q, char *why, size_t cap)
{
    struct listing l = {json_array(), q->arg};
    meshd_registry_visit_drains(on_drain, &l);
    if (q->arg[0] && json_array_size(l.rows) == 0) {
        json_decref(l.rows);
        snprintf(why, cap, "'%.64s' is not draining", q->arg);
        return NULL;
    }
    return json_pack("{s:i, s:o}", "schema", MESHD_SCHEMA, "draining", l.rows);
}

/* -- orders ----------------------------------------------------------------------------------- */

static bool
may(const struct meshd_question *q, char *why, size_t cap)
{
    pid_t pid = 0;
    uid_t uid = 0;
    gid_t gid = 0;
    if (meshd_attest_cred(q->sock, &pid, &uid, &gid) != MESH_OK) {
        snprintf(why, cap, "not permitted: the kernel does not say who you are");
        return false;
    }
    if (uid != 0 && uid != geteuid()) {
        snprintf(why, cap, "not permitted to uid %u: only root and meshd's own user (uid %u) may",
                 (unsigned)uid, (unsigned)geteuid());
        return false;
    }
    return true;
}

struct names {
    const char *at[NAMES_MAX];
    const char *wanted;
    size_t count;
    bool found;
};

static int
on_name(const struct meshd_service *s, void *arg)
{
    struct names *n = arg;
    n->found = n->found || strcmp(s->name, n->wanted) == 0;
    if (n->count < NAMES_MAX) {
        n->at[n->count++] = strdup(s->name);
    }
    return 0;
}

static bool
is_service(const char *name, char *why, size_t cap)
{
    struct names n = {.wanted = name};
    meshd_registry_visit_services(on_name, &n);
    if (!n.found) {
        const char *near = mesh_suggest(name, n.at, n.count);
        snprintf(why, cap, "no service '%.64s'%s%.64s%s", name, near ? "; did you mean '" : "; see 'services'",
                 near ? near : "", near ? "'?" : "");
    }
    for (size_t i = 0; i < n.count; i++) {
        void *mine = (void *)(uintptr_t)n.at[i];
        free(mine);
    }
    return n.found;
}

/* A word with a colon is an address: no service's name has one. */
static bool
read_target(const char *word, struct meshd_drain *d, char *why, size_t cap)
{
    *d = (struct meshd_drain){.since_ns = meshd_real_ns()};
    if (!word[0]) {
        snprintf(why, cap, "which SERVICE or ADDR:PORT?");
        return false;
    }
    if (strchr(word, ':')) {
        if (meshd_config_addr(word, &d->addr)) {
            return true;
        }
        snprintf(why, cap, "'%.64s' is no address and port; write 10.0.0.1:80 or [fd00::1]:80", word);
        return false;
    }
    if (!meshd_attest_is_service_name(word)) {
        snprintf(why, cap, "'%.64s' is no service's name", word);
        return false;
    }
    snprintf(d->service, sizeof(d->service), "%s", word);
    return true;
}

static json_t *
done(const char *key, json_t *row)
{
    return json_pack("{s:i, s:o}", "schema", MESHD_SCHEMA, key, row);
}

json_t *
meshd_order_drain(const struct meshd_question *q, char *why, size_t cap)
{
    struct meshd_drain d;
    if (!may(q, why, cap) || !read_target(q->arg, &d, why, cap)) {
        return NULL;
    }
    struct covered c = cover(&d);
    free(c.at);
    if (d.service[0] ? !is_service(d.service, why, cap) : c.count == 0) {
        if (!d.service[0]) {
            snprintf(why, cap, "no endpoint at %.64s; see 'endpoints'", q->arg);
        }
        return NULL;
    }
    enum mesh_err e = meshd_registry_drain(&d);
    if (e != MESH_OK) {
        snprintf(why, cap, "%s", mesh_err_text(e));
        return NULL;
    }
    log_info("draining: %s, %u endpoints", q->arg, c.count);
    return done("drain", describe(&d));
}

struct other {
    const struct covered *what;
    char by[MESH_ADDR_TEXT + MESH_SERVICE_MAX];
};

static int
on_other(const struct meshd_drain *d, void *arg)
{
    char text[MESH_ADDR_TEXT];
    struct other *o = arg;
    for (uint32_t i = 0; i < o->what->count; i++) {
        if (meshd_registry_drain_covers(d, &o->what->at[i])) {
            snprintf(o->by, sizeof(o->by), "%s", target_text(d, text));
            return 1;
        }
    }
    return 0;
}

json_t *
meshd_order_undrain(const struct meshd_question *q, char *why, size_t cap)
{
    char text[MESH_ADDR_TEXT];
    struct meshd_drain d;
    bool was = false;
    if (!may(q, why, cap) || !read_target(q->arg, &d, why, cap)) {
        return NULL;
    }
    enum mesh_err e = meshd_registry_undrain(&d, &was);
    if (e != MESH_OK) {
        snprintf(why, cap, "%s", mesh_err_text(e));
        return NULL;
    }
    struct covered c = cover(&d);
    struct other o = {.what = &c};
    meshd_registry_visit_drains(on_other, &o);
    if (was) {
        log_info("no longer draining: %s", q->arg);
    }
    json_t *row = json_pack("{s:s, s:b, s:I, s:s?}", "target", target_text(&d, text), "was_draining", was,
                            "endpoints", (json_int_t)c.count, "still_draining_by", o.by[0] ? o.by : NULL);
    free(c.at);
    return done("undrain", row);
}

/* -- as text ---------------------------------------------------------------------------------- */

void
meshd_order_drain_text(struct evbuffer *out, const json_t *answer)
{
    const json_t *o = json_object_get(answer, "drain");
    evbuffer_add_printf(out, "draining %s: %lld endpoints, %lld connections left, %lld of %lld processes "
                             "have not acknowledged\n",
                        json_string_value(json_object_get(o, "target")),
                        (long long)json_integer_value(json_object_get(o, "endpoints")),
                        (long long)json_integer_value(json_object_get(o, "connections")),
                        (long long)json_integer_value(json_object_get(o, "unacknowledged")),
                        (long long)json_integer_value(json_object_get(o, "processes")));
}

void
meshd_order_undrain_text(struct evbuffer *out, const json_t *answer)
{
    const json_t *o = json_object_get(answer, "undrain");
    const char *by = json_string_value(json_object_get(o, "still_draining_by"));
    evbuffer_add_printf(out, "%s %s\n", json_string_value(json_object_get(o, "target")),
                        json_is_true(json_object_get(o, "was_draining")) ? "is back" : "was not draining");
    if (by) {
        evbuffer_add_printf(out, "an endpoint of it is still draining, by the order for %s\n", by);
    }
}
