/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_show: the lists; see show.h. Each is one visitor that makes one object for each thing it is
 * shown. What cannot be allocated is left out rather than half there.
 */
#include "meshd/ctl/show.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/vaddr.h"
#include "meshd/base/loop.h"
#include "meshd/health/health.h"
#include "meshd/ident/ca.h"
#include "meshd/policy/config.h"
#include "meshd/registry/registry.h"
#include "meshd/stats/stats.h"

struct list {
    json_t *rows;
    bool truncated;
};

json_t *
meshd_show_string(const char *s)
{
    char text[1024];
    size_t n = 0;
    for (; s[n] && n < sizeof(text) - 1; n++) {
        text[n] = (char)(s[n] >= 0x20 && s[n] < 0x7f ? s[n] : '?');
    }
    return json_stringn(text, n);
}

json_t *
meshd_show_seconds(uint64_t ns)
{
    return ns ? json_real((double)(ns / 1000000) / 1e3) : json_null();
}

const char *
meshd_show_mode(unsigned mode)
{
    static const char *const names[] = {"off", "permissive", "strict"};
    return mode < sizeof(names) / sizeof(names[0]) ? names[mode] : "unknown";
}

const char *
meshd_show_load_balancer(unsigned lb)
{
    static const char *const names[] = {"least_request", "round_robin", "random", "peak_ewma", "ring_hash", "maglev"};
    _Static_assert(sizeof(names) / sizeof(names[0]) == MESH_LB_COUNT, "one each");
    return lb < MESH_LB_COUNT ? names[lb] : "unknown";
}

static int
add(struct list *l, json_t *row)
{
    if (json_array_size(l->rows) >= MESHD_SHOW_MOST) {
        json_decref(row);
        l->truncated = true;
        return 1;
    }
    return json_array_append_new(l->rows, row) == 0 ? 0 : 1;
}

static json_t *
list_end(struct list *l, const char *key)
{
    return json_pack("{s:i, s:o, s:b}", "schema", MESHD_SCHEMA, key, l->rows, "truncated",
                     l->truncated);
}

/* -- services ------------------------------------------------------------------------------- */

static json_t *
find_service(const struct list *l, const char *name)
{
    json_t *row;
    size_t i;
    json_array_foreach(l->rows, i, row) {
        if (strcmp(json_string_value(json_object_get(row, "name")), name) == 0) {
            return row;
        }
    }
    return NULL;
}

static json_t *
service_addresses(const struct meshd_service_rule *r)
{
    char text[MESH_ADDR_TEXT];
    json_t *all = json_array();
    for (size_t i = 0; r && i < r->address_count; i++) {
        json_array_append_new(all, json_string(mesh_addr_text(&r->addresses[i].addr, text)));
    }
    return all;
}

/* IPv4, then IPv6. */
static json_t *
service_virtual(const struct mesh_vaddr *v)
{
    char text[INET6_ADDRSTRLEN];
    json_t *all = json_array();
    if (v) {
        json_array_append_new(all, json_string(inet_ntop(AF_INET, v->v4, text, sizeof(text))));
        json_array_append_new(all, json_string(inet_ntop(AF_INET6, v->v6, text, sizeof(text))));
    }
    return all;
}

static json_t *
service_hosts(const struct meshd_service_rule *r)
{
    char text[MESH_HOST_MAX + 8];
    json_t *all = json_array();
    for (size_t i = 0; r && i < r->host_count; i++) {
        const struct meshd_host *h = &r->hosts[i].host;
        snprintf(text, sizeof(text), h->port ? "%s:%u" : "%s", h->name, h->port);
        json_array_append_new(all, json_string(text));
    }
    return all;
}

/* How fast the service's connections may be, together, and how many they are; null: as fast as they can. */
static json_t *
service_bandwidth(const char *name, const struct meshd_service_rule *r)
{
    uint32_t opened = 0, accepted = 0;
    if (!r || r->limits.service_bandwidth == 0) {
        return json_null();
    }
    meshd_registry_sharing(name, &opened, &accepted);
    return json_pack("{s:I, s:I, s:I}", "per_service", (json_int_t)r->limits.service_bandwidth, "opened",
                     (json_int_t)opened, "accepted", (json_int_t)accepted);
}

