/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_metrics: see metrics.h. Counters and failures come from mesh/stat.def and mesh/err.def.
 * Format: Prometheus text exposition 0.0.4: HELP, TYPE, then the family's samples, without a gap.
 */
#include "meshd/admin/metrics.h"

#include <errno.h>
#include <event2/buffer.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

#include "mesh/version.h"
#include "meshd/admin/series.h"
#include "meshd/base/loop.h"
#include "meshd/discovery/dns.h"
#include "meshd/health/health.h"
#include "meshd/ident/ca.h"
#include "meshd/policy/config.h"
#include "meshd/registry/registry.h"
#include "meshd/stats/stats.h"

static void
family(struct evbuffer *out, const char *name, const char *suffix, const char *type,
       const char *text)
{
    evbuffer_add_printf(out, "# HELP libmesh_%s%s %s\n# TYPE libmesh_%s%s %s\n", name, suffix, text,
                        name, suffix, type);
}

static void
one(struct evbuffer *out, const char *name, const char *type, const char *text, uint64_t value)
{
    family(out, name, "", type, text);
    evbuffer_add_printf(out, "libmesh_%s %" PRIu64 "\n", name, value);
}

static void
put_counters(struct evbuffer *out, const struct meshd_counters *c)
{
    for (unsigned i = 0; i < MESH_STAT_COUNT; i++) {
        enum mesh_stat s = (enum mesh_stat)i;
        const char *suffix = meshd_stats_is_gauge(s) ? "" : "_total";
        family(out, meshd_stats_name(s), suffix, suffix[0] ? "counter" : "gauge",
               meshd_stats_text(s));
        evbuffer_add_printf(out, "libmesh_%s%s %" PRIu64 "\n", meshd_stats_name(s), suffix,
                            c->stat[i]);
    }
}

static void
put_failures(struct evbuffer *out, const struct meshd_counters *c)
{
    family(out, "failures", "_total", "counter", "what libmesh refused, ended or changed, by reason");
    for (unsigned i = MESH_OK + 1; i < MESH_ERR_COUNT; i++) {
        evbuffer_add_printf(out, "libmesh_failures_total{reason=\"%s\"} %" PRIu64 "\n",
                            mesh_err_reason((enum mesh_err)i), c->err[i]);
    }
}

/* Bucket i counts durations below 2^i microseconds; the last one counts everything longer, too. The
 * sum is not measured: each duration counts as the middle of its bucket. */
static void
put_histogram(struct evbuffer *out, const char *name, const char *text, const uint64_t *bucket)
{
    uint64_t count = 0;
    double sum = 0;
    family(out, name, "", "histogram", text);
    for (unsigned i = 0; i < MESH_PAGE_BUCKETS; i++) {
        double below = (double)(UINT64_C(1) << i) / 1e6;
        count += bucket[i];
        sum += (double)bucket[i] * below * 0.75;
        if (i + 1 < MESH_PAGE_BUCKETS) {
            evbuffer_add_printf(out, "libmesh_%s_bucket{le=\"%.10g\"} %" PRIu64 "\n", name, below,
                                count);
        }
    }
    evbuffer_add_printf(out, "libmesh_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, count);
    evbuffer_add_printf(out, "libmesh_%s_sum %.6f\nlibmesh_%s_count %" PRIu64 "\n", name, sum, name,
                        count);
}

/* A label's value: printable ASCII already, but for what the format itself needs. */
void
meshd_metrics_label(struct evbuffer *out, const char *name, const char *value)
{
    evbuffer_add_printf(out, "%s=\"", name);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\') {
            evbuffer_add(out, "\\", 1);
        }
        evbuffer_add(out, *value >= 0x20 && *value < 0x7f ? value : "?", 1);
    }
    evbuffer_add(out, "\"", 1);
}

