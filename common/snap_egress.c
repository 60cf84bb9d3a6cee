/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap_egress: see snap.h: which connections may leave the mesh. Networks say it alone; names say it
 * together with what the program was told when it looked them up, which is its process's to know.
 */
#include <string.h>

#include "common/limits.h"
#include "common/snap_int.h"
#include "mesh/names.h"

bool
mesh_snap_pattern_takes(const char *pattern, const char *name)
{
    size_t p = strlen(pattern), n = strlen(name);
    if (pattern[0] != '*') {
        return strcmp(pattern, name) == 0;
    }
    return p > 1 && n >= p && strcmp(name + n - (p - 1), pattern + 1) == 0; /* ".example.org", and something */
}

static enum mesh_err
get_host(const struct mesh_snap_view *v, uint32_t i, struct mesh_snap_host *out)
{
    enum mesh_err e = mesh_snap_get(v, MESH_SNAP_HOSTS, i, out);
    return e == MESH_OK && !memchr(out->pattern, '\0', sizeof(out->pattern)) ? MESH_E_SNAPSHOT : e;
}

/* ---- may it go there? ---- */

struct asked {
    const struct mesh_addr *to;
    mesh_snap_told_fn *told;
    bool allowed;
};

static enum mesh_err
try_hosts(const struct mesh_snap_view *v, struct asked *q)
{
    enum mesh_err e = MESH_OK;
    for (uint32_t i = 0; e == MESH_OK && !q->allowed && i < v->f.table[MESH_SNAP_HOSTS].count; i++) {
        struct mesh_snap_host h;
        e = get_host(v, i, &h);
        q->allowed = e == MESH_OK && (h.port == 0 || h.port == q->to->port) &&
                     mesh_addr_in(q->to, h.net, h.prefix) && q->told(q->to, mesh_limit_hash(h.pattern));
    }
    return e;
}

static enum mesh_err
try_allows(const struct mesh_snap_view *v, void *arg)
{
    struct asked *q = arg;
    enum mesh_err e = MESH_OK;
    q->allowed = false;
    for (uint32_t i = 0; e == MESH_OK && !q->allowed && i < v->f.table[MESH_SNAP_NETS].count; i++) {
        struct mesh_snap_net n;
        e = mesh_snap_get(v, MESH_SNAP_NETS, i, &n);
        q->allowed = e == MESH_OK && (n.port == 0 || n.port == q->to->port) && mesh_addr_in(q->to, n.net, n.prefix);
    }
    return e == MESH_OK && !q->allowed && q->told ? try_hosts(v, q) : e;
}

enum mesh_err
mesh_snap_allows(const struct mesh_snap *s, const struct mesh_addr *a, mesh_snap_told_fn *told, bool *allowed)
{
    struct asked q = {.to = a, .told = told};
    enum mesh_err e = mesh_snap_attempt(s, try_allows, &q);
    *allowed = e == MESH_OK && q.allowed;
    return e;
}

/* ---- whose word is a name? ---- */

struct looked_up {
    char name[MESH_PATTERN_MAX];
    struct mesh_snap_patterns out;
};

static void
add(struct mesh_snap_patterns *out, uint64_t key)
{
    for (uint32_t i = 0; i < out->count; i++) {
        if (out->key[i] == key) {
            return; /* with another port */
        }
    }
    if (out->count < MESH_SNAP_PATTERNS) {
        out->key[out->count++] = key;
    }
}

static enum mesh_err
try_patterns(const struct mesh_snap_view *v, void *arg)
{
    struct looked_up *q = arg;
    enum mesh_err e = MESH_OK;
    q->out.count = 0;
    for (uint32_t i = 0; e == MESH_OK && i < v->f.table[MESH_SNAP_HOSTS].count; i++) {
        struct mesh_snap_host h;
        e = get_host(v, i, &h);
        if (e == MESH_OK && mesh_snap_pattern_takes(h.pattern, q->name)) {
            add(&q->out, mesh_limit_hash(h.pattern));
        }
    }
    return e;
}

enum mesh_err
mesh_snap_patterns(const struct mesh_snap *s, const char *name, struct mesh_snap_patterns *out)
{
    struct looked_up q = {.name = ""};
    size_t n = 0;
    out->count = 0;
    for (; name[n]; n++) {
        if (n >= sizeof(q.name) - 1) {
            return MESH_OK; /* longer than any that is listed, but for "*." */
        }
        bool upper = name[n] >= 'A' && name[n] <= 'Z';
        q.name[n] = (char)(upper ? name[n] + 'a' - 'A' : name[n]);
    }
    if (n > 1 && q.name[n - 1] == '.') {
        q.name[n - 1] = '\0';
    }
    enum mesh_err e = mesh_snap_attempt(s, try_patterns, &q);
    if (e == MESH_OK) {
        *out = q.out;
    }
    return e;
}