static int
on_service(const struct meshd_service *s, void *arg)
{
    const struct meshd_service_rule *r = s->rule;
    struct meshd_service_live l;
    meshd_registry_service_live(s->name, &l);
    json_t *row = json_pack("{s:s, s:s, s:s, s:b, s:I, s:o, s:s, s:i, s:o, s:o, s:o}", "name", s->name, "id", s->id,
                            "mode", meshd_show_mode(s->mode), "strict_close", s->strict_close,
                            "endpoints", (json_int_t)s->endpoints, "addresses", service_addresses(r),
                            "load_balancer", meshd_show_load_balancer(r ? r->load_balancer : 0), "draining", 0, "virtual",
                            service_virtual(s->vaddr), "hosts", service_hosts(r), "bandwidth",
                            service_bandwidth(s->name, r));
    json_t *live = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "upstream_cx_active", (json_int_t)l.active,
        "upstream_cx_pending", (json_int_t)l.pending, "upstream_cx_retries", (json_int_t)l.retries,
        "ejections_active", (json_int_t)l.ejected, "ejections_enforced", (json_int_t)l.ejections,
        "ejections_overflow", (json_int_t)l.ejections_overflow, "cx_overflow", (json_int_t)l.cx_overflow,
        "pending_overflow", (json_int_t)l.pending_overflow, "retry_overflow", (json_int_t)l.retry_overflow);
    if (row && live) {
        json_object_update(row, live);
    }
    json_decref(live);
    return add(arg, row);
}

static uint64_t
failures(const struct meshd_counters *c)
{
    uint64_t n = 0;
    for (unsigned i = MESH_OK + 1; i < MESH_ERR_COUNT; i++) {
        n += c->err[i];
    }
    return n;
}

/* Clients have counters but no listener, and so no place in the registry. */
static int
on_total(const struct meshd_total *t, void *arg)
{
    struct list *l = arg;
    const uint64_t *n = t->counters.stat;
    json_t *row = find_service(l, t->service);
    if (!row) {
        row = json_pack("{s:s, s:s, s:i}", "name", t->service, "id", "", "endpoints", 0);
        if (add(l, row) != 0) {
            return 1;
        }
    }
    json_t *more = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "connections_active",
        (json_int_t)n[MESH_STAT_ACTIVE], "opened_out", (json_int_t)n[MESH_STAT_OPEN_OUT],
        "opened_in", (json_int_t)n[MESH_STAT_OPEN_IN], "plaintext_in",
        (json_int_t)n[MESH_STAT_PLAIN_IN], "plaintext_out", (json_int_t)n[MESH_STAT_PLAIN_OUT],
        "sent_bytes", (json_int_t)n[MESH_STAT_TX_BYTES], "received_bytes",
        (json_int_t)n[MESH_STAT_RX_BYTES], "failures", (json_int_t)failures(&t->counters));
    int r = json_object_update(row, more);
    json_decref(more);
    return r;
}

/* How many of a service's endpoints are draining. */
static int
on_draining(const struct meshd_endpoint *e, void *arg)
{
    json_t *row = e->draining ? find_service(arg, e->service) : NULL;
    if (row) {
        json_int_t n = json_integer_value(json_object_get(row, "draining"));
        json_object_set_new(row, "draining", json_integer(n + 1));
    }
    return 0;
}

json_t *
meshd_show_services(void)
{
    struct list l = {json_array(), false};
    meshd_registry_visit_services(on_service, &l);
    meshd_registry_visit_endpoints(on_draining, &l);
    meshd_stats_visit_totals(on_total, &l);
    return list_end(&l, "services");
}

/* -- endpoints ------------------------------------------------------------------------------ */

static json_t *
other_addresses(const struct meshd_endpoint *e)
{
    char text[MESH_ADDR_TEXT];
    json_t *all = json_array();
    for (unsigned i = 0; i < e->ifaddrs && i < MESH_WIRE_IFADDRS; i++) {
        json_array_append_new(all, json_string(mesh_addr_text(&e->ifaddr[i], text)));
    }
    return all;
}

static void
add_health(json_t *row, const struct meshd_endpoint *e)
{
    struct meshd_health_info h;
    meshd_health_of(e, &h);
    json_t *more = json_pack("{s:s, s:o, s:o, s:o, s:I, s:I}", "health", meshd_health_word(h.is),
                             "health_since", meshd_show_seconds(h.since_ns), "health_checked",
                             meshd_show_seconds(h.checked_ns), "health_reason",
                             meshd_show_string(h.reason), "health_successes",
                             (json_int_t)h.successes, "health_failures", (json_int_t)h.failures);
    if (row && more) {
        json_object_update(row, more);
    }
    json_decref(more);
}

