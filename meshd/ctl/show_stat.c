/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_show: stat, top and edges; see show.h. What a service's processes counted comes from their
 * counters, and is whole; what happened at one endpoint, or between two services, from the records of
 * connections: those that are open, and those closed lately that are still kept.
 */
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "meshd/base/loop.h"
#include "meshd/ctl/show.h"
#include "meshd/ctl/table.h"
#include "meshd/registry/registry.h"
#include "meshd/stats/stats.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* -- durations ---------------------------------------------------------------------------------- */

/* Bucket i is below 2^i microseconds: the value lies between the halves of its bounds, in proportion. */
static json_t *
quantile(const uint64_t *bucket, double q)
{
    uint64_t all = 0, below = 0;
    for (unsigned i = 0; i < MESH_PAGE_BUCKETS; i++) {
        all += bucket[i];
    }
    double rank = q * (double)all;
    for (unsigned i = 0; all > 0 && i < MESH_PAGE_BUCKETS; i++) {
        if (bucket[i] && (double)(below + bucket[i]) >= rank) {
            double from = i ? (double)(UINT64_C(1) << (i - 1)) : 0, to = (double)(UINT64_C(1) << i);
            double part = (rank - (double)below) / (double)bucket[i];
            return json_real((from + (to - from) * part) / 1e6);
        }
        below += bucket[i];
    }
    return json_null();
}

static void
note_duration(uint64_t *bucket, uint32_t us)
{
    unsigned i = 0;
    while (i < MESH_PAGE_BUCKETS - 1 && us >= UINT64_C(1) << i) {
        i++;
    }
    bucket[i]++;
}

/* -- what happened to connections of one kind ---------------------------------------------------- */

struct tally {
    uint64_t active, closed, failed, sent, received;
    uint64_t err[MESH_ERR_COUNT], handshake_us[MESH_PAGE_BUCKETS];
};

static void
tally_add(struct tally *t, const struct meshd_conn *c)
{
    bool failed = c->state == MESH_CONN_CLOSED && c->reason != MESH_OK;
    t->active += c->state != MESH_CONN_CLOSED;
    t->closed += c->state == MESH_CONN_CLOSED;
    t->failed += failed;
    t->err[c->reason] += failed;
    t->sent += c->tx_bytes;
    t->received += c->rx_bytes;
    if (c->handshake_us) {
        note_duration(t->handshake_us, c->handshake_us);
    }
}

static json_t *
reasons(const uint64_t *err)
{
    json_t *all = json_object();
    for (unsigned i = MESH_OK + 1; i < MESH_ERR_COUNT; i++) {
        if (err[i]) {
            json_object_set_new(all, mesh_err_reason((enum mesh_err)i), json_integer((json_int_t)err[i]));
        }
    }
    return all;
}

static json_t *
tally_json(const struct tally *t)
{
    return json_pack("{s:I, s:I, s:I, s:o, s:I, s:I, s:o, s:o}", "active", (json_int_t)t->active,
                     "closed", (json_int_t)t->closed, "failed", (json_int_t)t->failed, "reasons",
                     reasons(t->err), "sent_bytes", (json_int_t)t->sent, "received_bytes",
                     (json_int_t)t->received, "handshake_p50", quantile(t->handshake_us, 0.5),
                     "handshake_p99", quantile(t->handshake_us, 0.99));
}

/* A row; takes the reference to `more`. */
static void
append(json_t *rows, json_t *row, json_t *more)
{
    if (row && more && json_array_size(rows) < MESHD_SHOW_MOST) {
        json_object_update(row, more);
        json_array_append(rows, row);
    }
    json_decref(more);
    json_decref(row);
}

/* -- stat ----------------------------------------------------------------------------------------- */

struct place { /* an endpoint, and what is known of it */
    char key[MESH_SERVICE_MAX + MESH_ADDR_TEXT];
    char service[MESH_SERVICE_MAX], addr[MESH_ADDR_TEXT];
    uint32_t id;
    bool listed, draining;
    struct tally out, in;
    UT_hash_handle hh, by_id;
};

