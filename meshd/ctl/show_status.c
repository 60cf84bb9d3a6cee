/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_show: the overview and the counters; see show.h. The overview answers, from top to bottom: is it
 * up, is anything unprotected, does anything fail, will anything expire.
 */
#include <event2/buffer.h>
#include <string.h>
#include <unistd.h>

#include "mesh/version.h"
#include "meshd/base/loop.h"
#include "meshd/ctl/show.h"
#include "meshd/ctl/table.h"
#include "meshd/ident/ca.h"
#include "meshd/policy/config.h"
#include "meshd/registry/registry.h"
#include "meshd/stats/stats.h"

/* Errors of which each is a connection that was refused in, or instead of, its handshake. */
#define HANDSHAKE_FIRST MESH_E_HANDSHAKE
#define HANDSHAKE_LAST  MESH_E_PLAINTEXT_REFUSED

static uint64_t started_ns, started_real_ns;

struct expiry {
    uint64_t root, issuing;
    uint32_t leafs;
};

void
meshd_show_init(void)
{
    started_ns = meshd_now_ns();
    started_real_ns = meshd_real_ns();
}

static int
on_cert(const struct meshd_cert *c, void *arg)
{
    struct expiry *x = arg;
    if (c->kind == MESHD_CERT_ROOT) {
        x->root = c->not_after;
    } else if (c->kind == MESHD_CERT_ISSUING) {
        x->issuing = c->not_after;
    } else {
        x->leafs++;
    }
    return 0;
}

static json_t *
config_state(void)
{
    struct meshd_config_info info;
    meshd_config_info(&info);
    return json_pack("{s:o, s:s, s:I, s:I, s:I, s:I, s:o}", "file", meshd_show_string(info.file),
                     "state", info.last_ok ? "ok" : "error", "files", (json_int_t)info.files,
                     "loaded", (json_int_t)info.loaded_s, "reloads", (json_int_t)info.reloads,
                     "errors", (json_int_t)info.errors, "first_error",
                     meshd_show_string(info.first_error));
}

static json_t *
certificates(void)
{
    struct expiry x = {0};
    meshd_ca_visit(on_cert, &x);
    return json_pack("{s:I, s:I, s:I, s:I}", "root_expires", (json_int_t)x.root, "issuing_expires",
                     (json_int_t)x.issuing, "leafs", (json_int_t)x.leafs, "issued",
                     (json_int_t)meshd_ca_issued());
}

/* The reasons that occurred. */
static json_t *
reasons(const struct meshd_counters *c)
{
    json_t *all = json_object();
    for (unsigned i = MESH_OK + 1; i < MESH_ERR_COUNT; i++) {
        if (c->err[i]) {
            json_object_set_new(all, mesh_err_reason((enum mesh_err)i),
                                json_integer((json_int_t)c->err[i]));
        }
    }
    return all;
}

static uint64_t
handshakes_failed(const struct meshd_counters *c)
{
    uint64_t n = 0;
    for (unsigned i = HANDSHAKE_FIRST; i <= HANDSHAKE_LAST; i++) {
        n += c->err[i];
    }
    return n;
}

static json_t *
identity(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    uint64_t now = meshd_now_ns();
    return json_pack("{s:i, s:s, s:I, s:o, s:f, s:o, s:o, s:o, s:o, s:s, s:s, s:o}", "schema",
                     MESHD_SCHEMA, "version", MESH_VERSION, "pid", (json_int_t)getpid(), "started",
                     meshd_show_seconds(started_real_ns), "uptime",
                     (double)((now - started_ns) / 1000000) / 1e3, "trust_domain",
                     meshd_show_string(cfg->trust_domain), "namespace",
                     meshd_show_string(cfg->namespace_), "run_dir",
                     meshd_show_string(cfg->run_dir), "state_dir",
                     meshd_show_string(cfg->state_dir), "mode", meshd_show_mode(cfg->mode),
                     "egress", cfg->egress ? "registry_only" : "allow_any", "admin_listen",
                     meshd_show_string(cfg->admin_listen));
}

