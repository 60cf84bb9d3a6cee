/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_totals: see totals.h.
 *
 * The file is text, one value a line, by name, so that it outlives added counters:
 *   libmesh-totals 1
 *   folded ID                      pages already counted here
 *   service NAME                   the following lines are of it
 *   edge ...                       see series.c; an older meshd skips it
 *   stat NAME VALUE | err REASON VALUE | handshake_us BUCKET VALUE | connect_us BUCKET VALUE
 */
#include "meshd/stats/totals.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "meshd/base/file.h"
#include "meshd/base/log.h"
#include "meshd/stats/page.h"
#include "meshd/stats/series.h"

#define FILE_MAX     (64u << 20) /* of SERVICES_MAX services and series, whose every counter is large: about 40 MB */
#define SERVICES_MAX 4096u
#define HEADER       "libmesh-totals 1"

struct total {
    struct meshd_total t;
    UT_hash_handle hh;
};

static char path[PATH_MAX];
static struct total *totals;
static uint64_t *folded;
static size_t folded_n;
static struct meshd_conn *recent[MESHD_STATS_RECENT]; /* newest first */
static size_t recent_n;

static struct total *
get(const char *service)
{
    struct total *t = NULL;
    const char *name = service;
    HASH_FIND_STR(totals, name, t);
    if (!t && HASH_COUNT(totals) >= SERVICES_MAX) {
        name = "other";
        HASH_FIND_STR(totals, name, t);
    }
    if (t) {
        return t;
    }
    t = calloc(1, sizeof(*t));
    if (t) {
        snprintf(t->t.service, sizeof(t->t.service), "%s", name);
        HASH_ADD_STR(totals, t.service, t);
    }
    return t;
}

static const char *
stat_name(unsigned i)
{
    return meshd_stats_name((enum mesh_stat)i);
}

static const char *
err_name(unsigned i)
{
    return mesh_err_reason((enum mesh_err)i);
}

static const char *
bucket_name(unsigned i)
{
    static char text[16];
    snprintf(text, sizeof(text), "%u", i);
    return text;
}

/* The arrays of struct meshd_counters. */
static const struct {
    const char *word;
    size_t off, n;
    const char *(*name)(unsigned i);
} arrays[] = {
    {"stat", offsetof(struct meshd_counters, stat), MESH_STAT_COUNT, stat_name},
    {"err", offsetof(struct meshd_counters, err), MESH_ERR_COUNT, err_name},
    {"handshake_us", offsetof(struct meshd_counters, handshake_us), MESH_PAGE_BUCKETS, bucket_name},
    {"connect_us", offsetof(struct meshd_counters, connect_us), MESH_PAGE_BUCKETS, bucket_name},
};
#define ARRAYS (sizeof(arrays) / sizeof(arrays[0]))

static uint64_t *
array_of(struct meshd_counters *c, size_t a)
{
    return (uint64_t *)(void *)((char *)c + arrays[a].off);
}

/* A name that this version does not know is of another one: skipped. */
static void
set_value(struct total *t, const char *word, const char *name, uint64_t value)
{
    for (size_t a = 0; a < ARRAYS; a++) {
        for (unsigned i = 0; strcmp(arrays[a].word, word) == 0 && i < arrays[a].n; i++) {
            if (strcmp(arrays[a].name(i), name) == 0) {
                array_of(&t->t.counters, a)[i] = value;
                return;
            }
        }
    }
}

static bool
add_folded(uint64_t id)
{
    uint64_t *p = realloc(folded, (folded_n + 1) * sizeof(*p));
    if (!p) {
        return false;
    }
    folded = p;
    folded[folded_n++] = id;
    return true;
}

static bool
parse_line(const char *line, struct total **t)
{
    char word[16], name[MESH_SERVICE_MAX];
    unsigned long long v = 0;
    if (strncmp(line, "edge ", 5) == 0) {
        return meshd_series_parse(line);
    }
    _Static_assert(MESH_SERVICE_MAX == 64, "width below");
    int n = sscanf(line, "%15s %63s %llu", word, name, &v);
    if (n == 2 && strcmp(word, "service") == 0) {
        *t = get(name);
        return *t != NULL;
    }
    if (n == 2 && strcmp(word, "folded") == 0) {
        return add_folded(strtoull(name, NULL, 16));
    }
    if (n != 3 || !*t) {
        return false;
    }
    set_value(*t, word, name, v);
    return true;
}

