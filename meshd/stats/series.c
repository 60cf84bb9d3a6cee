/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_series: see series.h.
 */
#include "meshd/stats/series.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uthash.h>

#include "meshd/base/loop.h"
#include "meshd/stats/origin.h"

#define SERIES_MAX 4096u /* then they are of "other" */
#define IDLE_NS    UINT64_C(600000000000)
#define TOO_MUCH   (UINT64_C(1) << 62)
#define VALUES     (sizeof(struct meshd_series_values) / sizeof(uint64_t))
#define NO_NAME    "-" /* for an empty text in the file */

/* The values lie in a page as they lie here. */
_Static_assert(sizeof(struct meshd_series_values) ==
                   offsetof(struct mesh_page_edge, pad) - offsetof(struct mesh_page_edge, opened),
               "an edge's values");

union values {
    struct meshd_series_values name;
    uint64_t v[VALUES];
};

struct series {
    struct meshd_series_key key;
    union values folded, now, shown;
    uint64_t changed_ns;
    bool live; /* some page has it */
    UT_hash_handle hh;
};

static struct series *all;

static uint64_t
plus(uint64_t a, uint64_t b)
{
    return b < TOO_MUCH && a + b < TOO_MUCH ? a + b : a; /* no honest counter */
}

static void
add(union values *to, const union values *from)
{
    for (size_t i = 0; i < VALUES; i++) {
        to->v[i] = plus(to->v[i], from->v[i]);
    }
}

static struct series *
get(const struct meshd_series_key *key)
{
    struct series *s = NULL;
    struct meshd_series_key other = {.outbound = key->outbound, .plaintext = key->plaintext,
                                     .service = "other", .destination = "other"};
    HASH_FIND(hh, all, key, sizeof(*key), s);
    if (!s && HASH_COUNT(all) >= SERIES_MAX) {
        key = &other;
        HASH_FIND(hh, all, key, sizeof(*key), s);
    }
    if (s) {
        return s;
    }
    s = calloc(1, sizeof(*s));
    if (s) {
        s->key = *key;
        s->changed_ns = meshd_now_ns();
        HASH_ADD(hh, all, key, sizeof(s->key), s);
    }
    return s;
}

static void
name_unknown(char *text, bool wanted)
{
    if (wanted && !text[0]) {
        memcpy(text, "unknown", sizeof("unknown"));
    }
}

/* The key of an edge, one for each set of labels, whatever a process wrote; zeroed behind its strings, for it is hashed as bytes. */
static struct meshd_series_key
key_of(const struct mesh_page_edge *e, uint32_t index, const struct meshd_page_info *info)
{
    struct meshd_series_key k = {0};
    struct meshd_conn own = {.mark = e->mark};
    memcpy(own.service, info->service, sizeof(own.service));
    memcpy(own.id, info->id, sizeof(own.id));
    meshd_origin_apply(&own, info);
    k.outbound = index < MESH_PAGE_OTHERS ? index == 0 : e->outbound != 0;
    k.plaintext = index >= MESH_PAGE_OTHERS && e->plaintext != 0;
    snprintf(k.service, sizeof(k.service), "%s", own.service);
    snprintf(k.id, sizeof(k.id), "%s", own.id);
    if (index >= MESH_PAGE_OTHERS) {
        meshd_page_text(k.peer_id, e->peer_id, sizeof(k.peer_id));
    }
    if (index >= MESH_PAGE_OTHERS && k.outbound) {
        meshd_page_text(k.destination, e->service, sizeof(k.destination));
    }
    if (k.outbound && !k.destination[0]) {
        meshd_stats_service_of(k.peer_id, k.destination);
    }
    name_unknown(k.destination, k.outbound);
    name_unknown(k.peer_id, true);
    return k;
}

struct reading {
    const struct meshd_page_info *info;
    bool fold;
    union values *to[MESH_PAGE_EDGES]; /* the series' values that the page's edges go to */
    uint8_t outbound[MESH_PAGE_EDGES];
};

static void
take_edge(struct reading *r, const struct mesh_page_edge *e, uint32_t index)
{
    struct meshd_series_key k = key_of(e, index, r->info);
    union values v;
    uint64_t any = 0;
    memcpy(&v, &e->opened, sizeof(v));
    for (size_t i = 0; i < VALUES; i++) {
        any |= v.v[i];
    }
    struct series *s = any ? get(&k) : NULL;
    if (s) {
        r->to[index] = r->fold ? &s->folded : &s->now;
        r->outbound[index] = k.outbound;
        s->live = s->live || !r->fold;
        add(r->to[index], &v);
    }
}

/* Bytes of what is open: the shim adds them to the edge when it ends. In a page that is folded it does so
 * no more, and they end here. */
static int
take_open(const struct meshd_conn *c, void *arg)
{
    struct reading *r = arg;
    uint32_t i = c->edge;
    if (c->state != MESH_CONN_OPEN || i == 0 || i > MESH_PAGE_EDGES || !r->to[i - 1]) {
        return 0;
    }
    struct meshd_series_values *v = &r->to[i - 1]->name;
    v->tx_bytes = plus(v->tx_bytes, c->tx_bytes);
    v->rx_bytes = plus(v->rx_bytes, c->rx_bytes);
    if (r->fold) {
        bool killed = !(c->how & MESH_HOW_EXITED);
        enum mesh_flag f = mesh_flag_of(r->outbound[i - 1], killed ? MESH_E_HOLDER_DIED : c->reason, c->how);
        v->closed[f] = plus(v->closed[f], 1);
    }
    return 0;
}

