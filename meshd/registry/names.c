/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_names: see names.h.
 *
 * Addresses and names are worked out anew only when a service has come or gone, or the configuration
 * was loaded; ports with each snapshot.
 */
#include "meshd/registry/names.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/snap_names.h"
#include "meshd/attest/attest.h"
#include "meshd/base/log.h"
#include "meshd/policy/config.h"
#include "meshd/registry/front.h"
#include "meshd/registry/given.h"
#include "meshd/registry/listener.h"
#include "meshd/registry/nametab.h"
#include "meshd/registry/netlink.h"
#include "meshd/registry/service.h"
#include "meshd/registry/snapfile.h"

/* A service of the configuration is held, so that it is there without endpoints. */
static struct meshd_service_entry **held;
static size_t held_count;
static uint64_t loads; /* how often the configuration was taken */

static struct name {
    struct mesh_snap_name n;
    struct meshd_service_entry *service;
} *names;
static struct mesh_snap_name *table; /* as it is written */
static uint32_t name_count;
static uint64_t built_for_services, built_for_load;

static struct port {
    struct meshd_service_entry *service;
    uint16_t port;
    bool listed; /* all of the service's endpoints: the configuration lists "name:port" */
} *ports;
static size_t port_count, port_room;

static void
release(struct meshd_service_entry **at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        at[i]->named--;
        meshd_service_put(at[i]);
    }
    free(at);
}

enum mesh_err
meshd_names_load(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    size_t n = 0;
    struct meshd_service_entry **fresh = calloc(cfg->service_count + 1, sizeof(struct meshd_service_entry *));
    for (size_t i = 0; fresh && i < cfg->service_count; i++) {
        const struct meshd_service_rule *r = &cfg->services[i];
        char id[MESH_ID_MAX];
        if (!cfg->virtual_domain[0] && r->host_count == 0) {
            continue;
        }
        struct meshd_service_entry *s =
            meshd_attest_id(r->name, id) == MESH_OK ? meshd_service_get(r->name, id) : NULL;
        if (!s) {
            release(fresh, n);
            return MESH_E_NO_MEMORY;
        }
        s->named++;
        fresh[n++] = s;
    }
    if (!fresh) {
        return MESH_E_NO_MEMORY;
    }
    release(held, held_count);
    held = fresh;
    held_count = n;
    loads++;
    return MESH_OK;
}

void
meshd_names_fini(void)
{
    release(held, held_count);
    free(names);
    free(table);
    free(ports);
    held = NULL;
    names = NULL;
    table = NULL;
    ports = NULL;
    held_count = port_count = port_room = 0;
    name_count = 0;
    built_for_load = built_for_services = 0;
}

uint32_t
meshd_names_entries(void)
{
    return 2 * (uint32_t)port_count;
}

/* ---- addresses ---- */

enum rank { NAMED, OTHERS }; /* by the configuration, and not */

/* One whom only a rule in workloads names counts too: it is that rule which keeps strangers out of it. */
static enum rank
rank_of(const struct meshd_config *cfg, const char *service)
{
    for (size_t i = 0; i < cfg->workload_count; i++) {
        if (strcmp(cfg->workloads[i].service, service) == 0) {
            return NAMED;
        }
    }
    return meshd_config_service(cfg, service) ? NAMED : OTHERS;
}

static int
by_rank(const void *a, const void *b)
{
    const struct meshd_service_entry *x = *(struct meshd_service_entry *const *)a,
                                     *y = *(struct meshd_service_entry *const *)b;
    return x->rank != y->rank ? x->rank - y->rank : strcmp(x->name, y->name);
}

/* The slots that are taken, open addressing; `room` is a power of two and more than twice their number. */
struct taken {
    uint32_t *at; /* slot + 1 */
    size_t room;
};

/* False: somebody has it. */
static bool
take(struct taken *t, uint32_t slot)
{
    size_t i = slot & (t->room - 1);
    while (t->at[i] && t->at[i] != slot + 1) {
        i = (i + 1) & (t->room - 1);
    }
    bool is_free = t->at[i] == 0;
    t->at[i] = slot + 1;
    return is_free;
}

static void
give_address(struct meshd_service_entry *s, const char *trust_domain, struct taken *t)
{
    char text[MESH_ADDR_TEXT];
    uint64_t hash = mesh_vaddr_hash(trust_domain, s->name);
    uint32_t wanted = (uint32_t)(hash % MESH_VADDR_SLOTS), slot = wanted;
    struct mesh_vaddr old = s->vaddr;
    while (!take(t, slot)) {
        slot = (slot + 1) % MESH_VADDR_SLOTS;
    }
    mesh_vaddr_at(&s->vaddr, hash, slot);
    s->has_vaddr = true;
    if (slot != wanted && memcmp(&old, &s->vaddr, sizeof(old)) != 0) {
        struct mesh_addr a = mesh_vaddr_addr(&s->vaddr, AF_INET, 0);
        log_warn("the virtual address of service %s is another one's, too; it has %s instead", s->name,
                 mesh_addr_text(&a, text));
    }
}