/* What connections to it say: how many there are, whether it is ejected, until when, how often in a row. */
static json_t *
endpoint_live(const struct meshd_endpoint *e)
{
    static const char *const states[] = {[MESH_OUTLIER_IN] = "no", [MESH_OUTLIER_EJECTED] = "yes",
                                         [MESH_OUTLIER_PROBED] = "probing", [MESH_OUTLIER_DUE] = "due"};
    struct meshd_endpoint_live l;
    uint64_t now = meshd_now_ns() / 1000000, real = meshd_real_ns();
    meshd_registry_endpoint_live(e, &l);
    uint64_t left = l.until_ms > now ? l.until_ms - now : 0;
    return json_pack("{s:I, s:I, s:s, s:o, s:o, s:I, s:o}", "connections_active", (json_int_t)l.active,
                     "consecutive_failures", (json_int_t)l.failures, "ejected", states[l.state],
                     "ejected_until", meshd_show_seconds(left ? real + left * 1000000 : 0),
                     "ejected_for", left ? json_real((double)left / 1e3) : json_null(), "ejections",
                     (json_int_t)l.times, "connect_seconds",
                     l.latency_us ? json_real((double)l.latency_us / 1e6) : json_null());
}

/* "/etc/meshd/meshd.conf:12", "dns:db.example", "listener" */
static json_t *
source(const struct meshd_endpoint *e)
{
    char text[320];
    snprintf(text, sizeof(text), e->line ? "%s:%u" : "%s", e->from, e->line);
    return meshd_show_string(text);
}

static int
on_endpoint(const struct meshd_endpoint *e, void *arg)
{
    char addr[MESH_ADDR_TEXT];
    json_t *row = json_pack("{s:I, s:s, s:s, s:i, s:s, s:b, s:b, s:o, s:I, s:I, s:I, s:o, s:I, s:s, s:b, s:b, s:i, s:o}", "id",
                              (json_int_t)e->id, "service", e->service, "addr",
                              mesh_addr_text(&e->addr, addr), "port", (int)e->addr.port, "mode",
                              meshd_show_mode(e->mode), "wildcard", (e->flags & MESH_EP_ANY) != 0,
                              "namespace_only", (e->flags & MESH_EP_NETNS) != 0, "addresses",
                              other_addresses(e), "netns", (json_int_t)e->netns, "pid",
                              (json_int_t)e->pid, "uid", (json_int_t)e->uid, "since",
                              meshd_show_seconds(e->since_ns), "weight", (json_int_t)e->weight,
                              "zone", e->zone, "draining", e->draining, "leaving", e->leaving, "priority",
                              (int)e->priority, "source", source(e));
    add_health(row, e);
    json_t *live = endpoint_live(e);
    if (row && live) {
        json_object_update(row, live);
    }
    json_decref(live);
    return add(arg, row);
}

json_t *
meshd_show_endpoints(void)
{
    struct list l = {json_array(), false};
    meshd_registry_visit_endpoints(on_endpoint, &l);
    return list_end(&l, "endpoints");
}

/* -- workloads ------------------------------------------------------------------------------ */

static int
on_workload(const struct meshd_workload *w, void *arg)
{
    const uint64_t *n = w->counters.stat;
    json_t *row = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:I, s:I, s:o}", "service",
                            w->service, "id", w->id, "pid", (json_int_t)w->pid, "processes",
                            (json_int_t)w->processes, "uid", (json_int_t)w->uid, "gid",
                            (json_int_t)w->gid, "exe", w->exe, "unit", w->unit, "netns",
                            (json_int_t)w->netns, "page_id", (json_int_t)w->page_id, "attached",
                            meshd_show_seconds(w->attached_ns));
    json_t *more = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "connections_active",
        (json_int_t)n[MESH_STAT_ACTIVE], "handshakes", (json_int_t)n[MESH_STAT_HS_OK],
        "plaintext_in", (json_int_t)n[MESH_STAT_PLAIN_IN], "sent_bytes",
        (json_int_t)n[MESH_STAT_TX_BYTES], "received_bytes", (json_int_t)n[MESH_STAT_RX_BYTES],
        "failures", (json_int_t)failures(&w->counters), "connections_unlisted",
        (json_int_t)w->conns_full, "processes_unlisted", w->pids_full);
    if (row && more) {
        json_object_update(row, more);
    }
    json_decref(more);
    return add(arg, row);
}

