/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_series: see series.h. "Received" is what the side that connected sent, "sent" what it got, for
 * both reporters, as in Istio.
 */
#include "meshd/admin/series.h"

#include <event2/buffer.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include "meshd/admin/metrics.h"
#include "meshd/stats/stats.h"

enum family {
    OPENED,
    CLOSED,
    FAILED,
    SENT,
    RECEIVED,
    ATTEMPTS,
    RETRIES,
    CONNECT_TIME,
    HANDSHAKE_TIME,
    FAMILIES
};

static const struct {
    const char *name, *type, *text;
} families[FAMILIES] = {
    [OPENED] = {"istio_tcp_connections_opened_total", "counter", "connections that were established"},
    [CLOSED] = {"istio_tcp_connections_closed_total", "counter", "established connections that ended"},
    [FAILED] = {"istio_tcp_connections_failed_total", "counter", "connections that never were established"},
    [SENT] = {"istio_tcp_sent_bytes_total", "counter", "bytes from the destination to the source"},
    [RECEIVED] = {"istio_tcp_received_bytes_total", "counter", "bytes from the source to the destination"},
    [ATTEMPTS] = {"libmesh_service_connect_attempts_total", "counter",
                  "attempts of connects to a destination, at its end"},
    [RETRIES] = {"libmesh_service_connect_retries_total", "counter", "of these, those after the first"},
    [CONNECT_TIME] = {"libmesh_service_connect_duration_seconds", "histogram",
                    "from connect() until the program was told that it is established"},
    [HANDSHAKE_TIME] = {"libmesh_service_handshake_duration_seconds", "histogram",
                      "duration of TLS handshakes"},
};

struct writing {
    struct evbuffer *out[FAMILIES];
    const struct meshd_series_key *key;
};

/* name_suffix{all labels but the last ones; the caller ends it */
static struct evbuffer *
begin(const struct writing *w, enum family f, const char *suffix)
{
    const struct meshd_series_key *k = w->key;
    struct evbuffer *out = w->out[f];
    char far[MESH_SERVICE_MAX];
    meshd_stats_service_of(k->peer_id, far);
    const char *peer = far[0] ? far : "unknown";
    const struct {
        const char *name, *value;
    } labels[] = {
        {"source_workload", k->outbound ? k->service : peer},
        {"source_principal", k->outbound ? k->id : k->peer_id},
        {"destination_workload", k->outbound ? (far[0] ? far : k->destination) : k->service},
        {"destination_principal", k->outbound ? k->peer_id : k->id},
        {"destination_service", k->outbound ? k->destination : k->service},
        {"destination_service_name", k->outbound ? k->destination : k->service},
    };
    evbuffer_add_printf(out, "%s%s{reporter=\"%s\"", families[f].name, suffix,
                        k->outbound ? "source" : "destination");
    for (size_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
        evbuffer_add(out, ",", 1);
        meshd_metrics_label(out, labels[i].name, labels[i].value);
    }
    evbuffer_add_printf(out, ",request_protocol=\"tcp\",connection_security_policy=\"%s\"",
                        k->plaintext ? "none" : "mutual_tls");
    return out;
}

static void
flagged(const struct writing *w, enum family f, enum mesh_flag flag, uint64_t value)
{
    evbuffer_add_printf(begin(w, f, ""), ",response_flags=\"%s\"} %" PRIu64 "\n", mesh_flag_code(flag),
                        value);
}

static void
by_flag(const struct writing *w, enum family f, const uint64_t *values)
{
    for (unsigned i = 0; i < MESH_FLAG_COUNT; i++) {
        if (values[i]) {
            flagged(w, f, (enum mesh_flag)i, values[i]);
        }
    }
}

static void
histogram(const struct writing *w, enum family f, const uint64_t *bucket, uint64_t sum_us)
{
    static const uint32_t bound[] = MESH_PAGE_LATENCY_US;
    uint64_t count = 0;
    for (unsigned i = 0; i < MESH_PAGE_LATENCIES; i++) {
        count += bucket[i];
    }
    if (count == 0) {
        return;
    }
    uint64_t below = 0;
    for (unsigned i = 0; i < MESH_PAGE_LATENCIES - 1; i++) {
        below += bucket[i];
        evbuffer_add_printf(begin(w, f, "_bucket"), ",le=\"%g\"} %" PRIu64 "\n", bound[i] / 1e6, below);
    }
    evbuffer_add_printf(begin(w, f, "_bucket"), ",le=\"+Inf\"} %" PRIu64 "\n", count);
    evbuffer_add_printf(begin(w, f, "_sum"), "} %.6f\n", (double)sum_us / 1e6);
    evbuffer_add_printf(begin(w, f, "_count"), "} %" PRIu64 "\n", count);
}

static int
on_series(const struct meshd_series_key *k, const struct meshd_series_values *v, void *arg)
{
    struct writing *w = arg;
    w->key = k;
    if (v->opened) {
        flagged(w, OPENED, MESH_FLAG_NONE, v->opened);
        flagged(w, SENT, MESH_FLAG_NONE, k->outbound ? v->rx_bytes : v->tx_bytes);
        flagged(w, RECEIVED, MESH_FLAG_NONE, k->outbound ? v->tx_bytes : v->rx_bytes);
    }
    by_flag(w, CLOSED, v->closed);
    by_flag(w, FAILED, v->failed);
    if (v->attempts) {
        evbuffer_add_printf(begin(w, ATTEMPTS, ""), "} %" PRIu64 "\n", v->attempts);
        evbuffer_add_printf(begin(w, RETRIES, ""), "} %" PRIu64 "\n", v->retries);
    }
    histogram(w, CONNECT_TIME, v->connect, v->connect_sum_us);
    histogram(w, HANDSHAKE_TIME, v->handshake, v->handshake_sum_us);
    return 0;
}

static void
put_access_log(struct evbuffer *out)
{
    static const char *const causes[MESHD_ACCESS_CAUSES] = {
        [MESHD_ACCESS_OVERRUN] = "overrun",
        [MESHD_ACCESS_UNLISTED] = "unlisted",
        [MESHD_ACCESS_WRITE] = "write",
    };
    struct meshd_access_info a;
    meshd_access_info(&a);
    evbuffer_add_printf(out,
                        "# HELP libmesh_access_log_lines_total lines of the access log\n"
                        "# TYPE libmesh_access_log_lines_total counter\n"
                        "libmesh_access_log_lines_total %" PRIu64 "\n"
                        "# HELP libmesh_access_log_lost_total connections without their line, by cause\n"
                        "# TYPE libmesh_access_log_lost_total counter\n",
                        a.lines);
    for (unsigned i = 0; i < MESHD_ACCESS_CAUSES; i++) {
        evbuffer_add_printf(out, "libmesh_access_log_lost_total{cause=\"%s\"} %" PRIu64 "\n", causes[i],
                            a.lost[i]);
    }
}

void
meshd_series_write(struct evbuffer *out)
{
    struct writing w = {0};
    bool ok = true;
    for (unsigned f = 0; f < FAMILIES; f++) {
        w.out[f] = evbuffer_new();
        ok = ok && w.out[f];
    }
    if (ok) {
        meshd_stats_visit_series(on_series, &w);
    }
    for (unsigned f = 0; f < FAMILIES; f++) {
        if (ok) {
            evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n", families[f].name, families[f].text,
                                families[f].name, families[f].type);
            evbuffer_add_buffer(out, w.out[f]);
        }
        if (w.out[f]) {
            evbuffer_free(w.out[f]);
        }
    }
    put_access_log(out);
}
