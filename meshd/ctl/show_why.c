/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_show_why: where a connection would go, and why; see show.h. What decides is read from the published
 * snapshot by the functions that clients use (common/snap.h); the configuration only says where a rule stands.
 */
#include <ctype.h>
#include <event2/buffer.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/snap.h"
#include "common/snap_names.h"
#include "meshd/ctl/show.h"
#include "meshd/ctl/show_hash.h"
#include "meshd/ctl/table.h"
#include "meshd/policy/config.h"
#include "meshd/policy/units.h"
#include "meshd/registry/registry.h"

struct client {
    char service[MESH_SERVICE_MAX], unit[MESH_SERVICE_MAX], exe[256], id[2 * MESH_ID_MAX];
    uint32_t uid;
    struct mesh_addr from; /* what its socket is bound to */
};

struct why {
    struct mesh_snap_client who;
    struct mesh_addr to;
    json_t *answer, *targets, *rows;
    struct meshd_endpoint *all; /* the registry's, by id */
    size_t count, room;
    const char *kind; /* of the target that is looked at: "route", "failover" */
    uint32_t usable;  /* of the first target that has any */
    char lb[32], place[128];
    struct meshd_hash_asker asker;
    json_t *hash; /* of that target; NULL: it does not choose by one */
};

/* ---- what is asked ---- */

static bool
read_source(const char *ip, struct mesh_addr *out)
{
    char text[MESH_ADDR_TEXT];
    snprintf(text, sizeof(text), strchr(ip, ':') ? "[%s]:1" : "%s:1", ip);
    return meshd_units_addr(text, out);
}

