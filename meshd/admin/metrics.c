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
#include "meshd/base/loop.h"
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
static void
put_label(struct evbuffer *out, const char *name, const char *value)
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
    put_label(out, "kind", kind);
    evbuffer_add(out, ",", 1);
    put_label(out, "id", id);
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
    put_counters(out, &c);
    put_failures(out, &c);
    put_histogram(out, "handshake_duration_seconds",
                  "duration of TLS handshakes (the sum is estimated from the buckets)",
                  c.handshake_us);
    put_histogram(out, "connect_duration_seconds",
                  "duration of mesh connects (the sum is estimated from the buckets)",
                  c.connect_us);
    put_certificates(out);
    one(out, "config_last_reload_successful", "gauge", "0: the last configuration had errors",
        cfg.last_ok);
}