struct stat_job {
    const char *only;
    json_t *services;
    struct place *places, *by_id; /* the second: of the registry's, some */
};

static struct place *
place_of(struct stat_job *j, const char *service, const char *addr)
{
    char key[MESH_SERVICE_MAX + MESH_ADDR_TEXT];
    struct place *p = NULL;
    snprintf(key, sizeof(key), "%s %s", service, addr);
    HASH_FIND_STR(j->places, key, p);
    if (p || HASH_COUNT(j->places) >= MESHD_SHOW_MOST || (j->only[0] && strcmp(j->only, service) != 0)) {
        return p;
    }
    p = calloc(1, sizeof(*p));
    if (p) {
        memcpy(p->key, key, sizeof(p->key));
        snprintf(p->service, sizeof(p->service), "%s", service);
        snprintf(p->addr, sizeof(p->addr), "%s", addr);
        HASH_ADD_STR(j->places, key, p);
    }
    return p;
}

static int
on_endpoint(const struct meshd_endpoint *e, void *arg)
{
    char text[MESH_ADDR_TEXT];
    struct stat_job *j = arg;
    struct place *p = place_of(j, e->service, mesh_addr_text(&e->addr, text));
    if (p && !p->listed) {
        p->listed = true;
        p->id = e->id;
        HASH_ADD(by_id, j->by_id, id, sizeof(p->id), p);
    }
    if (p) {
        p->draining = p->draining || e->draining;
    }
    return 0;
}

/* Both sides of a connection may be listed. An attempt that failed does not know its peer, but where it
 * was sent. */
static int
on_conn(const struct meshd_conn *c, void *arg)
{
    char text[MESH_ADDR_TEXT];
    struct stat_job *j = arg;
    struct place *p = NULL;
    const char *service = c->outbound ? c->peer_service : c->service;
    const uint32_t id = c->endpoint - 1;
    if (!c->plaintext && service[0]) {
        p = place_of(j, service, mesh_addr_text(c->outbound ? &c->peer : &c->local, text));
    } else if (!c->plaintext && c->endpoint) {
        HASH_FIND(by_id, j->by_id, &id, sizeof(id), p);
    }
    if (p) {
        tally_add(c->outbound ? &p->out : &p->in, c);
    }
    return 0;
}

static int
on_total(const struct meshd_total *t, void *arg)
{
    struct stat_job *j = arg;
    const uint64_t *n = t->counters.stat;
    uint64_t failed = 0;
    if (j->only[0] && strcmp(j->only, t->service) != 0) {
        return 0;
    }
    for (unsigned i = MESH_OK + 1; i < MESH_ERR_COUNT; i++) {
        failed += t->counters.err[i];
    }
    json_t *row = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "service", t->service, "opened_out",
        (json_int_t)n[MESH_STAT_OPEN_OUT], "opened_in", (json_int_t)n[MESH_STAT_OPEN_IN], "closed",
        (json_int_t)n[MESH_STAT_CLOSED], "active", (json_int_t)n[MESH_STAT_ACTIVE], "attempts",
        (json_int_t)n[MESH_STAT_ATTEMPTS], "retries", (json_int_t)n[MESH_STAT_RETRIES]);
    append(j->services, row,
           json_pack("{s:I, s:o, s:I, s:I, s:o, s:o}", "failed", (json_int_t)failed, "reasons",
                     reasons(t->counters.err), "sent_bytes", (json_int_t)n[MESH_STAT_TX_BYTES],
                     "received_bytes", (json_int_t)n[MESH_STAT_RX_BYTES], "handshake_p50",
                     quantile(t->counters.handshake_us, 0.5), "handshake_p99",
                     quantile(t->counters.handshake_us, 0.99)));
    return 0;
}

static int
by_key(struct place *a, struct place *b)
{
    return strcmp(a->key, b->key);
}