/* "web", "web,uid=33", "web,unit=web@1.service", "web,source_ip=10.0.0.7,exe=/usr/bin/curl" */
static bool
read_client(const char *text, struct client *out)
{
    char copy[256], *save = NULL;
    const struct meshd_config *cfg = meshd_config_current();
    *out = (struct client){.uid = MESH_SNAP_NONE};
    snprintf(copy, sizeof(copy), "%s", text);
    for (char *part = strtok_r(copy, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
        if (strncmp(part, "uid=", 4) == 0 && part[4 + strspn(part + 4, "0123456789")] == '\0') {
            out->uid = (uint32_t)strtoul(part + 4, NULL, 10);
        } else if (strncmp(part, "unit=", 5) == 0) {
            snprintf(out->unit, sizeof(out->unit), "%s", part + 5);
        } else if (strncmp(part, "exe=", 4) == 0) {
            snprintf(out->exe, sizeof(out->exe), "%s", part + 4);
        } else if (strncmp(part, "source_ip=", 10) == 0 && read_source(part + 10, &out->from)) {
            continue;
        } else if (!strchr(part, '=') && !out->service[0]) {
            snprintf(out->service, sizeof(out->service), "%s", part);
        } else {
            return false;
        }
    }
    snprintf(out->id, sizeof(out->id), "spiffe://%s/ns/%s/sa/%s", cfg->trust_domain, cfg->namespace_, out->service);
    return text[0] != '\0';
}

struct first_port {
    const char *service;
    uint16_t port;
};

static int
take_port(const struct meshd_endpoint *e, void *arg)
{
    struct first_port *f = arg;
    if (strcmp(e->service, f->service) == 0 && (f->port == 0 || e->addr.port < f->port)) {
        f->port = e->addr.port;
    }
    return 0;
}

/* An address and port, or a name that programs would look up, or a service's; without a port: the service's
 * least one. */
static bool
read_address(const char *text, struct mesh_addr *out)
{
    const struct meshd_config *cfg = meshd_config_current();
    struct mesh_snap snap = meshd_registry_view();
    struct mesh_named named;
    char name[128];
    if (meshd_units_addr(text, out)) {
        return true;
    }
    snprintf(name, sizeof(name), "%s", text);
    char *colon = strrchr(name, ':');
    unsigned long port = 0;
    if (colon) {
        *colon = '\0';
        port = strtoul(colon + 1, NULL, 10);
    }
    const struct meshd_service_rule *rule = meshd_config_service(cfg, name);
    if (rule && rule->address_count && port == 0) {
        *out = rule->addresses[0].addr;
        return true;
    }
    if (port > 65535 || mesh_snap_name_find(&snap, name, &named) != MESH_OK || named.answer != MESH_NAME_FOUND) {
        return false;
    }
    struct mesh_snap_hit hit;
    struct first_port first = {.service = name};
    *out = mesh_vaddr_addr(&named.addr, AF_INET, (uint16_t)port);
    if (port == 0) {
        if (mesh_snap_name_of(&snap, out, &named) == MESH_OK && meshd_registry_service_at(named.service, &hit.service)) {
            first.service = hit.service.name;
        }
        meshd_registry_visit_endpoints(take_port, &first);
        out->port = first.port;
    }
    return out->port != 0;
}

/* ---- endpoints ---- */

static int
collect(const struct meshd_endpoint *e, void *arg)
{
    struct why *w = arg;
    if (w->count == w->room) {
        size_t room = w->room ? 2 * w->room : 64;
        struct meshd_endpoint *more = realloc(w->all, room * sizeof(*more));
        if (!more) {
            return 1;
        }
        w->all = more;
        w->room = room;
    }
    w->all[w->count++] = *e;
    return 0;
}

static int
by_id(const void *a, const void *b)
{
    const struct meshd_endpoint *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static const char *
verdict(const struct meshd_endpoint *e, const struct meshd_endpoint_live *l)
{
    return e->draining                         ? "draining"
           : e->leaving                        ? "not listening"
           : e->weight == 0                    ? "weight 0"
           : e->mode == MESH_MODE_OFF          ? "mode off"
           : l->state == MESH_OUTLIER_EJECTED  ? "ejected"
           : e->flags & MESH_EP_UNHEALTHY      ? "unhealthy"
                                               : NULL;
}

static const struct meshd_endpoint *
find(const struct why *w, uint32_t id)
{
    const struct meshd_endpoint key = {.id = id};
    return w->count ? bsearch(&key, w->all, w->count, sizeof(key), by_id) : NULL;
}

static bool
is_usable(uint32_t id, void *arg)
{
    const struct meshd_endpoint *e = find(arg, id);
    struct meshd_endpoint_live l;
    if (e) {
        meshd_registry_endpoint_live(e, &l);
    }
    return e && !verdict(e, &l);
}

/* Its row; `usable` counts it if it may be chosen. */
static void
add_row(struct why *w, uint32_t id, uint32_t *usable)
{
    struct meshd_endpoint_live l;
    char addr[MESH_ADDR_TEXT];
    const struct meshd_endpoint *e = find(w, id);
    if (!e) {
        return;
    }
    meshd_registry_endpoint_live(e, &l);
    const char *not = verdict(e, &l); /* why it is not chosen, NULL: it may be */
    json_t *row = json_pack("{s:s, s:s, s:i, s:s, s:I, s:I, s:o, s:s, s:s}", "service", e->service, "addr",
                            mesh_addr_text(&e->addr, addr), "priority", (int)e->priority, "zone", e->zone, "weight",
                            (json_int_t)e->weight, "connections_active", (json_int_t)l.active, "connect_seconds",
                            l.latency_us ? json_real((double)l.latency_us / 1e6) : json_null(), "for", w->kind, "state",
                            not ? not : "usable");
    *usable += !not;
    json_array_append_new(w->rows, row);
}

static enum mesh_err
list_tier(const struct mesh_snap_choice *c, const struct mesh_snap_service *s, const struct mesh_snap_tier *t,
          struct why *w, uint32_t *usable)
{
    struct mesh_snap_list l;
    enum mesh_err e = mesh_snap_list(c, s, t, true, &l);
    for (uint32_t i = 0; e == MESH_OK && i < l.count; i++) {
        struct mesh_snap_endpoint ep;
        uint32_t weight;
        e = mesh_snap_member(&l, i, &ep, &weight);
        if (e == MESH_OK) {
            add_row(w, ep.id, usable);
        }
    }
    return e;
}

static const char *
subset_name(const char *service, uint32_t subset)
{
    const struct meshd_service_rule *r = meshd_config_service(meshd_config_current(), service);
    return r && subset > 0 && subset <= r->subset_count ? r->subsets[subset - 1].name : "";
}

static enum mesh_err
list_target(const struct mesh_snap_choice *c, const struct mesh_snap_target *t, double share, struct why *w)
{
    static const char *const distances[] = {"same zone", "same region", "elsewhere"};
    struct mesh_snap_service room;
    const struct mesh_snap_service *s = NULL;
    struct mesh_snap_group g;
    struct mesh_snap_tier tier;
    uint32_t usable = 0, all = 0;
    bool of_port = c->hit->endpoint.flags & MESH_EP_PORT;
    enum mesh_err e = mesh_snap_target_service(c, t, &room, &s);
    if (e != MESH_OK) {
        return e;
    }
    e = mesh_snap_group(c, s, t->subset, of_port ? w->to.port : 0, &g);
    for (uint32_t i = 0; e == MESH_OK && i < g.tiers.count; i++) {
        uint32_t n = 0;
        e = mesh_snap_tier(c, &g, i, &tier);
        e = e == MESH_OK ? list_tier(c, s, &tier, w, &n) : e;
        if (e == MESH_OK && n && !w->usable && !usable) {
            snprintf(w->place, sizeof(w->place), "priority %u, %s", tier.priority, distances[tier.distance % 3u]);
        }
        usable += n;
        all += e == MESH_OK ? tier.members.count : 0;
    }
    if (usable && !w->usable) {
        w->usable = usable;
        snprintf(w->lb, sizeof(w->lb), "%s", meshd_show_load_balancer(s->load_balancer));
        w->hash = mesh_hash_is_used(s->load_balancer) ? meshd_show_hash(c, s, &g, &w->asker) : NULL;
    }
    json_array_append_new(w->targets, json_pack("{s:s, s:s, s:s, s:f, s:I, s:I}", "for", w->kind, "service", s->name, "subset",
                                                subset_name(s->name, t->subset), "share", share, "endpoints",
                                                (json_int_t)all, "usable", (json_int_t)usable));
    return e == MESH_E_NO_ENDPOINT ? MESH_OK : e;
}

/* The targets of the rule with their shares, then those for when none is left. */
static enum mesh_err
explain(const struct mesh_snap_choice *c, void *arg)
{
    struct why *w = arg;
    struct mesh_snap_target t, first;
    uint32_t rule = MESH_SNAP_NONE, before = 0, sum = 0;
    char at[320];
    json_array_clear(w->targets);
    json_array_clear(w->rows);
    w->usable = 0;
    json_decref(w->hash);
    w->hash = NULL;
    enum mesh_err e = mesh_snap_route(c, &w->who, &w->to, 0, &first, &rule);
    if (e != MESH_OK) {
        return e;
    }
    json_object_set_new(w->answer, "service", meshd_show_string(c->hit->service.name));
    json_object_set_new(w->answer, "rule", rule == MESH_SNAP_NONE ? json_null() : json_integer((json_int_t)rule + 1));
    meshd_registry_route_origin(c->hit->service.name, rule, at, sizeof(at));
    json_object_set_new(w->answer, "rule_at", meshd_show_string(at));
    w->kind = "route";
    for (uint32_t i = 0; rule != MESH_SNAP_NONE && mesh_snap_split(c, rule, i, &t) == MESH_OK; i++) {
        sum = t.upto;
    }
    for (uint32_t i = 0; rule != MESH_SNAP_NONE && mesh_snap_split(c, rule, i, &t) == MESH_OK && e == MESH_OK; i++) {
        e = list_target(c, &t, sum ? (double)(t.upto - before) / sum : 0, w);
        before = t.upto;
    }
    if (rule == MESH_SNAP_NONE) {
        e = list_target(c, &first, 1, w);
    }
    struct mesh_snap_service room;
    const struct mesh_snap_service *s = NULL;
    w->kind = "failover";
    e = e == MESH_OK ? mesh_snap_target_service(c, &first, &room, &s) : e;
    for (uint32_t i = 0; e == MESH_OK && mesh_snap_failover(c, &s->failover, i, &t) == MESH_OK; i++) {
        e = list_target(c, &t, 0, w);
    }
    return e;
}

/* ---- the answer ---- */

/* As if the program had looked up every name: what names could open. */
static bool
any_name(const struct mesh_addr *a, uint64_t pattern)
{
    (void)a;
    (void)pattern;
    return true;
}

/* What egress says of an address that is none of the mesh. */
static const char *
decide_egress(const struct mesh_addr *to)
{
    struct mesh_snap snap = meshd_registry_view();
    bool by_net = false, by_name = false;
    if (mesh_snap_allows(&snap, to, NULL, &by_net) != MESH_OK ||
        mesh_snap_allows(&snap, to, any_name, &by_name) != MESH_OK) {
        return "refused: the snapshot is damaged";
    }
    return by_net    ? "plain TCP: no address of the mesh, but egress_allow has it"
           : by_name ? "refused, but in processes that looked up a host of egress_allow and were told this address: no "
                       "address of the mesh, and egress is registry_only (NR)"
                     : "refused: no address of the mesh, and egress is registry_only (NR)";
}

/* "mutual TLS with 10.0.0.1:80, by maglev of uid=33; then 10.0.0.2:80, 10.0.0.3:80" */
static void
decide_hash(const struct why *w, char *out, size_t cap)
{
    const json_t *order = json_object_get(w->hash, "endpoints");
    size_t i, n = 0;
    json_t *addr;
    if (json_array_size(order) == 0) {
        snprintf(out, cap, "mutual TLS with one of %u usable endpoints, by %s, and by chance: nothing of the key is known (%s)",
                 w->usable, w->lb, json_string_value(json_object_get(w->hash, "key")));
        return;
    }
    json_array_foreach(order, i, addr) {
        n += n < cap && i < 4 ? (size_t)snprintf(out + n, cap - n, "%s%s", i == 0 ? "mutual TLS with " : i == 1 ? "; then " : ", ",
                                                 json_string_value(addr))
                              : 0;
        if (n < cap && i == 0) {
            n += (size_t)snprintf(out + n, cap - n, ", by %s of %s", w->lb, json_string_value(json_object_get(w->hash, "key")));
        }
    }
}

static void
decide(const struct why *w, const struct mesh_snap_hit *hit, bool found, char *out, size_t cap)
{
    if (found && hit->endpoint.flags & MESH_EP_SERVICE && w->hash) {
        decide_hash(w, out, cap);
    } else if (found && hit->endpoint.flags & MESH_EP_SERVICE && w->usable) {
        snprintf(out, cap, "mutual TLS with one of %u usable endpoints, chosen by %s; those of %s first", w->usable, w->lb,
                 w->place);
    } else if (found && hit->endpoint.flags & MESH_EP_SERVICE) {
        snprintf(out, cap, "no endpoint is usable: in panic an unhealthy one is tried, else the connect fails with "
                           "no_healthy_upstream (UH)");
    } else if (found && hit->endpoint.mode == MESH_MODE_OFF) {
        snprintf(out, cap, "plain TCP: an endpoint of service %s, whose mode is off", hit->service.name);
    } else if (found) {
        snprintf(out, cap, "mutual TLS with this endpoint itself, as %s", hit->service.id);
    } else if (!hit->registry_only) {
        snprintf(out, cap, "plain TCP: no address of the mesh, and egress is allow_any");
    } else {
        snprintf(out, cap, "%s", decide_egress(&w->to));
    }
}

/* The item of egress_allow that takes this host name and port, or NULL. */
static const struct meshd_net_rule *
egress_host(const char *text)
{
    const struct meshd_config *cfg = meshd_config_current();
    char name[MESH_PATTERN_MAX];
    size_t n = strcspn(text, ":");
    unsigned long port = text[n] ? strtoul(text + n + 1, NULL, 10) : 0;
    n -= n > 1 && text[n - 1] == '.';
    for (size_t i = 0; i < n && i < sizeof(name) - 1; i++) {
        name[i] = (char)tolower((unsigned char)text[i]);
    }
    name[n < sizeof(name) ? n : 0] = '\0';
    for (size_t i = 0; i < cfg->egress_allow_count; i++) {
        const struct meshd_net_rule *r = &cfg->egress_allow[i];
        if (r->host[0] && (port == 0 || r->port == 0 || r->port == port) && mesh_snap_pattern_takes(r->host, name)) {
            return r;
        }
    }
    return NULL;
}

/* To a name that is none of the mesh's: where that leads is its look-up's to say. */
static json_t *
why_host(const char *from, const char *to, const struct meshd_net_rule *r)
{
    char text[512];
    snprintf(text, sizeof(text), "plain TCP to what the program's look-up says: egress_allow has %s at %s:%u", r->host,
             r->at.file, r->at.line);
    return json_pack("{s:i, s:s, s:o, s:s, s:s, s:[], s:[], s:o}", "schema", MESHD_SCHEMA, "from", from, "to",
                     meshd_show_string(to), "addr", "", "found", "nothing", "targets", "endpoints", "decision",
                     meshd_show_string(text));
}

json_t *
meshd_show_why(const struct meshd_question *q, char *why, size_t cap)
{
    struct mesh_snap snap = meshd_registry_view();
    struct client from;
    struct why w = {0};
    struct mesh_snap_hit hit = {0};
    char text[MESH_ADDR_TEXT], decision[1536];
    bool found = false;
    if (!read_client(q->arg, &from)) {
        snprintf(why, cap, "\"%s\" is no client; write SERVICE[,uid=N][,unit=UNIT][,exe=PATH][,source_ip=ADDRESS]", q->arg);
        return NULL;
    }
    if (!read_address(q->arg2, &w.to)) {
        const struct meshd_net_rule *r = egress_host(q->arg2);
        if (r) {
            return why_host(from.service, q->arg2, r);
        }
        snprintf(why, cap, "\"%s\" is no ADDR:PORT and no name of a service; see meshctl services", q->arg2);
        return NULL;
    }
    w.who = (struct mesh_snap_client){from.service, from.unit, from.uid};
    w.asker = (struct meshd_hash_asker){{.identity = from.id, .unit = from.unit, .exe = from.exe, .uid = from.uid,
                                         .from = from.from, .asked = w.to}, is_usable, &w};
    w.answer = json_pack("{s:i, s:s, s:o, s:s}", "schema", MESHD_SCHEMA, "from", from.service, "to",
                         meshd_show_string(q->arg2), "addr", mesh_addr_text(&w.to, text));
    w.targets = json_array();
    w.rows = json_array();
    meshd_registry_visit_endpoints(collect, &w);
    if (w.count) {
        qsort(w.all, w.count, sizeof(*w.all), by_id);
    }
    enum mesh_err e = mesh_snap_choose(&snap, meshd_registry_netns(), &w.to, &hit, &found, explain, &w);
    free(w.all);
    decide(&w, &hit, found, decision, sizeof(decision));
    json_object_set_new(w.answer, "found", json_string(!found ? "nothing" : hit.endpoint.flags & MESH_EP_SERVICE ? "service" : "endpoint"));
    json_object_set_new(w.answer, "targets", w.targets);
    json_object_set_new(w.answer, "endpoints", w.rows);
    json_object_set_new(w.answer, "hash", w.hash ? w.hash : json_null());
    json_object_set_new(w.answer, "decision", json_string(e == MESH_OK ? decision : mesh_err_text(e)));
    return w.answer;
}

static const char *
word(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

void
meshd_show_why_text(struct evbuffer *out, const json_t *answer)
{
    static const struct meshd_column targets[] = {
        {"TARGET", "service", MESHD_CELL_TEXT}, {"SUBSET", "subset", MESHD_CELL_TEXT}, {"FOR", "for", MESHD_CELL_TEXT},
        {"SHARE", "share", MESHD_CELL_TEXT}, {"ENDPOINTS", "endpoints", MESHD_CELL_TEXT}, {"USABLE", "usable", MESHD_CELL_TEXT}};
    static const struct meshd_column rows[] = {
        {"ENDPOINT", "addr", MESHD_CELL_TEXT}, {"SERVICE", "service", MESHD_CELL_TEXT}, {"FOR", "for", MESHD_CELL_TEXT},
        {"PRIORITY", "priority", MESHD_CELL_TEXT}, {"ZONE", "zone", MESHD_CELL_TEXT}, {"WEIGHT", "weight", MESHD_CELL_TEXT},
        {"ACTIVE", "connections_active", MESHD_CELL_TEXT}, {"CONNECT", "connect_seconds", MESHD_CELL_SHORT},
        {"STATE", "state", MESHD_CELL_TEXT}};
    bool service = strcmp(word(answer, "found"), "service") == 0;
    const json_t *rule = json_object_get(answer, "rule");
    evbuffer_add_printf(out, "%s -> %s", word(answer, "from"), word(answer, "to"));
    bool same = !*word(answer, "addr") || strcmp(word(answer, "to"), word(answer, "addr")) == 0;
    evbuffer_add_printf(out, same ? "\n" : " (%s)\n", word(answer, "addr"));
    if (service && json_is_integer(rule)) {
        evbuffer_add_printf(out, "service %s, rule %d at %s\n", word(answer, "service"), (int)json_integer_value(rule),
                            word(answer, "rule_at"));
    } else if (service) {
        evbuffer_add_printf(out, "service %s, no rule: all of it\n", word(answer, "service"));
    }
    if (service) {
        meshd_table_write(out, json_object_get(answer, "targets"), targets, sizeof(targets) / sizeof(targets[0]));
        meshd_table_write(out, json_object_get(answer, "endpoints"), rows, sizeof(rows) / sizeof(rows[0]));
    }
    const json_t *hash = json_object_get(answer, "hash");
    if (json_is_object(hash)) {
        evbuffer_add_printf(out, "key: %s\nhash: %s\n", word(hash, "key"), word(hash, "hash"));
    }
    evbuffer_add_printf(out, "decision: %s\n", word(answer, "decision"));
}