static bool
give_addresses(struct meshd_service_entry **all, size_t n)
{
    const struct meshd_config *cfg = meshd_config_current();
    struct taken t = {.room = 64};
    while (t.room < 4 * n) {
        t.room *= 2;
    }
    t.at = calloc(t.room, sizeof(*t.at));
    for (size_t i = 0; t.at && i < n; i++) {
        const struct meshd_service_rule *r = meshd_config_service(cfg, all[i]->name);
        all[i]->has_vaddr = false;
        if (cfg->virtual_domain[0] || (r && r->host_count > 0)) {
            give_address(all[i], cfg->trust_domain, &t);
        }
    }
    bool ok = t.at != NULL;
    free(t.at);
    return ok;
}

/* ---- names ---- */

static void
add_name(struct meshd_service_entry *s, const char *text, uint8_t kind)
{
    struct name *to = &names[name_count++];
    memset(to, 0, sizeof(*to));
    to->service = s;
    to->n.kind = kind;
    for (size_t i = 0; i < sizeof(to->n.name) - 1 && text[i]; i++) {
        bool upper = text[i] >= 'A' && text[i] <= 'Z';
        to->n.name[i] = (char)(upper ? text[i] + 'a' - 'A' : text[i]);
    }
    memcpy(to->n.v4, s->vaddr.v4, sizeof(to->n.v4));
    memcpy(to->n.v6, s->vaddr.v6, sizeof(to->n.v6));
}

static void
add_names(struct meshd_service_entry *s)
{
    const struct meshd_config *cfg = meshd_config_current();
    const struct meshd_service_rule *r = meshd_config_service(cfg, s->name);
    if (cfg->virtual_domain[0]) {
        bool label = r && meshd_config_is_label(s->name);
        add_name(s, s->name, (uint8_t)(MESH_NAME_DOMAIN | (label ? MESH_NAME_LABEL : 0)));
    }
    for (size_t i = 0; r && i < r->host_count; i++) {
        bool again = false; /* with another port */
        for (size_t k = 0; k < i; k++) {
            again |= strcmp(r->hosts[k].host.name, r->hosts[i].host.name) == 0;
        }
        if (!again) {
            add_name(s, r->hosts[i].host.name, MESH_NAME_HOST);
        }
    }
}

/* A service's own name comes before its hosts: it is what its address is called. Of two names that differ
 * in the case of letters the better rank's is the one that is found. */
static int
by_text(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    int c = strcmp(x->n.name, y->n.name);
    c = c ? c : (x->n.kind == MESH_NAME_HOST) - (y->n.kind == MESH_NAME_HOST);
    c = c ? c : x->service->rank - y->service->rank;
    return c ? c : strcmp(x->service->name, y->service->name);
}

static int
by_kind(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    int c = (x->n.kind == MESH_NAME_HOST) - (y->n.kind == MESH_NAME_HOST);
    return c ? c : by_text(a, b);
}

static void
drop_doubles(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < name_count; i++) {
        const struct name *last = n ? &names[n - 1] : NULL;
        if (last && strcmp(last->n.name, names[i].n.name) == 0 &&
            (last->n.kind == MESH_NAME_HOST) == (names[i].n.kind == MESH_NAME_HOST)) {
            log_warn("service %s cannot be reached by its name: service %s has the same but for the case of letters",
                     names[i].service->name, last->service->name);
            continue;
        }
        names[n++] = names[i];
    }
    name_count = n;
}

static bool
make_names(struct meshd_service_entry **all, size_t n)
{
    const struct meshd_config *cfg = meshd_config_current();
    size_t most = n + 1;
    for (size_t i = 0; i < cfg->service_count; i++) {
        most += cfg->services[i].host_count;
    }
    struct name *fresh = calloc(most, sizeof(*fresh));
    struct mesh_snap_name *out = calloc(most, sizeof(*out));
    if (!fresh || !out) {
        free(fresh);
        free(out);
        return false;
    }
    free(names);
    free(table);
    names = fresh;
    table = out;
    name_count = 0;
    for (size_t i = 0; i < n; i++) {
        if (all[i]->has_vaddr) {
            add_names(all[i]);
        }
    }
    qsort(names, name_count, sizeof(*names), by_text);
    drop_doubles();
    qsort(names, name_count, sizeof(*names), by_kind);
    return true;
}

static bool
rebuild(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    size_t n = 0;
    struct meshd_service_entry **all = calloc(meshd_service_count() + 1u, sizeof(struct meshd_service_entry *));
    for (struct meshd_service_entry *s = meshd_service_first(); all && s; s = s->hh.next) {
        if (s->ranked != loads) {
            s->rank = rank_of(cfg, s->name);
            s->ranked = loads;
        }
        all[n++] = s;
    }
    if (all) {
        qsort(all, n, sizeof(struct meshd_service_entry *), by_rank);
    }
    bool ok = all && give_addresses(all, n) && make_names(all, n);
    free(all);
    if (ok) {
        built_for_load = loads;
        built_for_services = meshd_service_changes();
    }
    return ok;
}