static void
put_expiry(struct evbuffer *out, const char *kind, const char *id, uint64_t when)
{
    evbuffer_add_printf(out, "libmesh_certificate_expiry_timestamp_seconds{");
    meshd_metrics_label(out, "kind", kind);
    evbuffer_add(out, ",", 1);
    meshd_metrics_label(out, "id", id);
    evbuffer_add_printf(out, "} %" PRIu64 "\n", when);
}

struct expiry {
    struct evbuffer *out;
    json_t *leafs; /* id -> the first expiry among live processes: one series for each identity */
};

static int
on_cert(const struct meshd_cert *c, void *arg)
{
    struct expiry *x = arg;
    if (c->kind != MESHD_CERT_LEAF) {
        put_expiry(x->out, c->kind == MESHD_CERT_ROOT ? "root" : "issuing", c->id, c->not_after);
        return 0;
    }
    const json_t *known = json_object_get(x->leafs, c->id);
    if (c->pid > 0 && kill(c->pid, 0) != 0 && errno == ESRCH) {
        return 0;
    }
    if (!known || (uint64_t)json_integer_value(known) > c->not_after) {
        json_object_set_new(x->leafs, c->id, json_integer((json_int_t)c->not_after));
    }
    return 0;
}

static void
put_certificates(struct evbuffer *out)
{
    struct expiry x = {out, json_object()};
    const char *id;
    json_t *when;
    family(out, "certificate_expiry_timestamp_seconds", "", "gauge",
           "when a certificate in use ends: the authority's, and the first of each identity");
    meshd_ca_visit(on_cert, &x);
    json_object_foreach(x.leafs, id, when) {
        put_expiry(out, "leaf", id, (uint64_t)json_integer_value(when));
    }
    json_decref(x.leafs);
    one(out, "certificates_issued_total", "counter", "workload certificates issued since start",
        meshd_ca_issued());
}

static void
put_registry(struct evbuffer *out)
{
    struct meshd_registry_info r = {0};
    meshd_registry_info(&r);
    one(out, "services", "gauge", "services with a listener or a configuration", r.services);
    one(out, "endpoints", "gauge", "listeners in the mesh", r.endpoints);
    one(out, "endpoints_registered_total", "counter", "listeners registered since start",
        r.registered);
    one(out, "endpoints_withdrawn_total", "counter", "listeners withdrawn since start",
        r.withdrawn);
    one(out, "endpoints_overflowed_total", "counter", "listeners for which there was no room",
        r.overflowed);
    one(out, "snapshot_generation", "gauge", "generation of the snapshot", r.generation);
}

struct health {
    struct evbuffer *out;
    size_t row;
};

static const struct {
    const char *name, *suffix, *type, *text;
    size_t at; /* of a uint64_t */
} health_rows[] = {
#define ROW(name, suffix, type, text, field)                                                       \
    {name, suffix, type, text, offsetof(struct meshd_health_service, field)}
    ROW("health_check_attempt", "_total", "counter", "health checks made, by service", attempts),
    ROW("health_check_success", "_total", "counter", "of these, those that found a healthy endpoint",
        successes),
    ROW("health_check_failure", "_total", "counter", "health checks that failed", failures),
    ROW("health_check_network_failure", "_total", "counter",
        "of these, those that got no usable answer, in time", network_failures),
    ROW("membership_total", "", "gauge", "endpoints of the service that are checked", members),
    ROW("membership_healthy", "", "gauge", "of these, those that are not unhealthy", healthy),
#undef ROW
};

static int
on_health(const struct meshd_health_service *s, void *arg)
{
    const struct health *h = arg;
    uint64_t value = 0;
    memcpy(&value, (const char *)s + health_rows[h->row].at, sizeof(value));
    evbuffer_add_printf(h->out, "libmesh_%s%s{", health_rows[h->row].name, health_rows[h->row].suffix);
    meshd_metrics_label(h->out, "service", s->name);
    evbuffer_add_printf(h->out, "} %" PRIu64 "\n", value);
    return 0;
}