json_t *
meshd_show_status(void)
{
    struct meshd_counters c;
    struct meshd_registry_info reg = {0};
    const uint64_t *n = c.stat;
    json_t *all = identity();
    meshd_stats_sum(&c);
    meshd_registry_info(&reg);
    json_t *more = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:I}", "workloads",
        (json_int_t)meshd_stats_attached(), "services", (json_int_t)reg.services, "endpoints",
        (json_int_t)reg.endpoints, "connections_active", (json_int_t)n[MESH_STAT_ACTIVE],
        "handshakes", (json_int_t)n[MESH_STAT_HS_OK], "handshakes_failed",
        (json_int_t)handshakes_failed(&c), "plaintext_in", (json_int_t)n[MESH_STAT_PLAIN_IN],
        "plaintext_out", (json_int_t)n[MESH_STAT_PLAIN_OUT], "sent_bytes",
        (json_int_t)n[MESH_STAT_TX_BYTES], "received_bytes", (json_int_t)n[MESH_STAT_RX_BYTES],
        "failures", reasons(&c), "certificates", certificates(), "config", config_state(),
        "endpoints_overflowed", (json_int_t)reg.overflowed);
    if (all && more) {
        json_object_update(all, more);
    }
    json_decref(more);
    return all;
}

/* -- as text -------------------------------------------------------------------------------- */