/* ---- ports ---- */

static bool
add_port(struct meshd_service_entry *s, uint16_t port, bool listed)
{
    const struct port *last = port_count ? &ports[port_count - 1] : NULL;
    if (last && last->service == s && last->port == port && last->listed == listed) {
        return true; /* as nearly every further endpoint of a service */
    }
    if (port_count == port_room) {
        size_t room = port_room ? 2 * port_room : 64;
        struct port *more = realloc(ports, room * sizeof(*more));
        if (!more) {
            return false;
        }
        ports = more;
        port_room = room;
    }
    ports[port_count++] = (struct port){s, port, listed};
    return true;
}

static int
add_given(const struct meshd_endpoint *e, void *arg)
{
    struct meshd_service_entry *s = meshd_service_find(e->service);
    (void)arg;
    return s && s->has_vaddr && e->weight > 0 && !add_port(s, e->addr.port, false);
}

/* Those that only the configuration lists come after the same ones of endpoints, and fall out. */
static int
by_port(const void *a, const void *b)
{
    const struct port *x = a, *y = b;
    int c = x->service == y->service ? 0 : strcmp(x->service->name, y->service->name);
    c = c ? c : x->port - y->port;
    return c ? c : x->listed - y->listed;
}

/* In order, each once. */
static void
sort_ports(void)
{
    size_t n = 0;
    if (port_count) {
        qsort(ports, port_count, sizeof(*ports), by_port);
    }
    for (size_t i = 0; i < port_count; i++) {
        if (n == 0 || ports[n - 1].service != ports[i].service || ports[n - 1].port != ports[i].port) {
            ports[n++] = ports[i];
        }
    }
    port_count = n;
}

/* A service has the ports of those that its rules lead to, too: it is with them that they have to do
 * when its own endpoints are gone. */
struct led {
    struct meshd_service_entry *from;
    size_t own; /* of ports, in order: before what is added here */
    bool failed;
};

static void
add_target_ports(const char *service, void *arg)
{
    struct led *l = arg;
    size_t low = 0, high = l->own;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(ports[mid].service->name, service) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    for (; low < l->own && strcmp(ports[low].service->name, service) == 0; low++) {
        l->failed |= ports[low].service != l->from && !add_port(l->from, ports[low].port, false);
    }
}

static bool
add_all_target_ports(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    struct led l = {.own = port_count};
    for (size_t i = 0; i < cfg->service_count; i++) {
        l.from = meshd_service_find(cfg->services[i].name);
        if (l.from && l.from->has_vaddr) {
            meshd_front_each_target(&cfg->services[i], add_target_ports, &l);
        }
    }
    return !l.failed;
}

static bool
collect_ports(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    port_count = 0;
    for (struct meshd_listener *l = meshd_listener_first(); l; l = meshd_listener_next(l)) {
        meshd_listener_rule(l);
        if (l->service->has_vaddr && l->e.weight > 0 && !add_port(l->service, l->e.addr.port, false)) {
            return false;
        }
    }
    if (meshd_given_visit(add_given, NULL) != 0) {
        return false;
    }
    sort_ports();
    if (!add_all_target_ports()) {
        return false;
    }
    for (size_t i = 0; i < cfg->service_count; i++) {
        const struct meshd_service_rule *r = &cfg->services[i];
        struct meshd_service_entry *s = r->host_count ? meshd_service_find(r->name) : NULL;
        for (size_t k = 0; s && k < r->host_count; k++) {
            if (r->hosts[k].host.port && !add_port(s, r->hosts[k].host.port, true)) {
                return false;
            }
        }
    }
    sort_ports();
    return true;
}

/* ---- writing ---- */

enum mesh_err
meshd_names_prepare(void)
{
    bool old = built_for_load != loads || built_for_services != meshd_service_changes();
    if ((old && !rebuild()) || !collect_ports()) {
        port_count = 0;
        return MESH_E_NO_MEMORY;
    }
    return MESH_OK;
}

void
meshd_names_write(void)
{
    static const int families[] = {AF_INET, AF_INET6};
    for (size_t i = 0; i < 2 * port_count; i++) {
        const struct port *p = &ports[i / 2];
        struct mesh_addr a = mesh_vaddr_addr(&p->service->vaddr, families[i % 2], p->port);
        struct mesh_snap_endpoint e = {
            .port = a.port,
            .flags = (uint8_t)(MESH_EP_SERVICE | (p->listed ? 0 : MESH_EP_PORT)),
            .mode = MESH_MODE_STRICT,
            .netns = meshd_netlink_own(),
            .service = p->service->index,
        };
        memcpy(e.addr, a.ip, 16);
        (void)meshd_snapfile_endpoint(&e);
    }
    for (uint32_t i = 0; i < name_count; i++) {
        table[i] = names[i].n;
        table[i].service = names[i].service->index;
    }
    meshd_nametab_write(table, name_count, meshd_config_current()->virtual_domain);
}