/* The clients' word where there is one: it knows of attempts that the server never saw. */
static json_t *
places_json(struct stat_job *j)
{
    struct place *p, *tmp;
    json_t *rows = json_array();
    HASH_CLEAR(by_id, j->by_id);
    HASH_SORT(j->places, by_key);
    HASH_ITER(hh, j->places, p, tmp)
    {
        bool out = p->out.active + p->out.closed > 0;
        append(rows,
               json_pack("{s:s, s:s, s:b, s:b, s:s}", "service", p->service, "addr", p->addr, "listed",
                         p->listed, "draining", p->draining, "reporter", out ? "source" : "destination"),
               tally_json(out ? &p->out : &p->in));
        HASH_DEL(j->places, p);
        free(p);
    }
    return rows;
}

json_t *
meshd_show_stat(const struct meshd_question *q, char *why, size_t cap)
{
    struct stat_job j = {.only = q->arg, .services = json_array()};
    meshd_stats_visit_totals(on_total, &j);
    meshd_registry_visit_endpoints(on_endpoint, &j);
    meshd_stats_visit_active(on_conn, &j);
    meshd_stats_visit_closed(on_conn, &j);
    json_t *places = places_json(&j);
    if (q->arg[0] && json_array_size(j.services) == 0 && json_array_size(places) == 0) {
        json_decref(j.services);
        json_decref(places);
        snprintf(why, cap, "no service '%.64s'; see 'services'", q->arg);
        return NULL;
    }
    return json_pack("{s:i, s:o, s:o}", "schema", MESHD_SCHEMA, "services", j.services, "endpoints",
                     places);
}

/* The rows' reasons as one word each, for a cell. */
static void
flatten(json_t *rows)
{
    const char *reason;
    json_t *row, *n;
    size_t i;
    json_array_foreach(rows, i, row) {
        char text[MESHD_CELL_MAX] = "";
        size_t len = 0;
        json_object_foreach(json_object_get(row, "reasons"), reason, n) {
            int r = snprintf(text + len, sizeof(text) - len, "%s%s:%lld", len ? "," : "", reason,
                             (long long)json_integer_value(n));
            len += r > 0 && (size_t)r < sizeof(text) - len ? (size_t)r : 0;
        }
        json_object_set_new(row, "why", json_string(text));
    }
}

void
meshd_show_stat_text(struct evbuffer *out, const json_t *answer)
{
    static const struct meshd_column services[] = {
        {"SERVICE", "service", MESHD_CELL_TEXT},     {"OUT", "opened_out", MESHD_CELL_TEXT},
        {"IN", "opened_in", MESHD_CELL_TEXT},        {"CLOSED", "closed", MESHD_CELL_TEXT},
        {"ACTIVE", "active", MESHD_CELL_TEXT},       {"FAILED", "failed", MESHD_CELL_TEXT},
        {"ATTEMPTS", "attempts", MESHD_CELL_TEXT},   {"RETRIES", "retries", MESHD_CELL_TEXT},
        {"SENT", "sent_bytes", MESHD_CELL_BYTES},    {"RECEIVED", "received_bytes", MESHD_CELL_BYTES},
        {"P50", "handshake_p50", MESHD_CELL_SHORT},  {"P99", "handshake_p99", MESHD_CELL_SHORT},
        {"REASONS", "why", MESHD_CELL_TEXT},
    };
    static const struct meshd_column endpoints[] = {
        {"SERVICE", "service", MESHD_CELL_TEXT},     {"ENDPOINT", "addr", MESHD_CELL_TEXT},
        {"LISTED", "listed", MESHD_CELL_TEXT},       {"DRAINING", "draining", MESHD_CELL_TEXT},
        {"ACTIVE", "active", MESHD_CELL_TEXT},       {"CLOSED", "closed", MESHD_CELL_TEXT},
        {"FAILED", "failed", MESHD_CELL_TEXT},       {"SENT", "sent_bytes", MESHD_CELL_BYTES},
        {"RECEIVED", "received_bytes", MESHD_CELL_BYTES}, {"P50", "handshake_p50", MESHD_CELL_SHORT},
        {"P99", "handshake_p99", MESHD_CELL_SHORT},  {"REASONS", "why", MESHD_CELL_TEXT},
    };
    flatten(json_object_get(answer, "services"));
    flatten(json_object_get(answer, "endpoints"));
    meshd_table_write(out, json_object_get(answer, "services"), services, COUNT(services));
    evbuffer_add_printf(out, "--\n");
    meshd_table_write(out, json_object_get(answer, "endpoints"), endpoints, COUNT(endpoints));
}