static json_int_t
number(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static const char *
string(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static void
put_line(struct evbuffer *out, const char *label, const json_t *o, const char *key,
         enum meshd_cell kind)
{
    char cell[MESHD_CELL_MAX];
    evbuffer_add_printf(out, "%-16s%s\n", label,
                        meshd_cell_text(json_object_get(o, key), kind, cell));
}

static void
put_plaintext(struct evbuffer *out, const json_t *o)
{
    json_int_t n = number(o, "plaintext_in");
    if (n == 0) {
        evbuffer_add_printf(out, "%-16s0\n", "plaintext in");
        return;
    }
    evbuffer_add_printf(
        out, "PLAINTEXT IN    %lld connection%s accepted WITHOUT TLS (mode permissive)\n"
             "                which: `meshctl connections`, security \"none\"; refuse them: "
             "mode = \"strict\";\n",
        (long long)n, n == 1 ? "" : "s");
}

static void
put_failures(struct evbuffer *out, const json_t *o)
{
    const char *reason;
    json_t *all = json_object_get(o, "failures"), *n;
    json_object_foreach(all, reason, n) {
        evbuffer_add_printf(out, "  %-24s%lld\n", reason, (long long)json_integer_value(n));
    }
}

static void
put_expiry(struct evbuffer *out, const char *label, const json_t *certs, const char *key)
{
    char when[MESHD_CELL_MAX], left[MESHD_CELL_MAX];
    const json_t *v = json_object_get(certs, key);
    bool past = (uint64_t)json_integer_value(v) * UINT64_C(1000000000) < meshd_real_ns();
    evbuffer_add_printf(out, "%-16s%s (%s %s)\n", label,
                        meshd_cell_text(v, MESHD_CELL_TIME, when), past ? "EXPIRED for" : "in",
                        meshd_cell_text(v, MESHD_CELL_AGE, left));
}

static void
put_config(struct evbuffer *out, const json_t *o)
{
    const json_t *c = json_object_get(o, "config");
    const char *file = string(c, "file");
    evbuffer_add_printf(out, "%-16s%s: %s\n", "config", file[0] ? file : "built-in defaults",
                        string(c, "state"));
    if (number(c, "errors") > 0) {
        evbuffer_add_printf(out, "CONFIG ERROR    %s (%lld in all; the old configuration stays)\n",
                            string(c, "first_error"), (long long)number(c, "errors"));
    }
}

void
meshd_show_status_text(struct evbuffer *out, const json_t *o)
{
    char up[MESHD_CELL_MAX];
    const json_t *certs = json_object_get(o, "certificates");
    evbuffer_add_printf(out, "meshd %s, up %s, pid %lld\n", string(o, "version"),
                        meshd_cell_text(json_object_get(o, "uptime"), MESHD_CELL_SPAN, up),
                        (long long)number(o, "pid"));
    put_line(out, "trust domain", o, "trust_domain", MESHD_CELL_TEXT);
    put_line(out, "mode", o, "mode", MESHD_CELL_TEXT);
    put_plaintext(out, o);
    put_line(out, "workloads", o, "workloads", MESHD_CELL_TEXT);
    put_line(out, "listeners", o, "endpoints", MESHD_CELL_TEXT);
    put_line(out, "connections", o, "connections_active", MESHD_CELL_TEXT);
    evbuffer_add_printf(out, "%-16s%lld ok, %lld failed\n", "handshakes",
                        (long long)number(o, "handshakes"),
                        (long long)number(o, "handshakes_failed"));
    put_failures(out, o);
    put_line(out, "sent", o, "sent_bytes", MESHD_CELL_BYTES);
    put_line(out, "received", o, "received_bytes", MESHD_CELL_BYTES);
    put_expiry(out, "root CA", certs, "root_expires");
    put_expiry(out, "issuing CA", certs, "issuing_expires");
    put_config(out, o);
    put_line(out, "run dir", o, "run_dir", MESHD_CELL_TEXT);
    put_line(out, "metrics", o, "admin_listen", MESHD_CELL_TEXT);
}

/* -- counters ------------------------------------------------------------------------------- */

static json_t *
histogram(const uint64_t *bucket)
{
    json_t *all = json_array();
    for (unsigned i = 0; i < MESH_PAGE_BUCKETS; i++) {
        if (bucket[i]) {
            json_array_append_new(all, json_pack("{s:f, s:I}", "below",
                                                 (double)(UINT64_C(1) << i) / 1e6, "count",
                                                 (json_int_t)bucket[i]));
        }
    }
    return all;
}

json_t *
meshd_show_stats(void)
{
    struct meshd_counters c;
    json_t *counters = json_object(), *errors = json_object();
    meshd_stats_sum(&c);
    for (unsigned i = 0; i < MESH_STAT_COUNT; i++) {
        json_object_set_new(counters, meshd_stats_name((enum mesh_stat)i),
                            json_integer((json_int_t)c.stat[i]));
    }
    for (unsigned i = MESH_OK + 1; i < MESH_ERR_COUNT; i++) {
        json_object_set_new(errors, mesh_err_reason((enum mesh_err)i),
                            json_integer((json_int_t)c.err[i]));
    }
    json_t *all = json_pack("{s:i, s:o, s:o, s:o, s:o}", "schema", MESHD_SCHEMA, "counters", counters,
                            "errors", errors, "handshake_durations", histogram(c.handshake_us),
                            "connect_durations", histogram(c.connect_us));
    if (all) {
        meshd_show_flags(all);
    }
    return all;
}

void
meshd_show_stats_text(struct evbuffer *out, const json_t *answer)
{
    const char *key;
    json_t *v;
    evbuffer_add_printf(out, "%-28s%s\n", "COUNTER", "VALUE");
    json_object_foreach(json_object_get(answer, "counters"), key, v) {
        evbuffer_add_printf(out, "%-28s%lld\n", key, (long long)json_integer_value(v));
    }
    json_object_foreach(json_object_get(answer, "errors"), key, v) {
        evbuffer_add_printf(out, "error %-22s%lld\n", key, (long long)json_integer_value(v));
    }
    json_object_foreach(json_object_get(answer, "response_flags"), key, v) {
        evbuffer_add_printf(out, "flag %-23s%lld\n", key, (long long)json_integer_value(v));
    }
}