static void
read_page(const struct meshd_page_info *info, bool fold)
{
    static struct mesh_page_edge edges[MESH_PAGE_EDGES];
    static struct reading r;
    int fd = meshd_page_open(info->page_id);
    r = (struct reading){.info = info, .fold = fold};
    ssize_t n = fd >= 0 ? pread(fd, edges, sizeof(edges), (off_t)MESH_PAGE_EDGES_OFF) : -1;
    if (fd >= 0) {
        close(fd);
    }
    for (uint32_t i = 0; i < MESH_PAGE_EDGES && (ssize_t)((i + 1) * sizeof(edges[0])) <= n; i++) {
        if (i < MESH_PAGE_OTHERS || atomic_load(&edges[i].state) == MESH_EDGE_READY) {
            take_edge(&r, &edges[i], i);
        }
    }
    meshd_page_visit(info, MESHD_PAGE_ACTIVE, take_open, &r); /* after the edges: what ends meanwhile is in neither */
}

void
meshd_series_fold(const struct meshd_page_info *info)
{
    read_page(info, true);
}

void
meshd_series_begin(void)
{
    for (struct series *s = all; s; s = s->hh.next) {
        s->now = s->folded;
        s->live = false;
    }
}

void
meshd_series_live(const struct meshd_page_info *info)
{
    read_page(info, false);
}

static uint64_t
active(const struct meshd_series_values *v)
{
    uint64_t closed = 0;
    for (unsigned i = 0; i < MESH_PAGE_FLAGS; i++) {
        closed = plus(closed, v->closed[i]);
    }
    return v->opened > closed ? v->opened - closed : 0;
}

static bool
is_idle(const struct series *s, uint64_t now_ns)
{
    return active(&s->shown.name) == 0 && now_ns > s->changed_ns && now_ns - s->changed_ns > IDLE_NS;
}

void
meshd_series_end(uint64_t now_ns)
{
    struct series *s, *tmp;
    HASH_ITER(hh, all, s, tmp)
    {
        for (size_t i = 0; i < VALUES; i++) {
            if (s->now.v[i] > s->shown.v[i]) {
                s->shown.v[i] = s->now.v[i];
                s->changed_ns = now_ns;
            }
        }
        if (!s->live && is_idle(s, now_ns)) {
            HASH_DEL(all, s);
            free(s);
        }
    }
}

static int
by_key(struct series *a, struct series *b)
{
    return memcmp(&a->key, &b->key, sizeof(a->key));
}

int
meshd_series_visit(meshd_series_visit_fn *visit, void *arg)
{
    int r = 0;
    uint64_t now = meshd_now_ns();
    HASH_SORT(all, by_key);
    for (struct series *s = all; r == 0 && s; s = s->hh.next) {
        if (!is_idle(s, now)) {
            r = visit(&s->key, &s->shown.name, arg);
        }
    }
    return r;
}

static const char *
or_dash(const char *text)
{
    return text[0] ? text : NO_NAME;
}

/* edge OUTBOUND PLAINTEXT SERVICE ID DESTINATION PEER_ID {INDEX:VALUE} */
void
meshd_series_print(FILE *f)
{
    for (const struct series *s = all; s; s = s->hh.next) {
        const struct meshd_series_key *k = &s->key;
        uint64_t any = 0;
        for (size_t i = 0; i < VALUES; i++) {
            any |= s->folded.v[i];
        }
        if (!any) {
            continue;
        }
        fprintf(f, "edge %d %d %s %s %s %s", k->outbound, k->plaintext, or_dash(k->service),
                or_dash(k->id), or_dash(k->destination), or_dash(k->peer_id));
        for (size_t i = 0; i < VALUES; i++) {
            if (s->folded.v[i]) {
                fprintf(f, " %zu:%" PRIu64, i, s->folded.v[i]);
            }
        }
        fprintf(f, "\n");
    }
}

static void
no_dash(char *text)
{
    if (strcmp(text, NO_NAME) == 0) {
        memset(text, 0, 2);
    }
}

bool
meshd_series_parse(const char *line)
{
    struct meshd_series_key k = {0};
    union values v = {0};
    int out = 0, plain = 0, at = 0, more = 0;
    size_t index;
    uint64_t value;
    _Static_assert(MESH_SERVICE_MAX == 64 && MESH_ID_MAX == 256, "widths below");
    if (sscanf(line, "edge %d %d %63s %255s %63s %255s%n", &out, &plain, k.service, k.id,
               k.destination, k.peer_id, &at) != 6) {
        return false;
    }
    k.outbound = out != 0;
    k.plaintext = plain != 0;
    no_dash(k.service);
    no_dash(k.id);
    no_dash(k.destination);
    no_dash(k.peer_id);
    for (; sscanf(line + at, " %zu:%" SCNu64 "%n", &index, &value, &more) == 2; at += more) {
        if (index < VALUES && value < TOO_MUCH) {
            v.v[index] = value;
        }
    }
    struct series *s = get(&k);
    if (s) {
        add(&s->folded, &v);
    }
    return line[at] == '\0' && s;
}

void
meshd_series_fini(void)
{
    struct series *s, *tmp;
    HASH_ITER(hh, all, s, tmp)
    {
        HASH_DEL(all, s);
        free(s);
    }
}