/* -- edges ---------------------------------------------------------------------------------------- */

struct edge {
    char key[2 * MESH_SERVICE_MAX + 2];
    char source_id[MESH_ID_MAX], destination_id[MESH_ID_MAX];
    struct tally out, in;
    bool secured;
    UT_hash_handle hh;
};

static int
on_edge(const struct meshd_conn *c, void *arg)
{
    struct edge **all = arg, *e = NULL;
    const char *source = c->outbound ? c->service : c->peer_service;
    const char *destination = c->outbound ? c->peer_service : c->service;
    bool secured = !c->plaintext;
    char key[sizeof(e->key)];
    if (secured && !c->peer_id[0]) {
        return 0; /* not known with whom: not yet, or it failed before */
    }
    snprintf(key, sizeof(key), "%s%c%s%c", source, 1, destination, secured ? '+' : '-');
    HASH_FIND_STR(*all, key, e);
    if (!e) {
        e = HASH_COUNT(*all) < MESHD_SHOW_MOST ? calloc(1, sizeof(*e)) : NULL;
        if (!e) {
            return 1;
        }
        memcpy(e->key, key, sizeof(key));
        e->secured = secured;
        memcpy(e->source_id, c->outbound ? c->id : c->peer_id, sizeof(e->source_id));
        memcpy(e->destination_id, c->outbound ? c->peer_id : c->id, sizeof(e->destination_id));
        HASH_ADD_STR(*all, key, e);
    }
    tally_add(c->outbound ? &e->out : &e->in, c);
    return 0;
}

static int
by_edge(struct edge *a, struct edge *b)
{
    return strcmp(a->key, b->key);
}

static json_t *
edge_json(const struct edge *e)
{
    size_t n = strcspn(e->key, "\001");
    const char *to = e->key + n + 1;
    return json_pack("{s:s%, s:s%, s:s, s:s, s:s}", "source", e->key, n, "destination", to,
                     strlen(to) - 1, "source_id", e->source_id, "destination_id", e->destination_id,
                     "security", e->secured ? "mutual_tls" : "none");
}

/* A connection within the host is counted at both ends: the end that saw more tells. */
json_t *
meshd_show_edges(void)
{
    struct edge *all = NULL, *e, *tmp;
    json_t *rows = json_array();
    meshd_stats_visit_active(on_edge, &all);
    meshd_stats_visit_closed(on_edge, &all);
    HASH_SORT(all, by_edge);
    HASH_ITER(hh, all, e, tmp)
    {
        bool out = e->out.active + e->out.closed >= e->in.active + e->in.closed;
        append(rows, edge_json(e), tally_json(out ? &e->out : &e->in));
        HASH_DEL(all, e);
        free(e);
    }
    return json_pack("{s:i, s:o}", "schema", MESHD_SCHEMA, "edges", rows);
}

/* -- top ------------------------------------------------------------------------------------------ */

#define SAMPLE_NS UINT64_C(500000000)

/* What was counted at an earlier look, and at the last one: rates are from there to now. */
static struct sample {
    struct meshd_total *at;
    size_t count;
    uint64_t ns;
} older, newer;

struct taking {
    struct sample s;
    size_t room;
};

static int
on_sample(const struct meshd_total *t, void *arg)
{
    struct taking *k = arg;
    if (k->s.count == k->room) {
        size_t room = k->room ? 2 * k->room : 64;
        struct meshd_total *more = realloc(k->s.at, room * sizeof(*more));
        if (!more) {
            return 1;
        }
        k->s.at = more;
        k->room = room;
    }
    k->s.at[k->s.count++] = *t;
    return 0;
}

