/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_access_line: see access.h. "Downstream" is the side that connected, as in Envoy: for a connection
 * that a program opened it is the program, for one that it accepted it is the peer.
 */
#include "meshd/stats/access.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct line {
    char *out;
    size_t len;
};

#define ROOM(l) (MESHD_ACCESS_LINE_MAX - 3 - (l)->len) /* the end always fits */

static void
put_raw(struct line *l, const char *s, size_t n)
{
    n = n < ROOM(l) ? n : ROOM(l);
    memcpy(l->out + l->len, s, n);
    l->len += n;
}

static void
put_key(struct line *l, const char *key)
{
    put_raw(l, l->len > 1 ? ",\"" : "\"", l->len > 1 ? 2 : 1);
    put_raw(l, key, strlen(key));
    put_raw(l, "\":", 2);
}

/* NULL and "" are null, as what is unknown in Istio's log. */
static void
put_text(struct line *l, const char *key, const char *value)
{
    put_key(l, key);
    if (!value || !value[0]) {
        put_raw(l, "null", 4);
        return;
    }
    put_raw(l, "\"", 1);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\') {
            put_raw(l, "\\", 1);
        }
        put_raw(l, *value >= 0x20 && *value < 0x7f ? value : "?", 1);
    }
    put_raw(l, "\"", 1);
}

static void
put_number(struct line *l, const char *key, uint64_t value)
{
    char text[24];
    put_key(l, key);
    put_raw(l, text, (size_t)snprintf(text, sizeof(text), "%" PRIu64, value));
}

static void
put_millis(struct line *l, const char *key, uint64_t us)
{
    char text[40];
    put_key(l, key);
    put_raw(l, text, (size_t)snprintf(text, sizeof(text), "%" PRIu64 ".%03u", us / 1000,
                                      (unsigned)(us % 1000)));
}

static void
put_time(struct line *l, const char *key, uint64_t ns)
{
    char text[40], whole[32];
    struct tm tm;
    time_t s = (time_t)(ns / 1000000000u);
    if (!gmtime_r(&s, &tm) || strftime(whole, sizeof(whole), "%Y-%m-%dT%H:%M:%S", &tm) == 0) {
        whole[0] = '\0';
    }
    snprintf(text, sizeof(text), "%s.%03uZ", whole, (unsigned)(ns / 1000000u % 1000u));
    put_text(l, key, text);
}

static void
put_addr(struct line *l, const char *key, const struct mesh_addr *a)
{
    char text[MESH_ADDR_TEXT];
    put_text(l, key, a->port ? mesh_addr_text(a, text) : NULL);
}

static const char *
cipher_name(uint16_t suite)
{
    return suite == 0x1301   ? "TLS_AES_128_GCM_SHA256"
           : suite == 0x1302 ? "TLS_AES_256_GCM_SHA384"
           : suite == 0x1303 ? "TLS_CHACHA20_POLY1305_SHA256"
                             : NULL;
}

/* "connection reset by peer", "identity: the peer is not the service that ..."; NULL: ended in order. */
static const char *
details(const struct meshd_conn *c, char *out, size_t room)
{
    if (c->reason == MESH_OK) {
        return c->how & MESH_HOW_RESET ? "reset by the peer"
               : c->how & MESH_HOW_ABORTED ? "reset by the program"
               : c->plaintext          ? "plaintext: not followed after it was accepted"
               : c->how & MESH_HOW_OPENED ? NULL
                                          : "given up before it was established";
    }
    snprintf(out, room, "%s: %s%s%s%s", mesh_err_reason(c->reason), mesh_err_text(c->reason),
             c->os_errno ? " (" : "", c->os_errno ? strerrordesc_np(c->os_errno) : "",
             c->os_errno ? ")" : "");
    return out;
}

static void
put_addresses(struct line *l, const struct meshd_conn *c)
{
    static const struct mesh_addr nobody;
    put_addr(l, "downstream_remote_address", c->outbound ? &c->local : &c->peer);
    put_addr(l, "downstream_local_address", c->outbound ? &c->asked : &c->local);
    put_addr(l, "upstream_host", c->outbound ? &c->peer : &c->local);
    put_addr(l, "upstream_local_address", c->outbound ? &c->local : &nobody);
}

