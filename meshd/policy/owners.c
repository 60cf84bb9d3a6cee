/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_owners: see owners.h. Which service a connection means must be clear. Of those who claim the same the
 * first one in the files is the owner; the others are told where it stands. Tables, for there may be tens of
 * thousands of addresses; their keys are in the configuration itself.
 */
#include "meshd/policy/owners.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "meshd/policy/host.h"

struct owner {
    const struct meshd_service_rule *service;
    const struct meshd_origin *at;
    char name[MESH_SERVICE_MAX]; /* the key of a label */
    UT_hash_handle hh;
};

struct owners {
    struct owner *room; /* as many as can be needed */
    size_t used;
    struct owner *endpoints, *addresses, *hosts, *labels;
};

/* Who has it; `s`, if it was nobody's. */
static const struct owner *
claim(struct owners *o, struct owner **table, const void *key, size_t len, const struct meshd_service_rule *s,
      const struct meshd_origin *at)
{
    struct owner *w = NULL;
    HASH_FIND(hh, *table, key, len, w);
    if (!w) {
        w = &o->room[o->used++];
        w->service = s;
        w->at = at;
        HASH_ADD_KEYPTR(hh, *table, key, len, w);
    }
    return w;
}

static const struct owner *
find(const struct owner *table, const void *key, size_t len)
{
    struct owner *w = NULL;
    HASH_FIND(hh, table, key, len, w);
    return w;
}

static void
check_endpoints(const struct meshd_service_rule *s, struct owners *o, struct meshd_diags *d)
{
    char text[MESH_ADDR_TEXT];
    for (size_t i = 0; i < s->endpoint_count; i++) {
        const struct meshd_endpoint_rule *e = &s->endpoints[i];
        const struct owner *w = claim(o, &o->endpoints, &e->addr, sizeof(e->addr), s, &e->at);
        if (w->service != s) {
            meshd_diag_error(d, e->at.file, e->at.line, "endpoints: %s is already an endpoint of service '%s' at %s:%u",
                             mesh_addr_text(&e->addr, text), w->service->name, w->at->file, w->at->line);
        }
    }
}

/* An address is one service's, be it as its own or as an endpoint's. */
static void
check_addresses(const struct meshd_service_rule *s, struct owners *o, struct meshd_diags *d)
{
    char text[MESH_ADDR_TEXT];
    for (size_t i = 0; i < s->address_count; i++) {
        const struct meshd_address_rule *a = &s->addresses[i];
        const struct owner *w = claim(o, &o->addresses, &a->addr, sizeof(a->addr), s, &a->at);
        const struct owner *e = find(o->endpoints, &a->addr, sizeof(a->addr));
        mesh_addr_text(&a->addr, text);
        if (w->service != s) {
            meshd_diag_error(d, a->at.file, a->at.line, "addresses: %s is already an address of service '%s' at %s:%u",
                             text, w->service->name, w->at->file, w->at->line);
        } else if (e && e->service != s) {
            meshd_diag_error(d, a->at.file, a->at.line, "addresses: %s is an endpoint of service '%s' at %s:%u", text,
                             e->service->name, e->at->file, e->at->line);
        }
    }
}

/* The names by which services are reached alone, in lower case. */
static void
claim_label(const struct meshd_service_rule *s, struct owners *o)
{
    struct owner *w = &o->room[o->used];
    if (!meshd_config_is_label(s->name)) {
        return;
    }
    for (size_t i = 0; s->name[i]; i++) {
        w->name[i] = (char)tolower((unsigned char)s->name[i]);
    }
    (void)claim(o, &o->labels, w->name, strlen(w->name), s, &s->at);
}

static void
check_hosts(const struct meshd_config *cfg, const struct meshd_service_rule *s, struct owners *o, struct meshd_diags *d)
{
    for (size_t i = 0; i < s->host_count; i++) {
        const struct meshd_host_rule *h = &s->hosts[i];
        const char *name = h->host.name;
        const struct owner *l = find(o->labels, name, strlen(name));
        const struct owner *w = claim(o, &o->hosts, name, strlen(name), s, &h->at);
        if (meshd_host_is_under(name, cfg->virtual_domain)) {
            meshd_diag_error(d, h->at.file, h->at.line,
                             "hosts: %s lies under virtual_domain, where services have their own names", name);
        } else if (l && l->service != s) {
            meshd_diag_error(d, h->at.file, h->at.line, "hosts: %s is the name of service '%s' at %s:%u", name,
                             l->service->name, l->at->file, l->at->line);
        } else if (w->service != s) {
            meshd_diag_error(d, h->at.file, h->at.line, "hosts: %s is already a host of service '%s' at %s:%u", name,
                             w->service->name, w->at->file, w->at->line);
        }
    }
}

static size_t
most_owners(const struct meshd_config *cfg)
{
    size_t n = 1;
    for (size_t i = 0; i < cfg->service_count; i++) {
        const struct meshd_service_rule *s = &cfg->services[i];
        n += 1 + s->endpoint_count + s->address_count + s->host_count;
    }
    return n;
}

void
meshd_owners_check(const struct meshd_config *cfg, struct meshd_diags *d)
{
    struct owners o = {.room = calloc(most_owners(cfg), sizeof(struct owner))};
    if (!o.room) {
        meshd_diag_error(d, NULL, 0, "out of memory");
        return;
    }
    for (size_t i = 0; i < cfg->service_count; i++) {
        check_endpoints(&cfg->services[i], &o, d);
        if (cfg->virtual_domain[0]) {
            claim_label(&cfg->services[i], &o);
        }
    }
    for (size_t i = 0; i < cfg->service_count; i++) {
        check_addresses(&cfg->services[i], &o, d);
        check_hosts(cfg, &cfg->services[i], &o, d);
    }
    HASH_CLEAR(hh, o.endpoints);
    HASH_CLEAR(hh, o.addresses);
    HASH_CLEAR(hh, o.hosts);
    HASH_CLEAR(hh, o.labels);
    free(o.room);
}