/* Where several look, the earlier sample stays until it is old enough for a rate to mean something. */
static void
take_sample(void)
{
    struct taking k = {.s = {.ns = meshd_now_ns()}};
    meshd_stats_visit_totals(on_sample, &k);
    if (newer.ns && (!older.ns || newer.ns - older.ns >= SAMPLE_NS)) {
        free(older.at);
        older = newer;
        newer = (struct sample){0};
    }
    free(newer.at);
    newer = k.s;
}

static const struct meshd_counters *
earlier(const char *service)
{
    static const struct meshd_counters none;
    for (size_t i = 0; older.at && i < older.count; i++) {
        if (strcmp(older.at[i].service, service) == 0) {
            return &older.at[i].counters;
        }
    }
    return &none;
}

static double
rate(const struct meshd_counters *now, const struct meshd_counters *then, enum mesh_stat what, double s)
{
    uint64_t a = now->stat[what], b = then->stat[what];
    return s > 0 && a > b ? (double)(a - b) / s : 0;
}

static json_t *
top_row(const struct meshd_total *t, double s, double *weight)
{
    const struct meshd_counters *n = &t->counters, *o = earlier(t->service);
    uint64_t failed = 0, us[MESH_PAGE_BUCKETS];
    for (unsigned i = MESH_OK + 1; i < MESH_ERR_COUNT; i++) {
        failed += n->err[i] > o->err[i] ? n->err[i] - o->err[i] : 0;
    }
    for (unsigned i = 0; i < MESH_PAGE_BUCKETS; i++) {
        us[i] = n->handshake_us[i] > o->handshake_us[i] ? n->handshake_us[i] - o->handshake_us[i] : 0;
    }
    double sent = rate(n, o, MESH_STAT_TX_BYTES, s), received = rate(n, o, MESH_STAT_RX_BYTES, s);
    double opened = rate(n, o, MESH_STAT_OPEN_OUT, s) + rate(n, o, MESH_STAT_OPEN_IN, s);
    *weight = sent + received + opened;
    return json_pack("{s:s, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:o}", "service", t->service,
                     "active", (json_int_t)n->stat[MESH_STAT_ACTIVE], "opened_out_per_second",
                     rate(n, o, MESH_STAT_OPEN_OUT, s), "opened_in_per_second",
                     rate(n, o, MESH_STAT_OPEN_IN, s), "failed_per_second",
                     s > 0 ? (double)failed / s : 0.0, "retries_per_second",
                     rate(n, o, MESH_STAT_RETRIES, s), "sent_bytes_per_second", sent,
                     "received_bytes_per_second", received, "handshake_p50", quantile(us, 0.5),
                     "handshake_p99", quantile(us, 0.99));
}

struct ranked {
    json_t *row;
    double weight;
    size_t at;
};

static int
by_weight(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    int c = (x->weight < y->weight) - (x->weight > y->weight);
    return c ? c : (x->at > y->at) - (x->at < y->at);
}

json_t *
meshd_show_top(const struct meshd_question *q, char *why, size_t cap)
{
    json_t *rows = json_array();
    (void)q;
    (void)why;
    (void)cap;
    take_sample();
    struct ranked *all = calloc(newer.count + 1, sizeof(*all));
    double s = older.ns ? (double)(newer.ns - older.ns) / 1e9 : 0;
    for (size_t i = 0; all && i < newer.count; i++) {
        all[i] = (struct ranked){.at = i};
        all[i].row = top_row(&newer.at[i], s, &all[i].weight);
    }
    if (all && newer.count) {
        qsort(all, newer.count, sizeof(*all), by_weight);
    }
    for (size_t i = 0; all && i < newer.count; i++) {
        append(rows, all[i].row, json_object());
    }
    free(all);
    return json_pack("{s:i, s:f, s:o}", "schema", MESHD_SCHEMA, "seconds", s, "top", rows);
}

void
meshd_show_fini(void)
{
    free(older.at);
    free(newer.at);
    older = newer = (struct sample){0};
}