static void
put_sides(struct line *l, const struct meshd_conn *c)
{
    const char *far = c->peer_service[0] ? c->peer_service : c->outbound ? c->destination : "";
    put_text(l, "source_workload", c->outbound ? c->service : far);
    put_text(l, "source_principal", c->outbound ? c->id : c->peer_id);
    put_text(l, "destination_workload", c->outbound ? far : c->service);
    put_text(l, "destination_principal", c->outbound ? c->peer_id : c->id);
    put_text(l, "destination_service", !c->outbound       ? c->service
                                       : c->destination[0] ? c->destination
                                                           : c->peer_service);
}

static void
put_tls(struct line *l, const struct meshd_conn *c)
{
    const char *cipher = c->plaintext ? NULL : cipher_name(c->cipher);
    put_text(l, "connection_security_policy", cipher && c->peer_id[0] ? "mutual_tls" : "none");
    put_text(l, "tls_version", cipher ? "TLSv1.3" : NULL);
    put_text(l, "tls_cipher", cipher);
    put_millis(l, "connect_ms", c->connect_us);
    put_millis(l, "handshake_ms", c->handshake_us);
}

static void
put_end(struct line *l, const struct meshd_conn *c)
{
    char why[512];
    enum mesh_flag f = mesh_flag_of(c->outbound, c->reason, c->how);
    const char *text = details(c, why, sizeof(why));
    bool transport = c->outbound && c->reason != MESH_OK && !(c->how & MESH_HOW_OPENED) &&
                     (f == MESH_FLAG_UF || f == MESH_FLAG_UF_URX || f == MESH_FLAG_UF_UO || f == MESH_FLAG_UPE);
    put_text(l, "response_flags", mesh_flag_code(f));
    put_text(l, "response_flags_text", f == MESH_FLAG_NONE ? NULL : mesh_flag_text(f));
    put_text(l, "connection_termination_details", text);
    put_text(l, "upstream_transport_failure_reason", transport ? text : NULL);
    put_text(l, "reason", c->reason != MESH_OK ? mesh_err_reason(c->reason) : NULL);
}

/* Who named an endpoint's own address asked for the service that it is of, and no rule was looked at. What the
 * client asked for its server is not told: the mesh names services by identity, not by SNI. */
static void
put_route(struct line *l, const struct meshd_conn *c)
{
    bool asked = c->outbound && c->asked_service;
    const char *service = asked ? meshd_stats_word(c->asked_service) : c->outbound ? c->destination : NULL;
    put_text(l, "route_name", !asked ? NULL : c->route ? meshd_stats_word(c->route) : "default");
    put_text(l, "requested_server_name", service);
}

size_t
meshd_access_line(const struct meshd_conn *c, const struct meshd_page_info *info, char *out)
{
    struct line l = {out, 0};
    uint64_t us = c->closed_ns > c->opened_ns ? (c->closed_ns - c->opened_ns) / 1000 : 0;
    uint64_t tx = c->tx_bytes + c->before_tx, rx = c->rx_bytes + c->before_rx;
    put_raw(&l, "{", 1);
    put_time(&l, "start_time", c->opened_ns);
    put_text(&l, "reporter", c->outbound ? "source" : "destination");
    put_text(&l, "protocol", "TCP");
    put_millis(&l, "duration", us);
    put_number(&l, "bytes_received", c->outbound ? tx : rx);
    put_number(&l, "bytes_sent", c->outbound ? rx : tx);
    put_end(&l, c);
    put_addresses(&l, c);
    put_text(&l, "upstream_cluster", c->outbound ? (c->destination[0] ? c->destination : c->peer_service)
                                                 : c->service);
    put_route(&l, c);
    put_sides(&l, c);
    put_tls(&l, c);
    put_number(&l, "attempts", c->attempts);
    put_number(&l, "pid", (uint64_t)c->pid);
    put_text(&l, "exe", info->exe);
    put_text(&l, "unit", info->unit);
    memcpy(out + l.len, "}\n", 3);
    return l.len + 2;
}