static bool
parse(char *text)
{
    struct total *t = NULL;
    char *save = NULL;
    char *line = strtok_r(text, "\n", &save);
    if (!line || strcmp(line, HEADER) != 0) {
        return false;
    }
    while ((line = strtok_r(NULL, "\n", &save)) != NULL) {
        if (!parse_line(line, &t)) {
            return false;
        }
    }
    return true;
}

static void
put_aside(void)
{
    char bad[PATH_MAX];
    if (snprintf(bad, sizeof(bad), "%s.bad", path) < (int)sizeof(bad) && rename(path, bad) == 0) {
        log_error("%s: damaged or too large, put aside; totals start anew", path);
    }
}

enum mesh_err
meshd_totals_load(const char *file)
{
    char *data = NULL;
    size_t len = 0;
    if (snprintf(path, sizeof(path), "%s", file) >= (int)sizeof(path)) {
        return MESH_E_CONFIG;
    }
    enum mesh_err e = meshd_file_read(path, FILE_MAX, &data, &len);
    if (e != MESH_OK && errno == EFBIG) {
        put_aside(); /* what processes count is their word: it may cost the totals, but not the start */
        return MESH_OK;
    }
    if (e != MESH_OK) {
        return errno == ENOENT ? MESH_OK : e;
    }
    if (!parse(data)) {
        put_aside();
    }
    free(data);
    return MESH_OK;
}

static void
print_total(FILE *f, struct meshd_total *t)
{
    fprintf(f, "service %s\n", t->service);
    for (size_t a = 0; a < ARRAYS; a++) {
        const uint64_t *v = array_of(&t->counters, a);
        for (unsigned i = 0; i < arrays[a].n; i++) {
            if (v[i]) {
                fprintf(f, "%s %s %llu\n", arrays[a].word, arrays[a].name(i),
                        (unsigned long long)v[i]);
            }
        }
    }
}

enum mesh_err
meshd_totals_save(const uint64_t *ids, size_t n)
{
    char *data = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&data, &len);
    if (!f) {
        return MESH_E_NO_MEMORY;
    }
    fprintf(f, HEADER "\n");
    for (size_t i = 0; i < n; i++) {
        fprintf(f, "folded %016llx\n", (unsigned long long)ids[i]);
    }
    for (struct total *t = totals; t; t = t->hh.next) {
        print_total(f, &t->t);
    }
    meshd_series_print(f);
    int bad = ferror(f);
    bad |= fclose(f);
    enum mesh_err e = bad ? MESH_E_NO_MEMORY : meshd_file_write(path, data, len, 0600, false);
    free(data);
    return e;
}

bool
meshd_totals_has(uint64_t page_id)
{
    for (size_t i = 0; i < folded_n; i++) {
        if (folded[i] == page_id) {
            return true;
        }
    }
    return false;
}

void
meshd_totals_fini(void)
{
    struct total *t, *tmp;
    HASH_ITER(hh, totals, t, tmp)
    {
        HASH_DEL(totals, t);
        free(t);
    }
    for (size_t i = 0; i < recent_n; i++) {
        free(recent[i]);
    }
    free(folded);
    folded = NULL;
    folded_n = recent_n = 0;
}

void
meshd_totals_add(const char *service, const struct meshd_counters *c)
{
    struct total *t = get(service);
    if (t) {
        meshd_counters_add(&t->t.counters, c);
    }
}

static int
by_name(struct total *a, struct total *b)
{
    return strcmp(a->t.service, b->t.service);
}

struct meshd_total *
meshd_totals_copy(size_t room, size_t *n)
{
    size_t count = 0;
    struct meshd_total *out = calloc(HASH_COUNT(totals) + room + 1, sizeof(*out));
    HASH_SORT(totals, by_name);
    for (struct total *t = totals; out && t; t = t->hh.next) {
        out[count++] = t->t;
    }
    *n = count;
    return out;
}

void
meshd_recent_add(const struct meshd_conn *c)
{
    size_t at = 0;
    while (at < recent_n && recent[at]->closed_ns >= c->closed_ns) {
        at++;
    }
    if (at == MESHD_STATS_RECENT) {
        return; /* older than all */
    }
    struct meshd_conn *copy =
        recent_n == MESHD_STATS_RECENT ? recent[--recent_n] : malloc(sizeof(*copy));
    if (!copy) {
        return;
    }
    *copy = *c;
    memmove(&recent[at + 1], &recent[at], (recent_n - at) * sizeof(recent[0]));
    recent[at] = copy;
    recent_n++;
}

int
meshd_recent_visit(meshd_conn_visit *visit, void *arg)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < recent_n; i++) {
        r = visit(recent[i], arg);
    }
    return r;
}