static void
put_health(struct evbuffer *out)
{
    struct health h = {.out = out};
    for (; h.row < sizeof(health_rows) / sizeof(health_rows[0]); h.row++) {
        family(out, health_rows[h.row].name, health_rows[h.row].suffix, health_rows[h.row].type,
               health_rows[h.row].text);
        meshd_health_visit_services(on_health, &h);
    }
}

/* ---- what connections to services say (mesh/live.h), a family for each number ---- */

enum live_number {
    CX_ACTIVE, CX_PENDING, CX_RETRIES, EJECTED, EJECTIONS, EJECTIONS_OVERFLOW, CX_OVERFLOW, PENDING_OVERFLOW,
    RETRY_OVERFLOW, CX_OPEN, PENDING_OPEN, REMAINING_CX, REMAINING_PENDING, LIVE_NUMBERS
};

static const struct {
    const char *name, *type, *text;
} live_families[LIVE_NUMBERS] = {
    [CX_ACTIVE] = {"upstream_cx_active", "gauge", "connections to the service, connects under way included"},
    [CX_PENDING] = {"upstream_cx_pending", "gauge", "connects to the service that are under way"},
    [CX_RETRIES] = {"upstream_cx_retries", "gauge", "of these, on another endpoint after one failed"},
    [EJECTED] = {"outlier_detection_ejections_active", "gauge", "endpoints that are ejected now"},
    [EJECTIONS] = {"outlier_detection_ejections_enforced_total", "counter", "ejections"},
    [EJECTIONS_OVERFLOW] = {"outlier_detection_ejections_overflow_total", "counter",
                            "ejections that were not made: max_ejection_percent, or the last endpoint"},
    [CX_OVERFLOW] = {"upstream_cx_overflow_total", "counter", "connects that max_connections refused"},
    [PENDING_OVERFLOW] = {"upstream_cx_pending_overflow_total", "counter",
                          "connects that max_pending_connects refused"},
    [RETRY_OVERFLOW] = {"upstream_cx_retry_overflow_total", "counter",
                        "retries that max_retries or the retry budget refused"},
    [CX_OPEN] = {"circuit_breakers_cx_open", "gauge", "1: max_connections is reached"},
    [PENDING_OPEN] = {"circuit_breakers_pending_open", "gauge", "1: max_pending_connects is reached"},
    [REMAINING_CX] = {"circuit_breakers_remaining_cx", "gauge", "connections until max_connections"},
    [REMAINING_PENDING] = {"circuit_breakers_remaining_pending", "gauge",
                           "connects under way until max_pending_connects"},
};

/* False: the service has no such limit. */
static bool
remaining(uint32_t limit, uint32_t count, uint64_t *left)
{
    *left = limit > count ? limit - count : 0;
    return limit > 0;
}

static bool
live_number(const struct meshd_service_live *l, enum live_number which, uint64_t *out)
{
    const uint64_t plain[CX_OPEN] = {
        [CX_ACTIVE] = l->active, [CX_PENDING] = l->pending, [CX_RETRIES] = l->retries, [EJECTED] = l->ejected,
        [EJECTIONS] = l->ejections, [EJECTIONS_OVERFLOW] = l->ejections_overflow,
        [CX_OVERFLOW] = l->cx_overflow, [PENDING_OVERFLOW] = l->pending_overflow,
        [RETRY_OVERFLOW] = l->retry_overflow};
    bool is_cx = which == CX_OPEN || which == REMAINING_CX;
    if (which < CX_OPEN) {
        *out = plain[which];
        return true;
    }
    if (!remaining(is_cx ? l->set.max_connections : l->set.max_pending, is_cx ? l->active : l->pending, out)) {
        return false;
    }
    *out = which == CX_OPEN || which == PENDING_OPEN ? *out == 0 : *out;
    return true;
}

struct live_family {
    struct evbuffer *out;
    enum live_number which;
};