json_t *
meshd_show_workloads(void)
{
    struct list l = {json_array(), false};
    meshd_stats_visit_workloads(on_workload, &l);
    return list_end(&l, "workloads");
}

/* -- connections ---------------------------------------------------------------------------- */

static const char *
cipher_name(uint16_t suite)
{
    switch (suite) {
    case 0x1301:
        return "TLS_AES_128_GCM_SHA256";
    case 0x1302:
        return "TLS_AES_256_GCM_SHA384";
    case 0x1303:
        return "TLS_CHACHA20_POLY1305_SHA256";
    default:
        return "";
    }
}

static const char *
state_name(enum mesh_page_state s)
{
    return s == MESH_CONN_HANDSHAKE ? "handshake" : s == MESH_CONN_OPEN ? "open" : "closed";
}

static json_t *
duration(const struct meshd_conn *c)
{
    uint64_t end = c->state == MESH_CONN_CLOSED && c->closed_ns ? c->closed_ns : meshd_real_ns();
    return json_real(end > c->opened_ns ? (double)((end - c->opened_ns) / 1000) / 1e6 : 0.0);
}

/* "mutual_tls" only once the handshake is done: a suite is negotiated and the peer is known. */
static bool
is_secure(const struct meshd_conn *c)
{
    return !c->plaintext && cipher_name(c->cipher)[0] && c->peer_id[0];
}

static json_t *
connection(const struct meshd_conn *c)
{
    char local[MESH_ADDR_TEXT], peer[MESH_ADDR_TEXT];
    const char *cipher = c->plaintext ? "" : cipher_name(c->cipher);
    json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "direction",
                            c->outbound ? "outbound" : "inbound", "local_addr",
                            mesh_addr_text(&c->local, local), "peer_addr",
                            mesh_addr_text(&c->peer, peer), "local_id", c->id, "peer_id",
                            c->peer_id, "local_service", c->service, "peer_service",
                            c->peer_service);
    json_t *more = json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:s, s:s?, s:I, s:o, s:o, s:o, s:f}", "cipher", cipher,
        "tls_version", cipher[0] ? "TLSv1.3" : "", "security",
        is_secure(c) ? "mutual_tls" : "none", "sent_bytes", (json_int_t)c->tx_bytes,
        "received_bytes", (json_int_t)c->rx_bytes, "state", state_name(c->state), "reason",
        c->reason != MESH_OK ? mesh_err_reason(c->reason) : NULL, "pid", (json_int_t)c->pid,
        "opened", meshd_show_seconds(c->opened_ns), "closed",
        meshd_show_seconds(c->state == MESH_CONN_CLOSED ? c->closed_ns : 0), "duration",
        duration(c), "handshake_seconds", (double)c->handshake_us / 1e6);
    if (row && more) {
        json_object_update(row, more);
    }
    json_decref(more);
    meshd_show_end(row, c);
    return row;
}

static int
on_connection(const struct meshd_conn *c, void *arg)
{
    return add(arg, connection(c));
}

json_t *
meshd_show_connections(void)
{
    struct list l = {json_array(), false};
    meshd_stats_visit_active(on_connection, &l);
    if (!l.truncated) {
        meshd_stats_visit_closed(on_connection, &l);
    }
    return list_end(&l, "connections");
}

/* -- certificates --------------------------------------------------------------------------- */

static int
on_cert(const struct meshd_cert *c, void *arg)
{
    static const char *const kinds[] = {
        [MESHD_CERT_ROOT] = "root", [MESHD_CERT_ISSUING] = "issuing", [MESHD_CERT_LEAF] = "leaf"};
    json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "kind", kinds[c->kind], "service",
                            c->service, "id", c->id, "serial", c->serial, "not_before",
                            (json_int_t)c->not_before, "not_after", (json_int_t)c->not_after);
    if (row && c->kind != MESHD_CERT_ROOT) {
        json_object_set_new(row, "renew_at", json_integer((json_int_t)c->renew_at));
    }
    if (row && c->kind == MESHD_CERT_LEAF) {
        json_object_set_new(row, "pid", json_integer(c->pid));
    }
    return add(arg, row);
}

json_t *
meshd_show_certs(void)
{
    struct list l = {json_array(), false};
    meshd_ca_visit(on_cert, &l);
    return list_end(&l, "certs");
}