/* Services that nobody can ask for have no connections to show. */
static int
on_live(const struct meshd_service *s, void *arg)
{
    const struct live_family *f = arg;
    struct meshd_service_live l;
    uint64_t n = 0;
    meshd_registry_service_live(s->name, &l);
    bool reachable = s->vaddr || (s->rule && s->rule->address_count > 0);
    if (reachable && live_number(&l, f->which, &n)) {
        evbuffer_add_printf(f->out, "libmesh_%s{", live_families[f->which].name);
        meshd_metrics_label(f->out, "service", s->name);
        evbuffer_add_printf(f->out, "} %" PRIu64 "\n", n);
    }
    return 0;
}

enum dns_family { DNS_RESOLUTIONS, DNS_FAILURES, DNS_ENDPOINTS, DNS_AGE };

struct dns_samples {
    struct evbuffer *out;
    enum dns_family family;
};

static int
on_dns(const struct meshd_dns_info *i, void *arg)
{
    static const char *const names[] = {"resolutions_total", "failures_total", "endpoints", "age_seconds"};
    const struct dns_samples *s = arg;
    if (s->family == DNS_AGE && i->age_s < 0) {
        return 0;
    }
    evbuffer_add_printf(s->out, "libmesh_dns_%s{", names[s->family]);
    meshd_metrics_label(s->out, "service", i->service);
    evbuffer_add(s->out, ",", 1);
    meshd_metrics_label(s->out, "name", i->name);
    evbuffer_add_printf(s->out, "} %.10g\n",
                        s->family == DNS_RESOLUTIONS ? (double)i->resolutions
                        : s->family == DNS_FAILURES  ? (double)i->failures
                        : s->family == DNS_ENDPOINTS ? (double)i->endpoints
                                                     : i->age_s);
    return 0;
}

static void
put_live(struct evbuffer *out)
{
    for (unsigned i = 0; i < LIVE_NUMBERS; i++) {
        struct live_family f = {out, (enum live_number)i};
        family(out, live_families[i].name, "", live_families[i].type, live_families[i].text);
        meshd_registry_visit_services(on_live, &f);
    }
}

static void
put_dns(struct evbuffer *out)
{
    struct dns_samples s = {out, DNS_RESOLUTIONS};
    family(out, "dns_resolutions", "_total", "counter", "questions to DNS for a service that ended");
    meshd_dns_visit(on_dns, &s);
    s.family = DNS_FAILURES;
    family(out, "dns_failures", "_total", "counter", "those of them that failed, or some of their targets");
    meshd_dns_visit(on_dns, &s);
    s.family = DNS_ENDPOINTS;
    family(out, "dns_endpoints", "", "gauge", "endpoints of the service that DNS last named");
    meshd_dns_visit(on_dns, &s);
    s.family = DNS_AGE;
    family(out, "dns_age_seconds", "", "gauge", "time since the last answer that was taken whole");
    meshd_dns_visit(on_dns, &s);
}

void
meshd_metrics_write(struct evbuffer *out)
{
    struct meshd_counters c;
    struct meshd_config_info cfg;
    meshd_stats_sum(&c);
    meshd_config_info(&cfg);
    family(out, "build_info", "", "gauge", "the version, always 1");
    evbuffer_add_printf(out, "libmesh_build_info{version=\"%s\"} 1\n", MESH_VERSION);
    one(out, "workloads_attached", "gauge", "process trees attached", meshd_stats_attached());
    put_registry(out);
    put_dns(out);
    put_counters(out, &c);
    put_failures(out, &c);
    put_histogram(out, "handshake_duration_seconds",
                  "duration of TLS handshakes (the sum is estimated from the buckets)",
                  c.handshake_us);
    put_histogram(out, "connect_duration_seconds",
                  "duration of mesh connects (the sum is estimated from the buckets)",
                  c.connect_us);
    meshd_series_write(out);
    put_certificates(out);
    put_health(out);
    put_live(out);
    one(out, "config_last_reload_successful", "gauge", "0: the last configuration had errors",
        cfg.last_ok);
}
