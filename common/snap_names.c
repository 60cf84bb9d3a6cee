/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap_names: see snap_names.h. Entries are copied and checked by common/snap.c; chains are bounded by the
 * number of names.
 */
#include "common/snap_names.h"

#include <stdio.h>
#include <string.h>

#include "common/snap_int.h"

struct table {
    const struct mesh_snap_view *view;
    uint32_t names, buckets; /* buckets 0: there are no names at all */
    char domain[MESH_DOMAIN_MAX];
};

static enum mesh_err
open_table(const struct mesh_snap_view *v, struct table *t)
{
    struct mesh_snap_domain d;
    *t = (struct table){.view = v, .names = v->f.table[MESH_SNAP_NAMES].count,
                        .buckets = v->f.table[MESH_SNAP_NAME_BUCKETS].count};
    if (t->buckets == 0 && t->names == 0) {
        return MESH_OK;
    }
    if (t->buckets == 0 || (t->buckets & (t->buckets - 1)) != 0) {
        return MESH_E_SNAPSHOT;
    }
    enum mesh_err e = mesh_snap_get(v, MESH_SNAP_DOMAIN, 0, &d);
    if (e == MESH_OK) {
        memcpy(t->domain, d.domain, sizeof(t->domain));
    }
    return e == MESH_OK && !memchr(t->domain, '\0', sizeof(t->domain)) ? MESH_E_SNAPSHOT : e;
}

static enum mesh_err
get_bucket(const struct table *t, uint32_t i, struct mesh_snap_name_bucket *out)
{
    return mesh_snap_get(t->view, MESH_SNAP_NAME_BUCKETS, i, out);
}

static enum mesh_err
get_name(const struct table *t, uint32_t i, struct mesh_snap_name *out)
{
    enum mesh_err e = mesh_snap_get(t->view, MESH_SNAP_NAMES, i, out);
    return e == MESH_OK && !memchr(out->name, '\0', sizeof(out->name)) ? MESH_E_SNAPSHOT : e;
}

uint32_t
mesh_snap_names_at(const char *name, uint32_t buckets)
{
    return (uint32_t)mesh_vaddr_hash("", name) & (buckets - 1);
}

uint32_t
mesh_snap_names_addr_at(const uint8_t v4[4], uint32_t buckets)
{
    uint32_t n = (uint32_t)v4[0] << 24 | (uint32_t)v4[1] << 16 | (uint32_t)v4[2] << 8 | v4[3];
    return n * UINT32_C(2654435761) >> 7 & (buckets - 1);
}

/* ---- by name ---- */

struct by_name {
    char asked[MESH_NAME_TEXT]; /* lower case, without a dot at the end */
    struct mesh_named out;
};

/* Is `name` something under the domain? Then it is cut to what stands before it. */
static bool
cut_domain(char *name, const char *domain)
{
    size_t n = strlen(name), d = strlen(domain);
    if (d == 0 || n < d + 2 || name[n - d - 1] != '.' || strcmp(name + n - d, domain) != 0) {
        return false;
    }
    name[n - d - 1] = '\0';
    return true;
}

static enum mesh_err
try_name(const struct mesh_snap_view *v, void *arg)
{
    struct by_name *q = arg;
    struct table t;
    struct mesh_snap_name_bucket b;
    struct mesh_snap_name n;
    char name[MESH_NAME_TEXT];
    enum mesh_err e = open_table(v, &t);
    memset(&q->out, 0, sizeof(q->out));
    if (e != MESH_OK || t.buckets == 0) {
        return e;
    }
    memcpy(name, q->asked, sizeof(name));
    bool inside = cut_domain(name, t.domain);
    uint8_t kinds = inside ? MESH_NAME_DOMAIN : MESH_NAME_HOST | MESH_NAME_LABEL;
    q->out.answer = inside ? MESH_NAME_UNKNOWN : MESH_NAME_FOREIGN;
    e = get_bucket(&t, mesh_snap_names_at(name, t.buckets), &b);
    uint32_t i = b.name;
    for (uint32_t steps = 0; e == MESH_OK && i != MESH_SNAP_NONE; steps++, i = n.next) {
        e = steps < t.names ? get_name(&t, i, &n) : MESH_E_SNAPSHOT; /* a ring */
        if (e == MESH_OK && n.kind & kinds && strcmp(n.name, name) == 0) {
            q->out.answer = MESH_NAME_FOUND;
            q->out.kind = n.kind & kinds;
            q->out.service = n.service;
            memcpy(q->out.addr.v4, n.v4, sizeof(n.v4));
            memcpy(q->out.addr.v6, n.v6, sizeof(n.v6));
            return MESH_OK;
        }
    }
    return e;
}

/* False: too long for any name of the mesh, or none at all. */
static bool
normalise(char *to, const char *name)
{
    size_t n = 0;
    for (; name[n]; n++) {
        if (n >= MESH_NAME_TEXT - 1) {
            return false;
        }
        to[n] = name[n];
        if (name[n] >= 'A' && name[n] <= 'Z') {
            to[n] = (char)(name[n] + 'a' - 'A');
        }
    }
    n -= n > 1 && to[n - 1] == '.';
    to[n] = '\0';
    return n > 0;
}

enum mesh_err
mesh_snap_name_find(const struct mesh_snap *s, const char *name, struct mesh_named *out)
{
    struct by_name q = {.asked = ""};
    if (!normalise(q.asked, name)) {
        memset(out, 0, sizeof(*out));
        return MESH_OK;
    }
    enum mesh_err e = mesh_snap_attempt(s, try_name, &q);
    if (e == MESH_OK) {
        *out = q.out;
    }
    return e;
}

/* ---- by address ---- */

struct by_addr {
    const struct mesh_addr *addr;
    struct mesh_named out;
};

static void
tell(struct mesh_named *out, const struct mesh_snap_name *n, const char *domain)
{
    bool inside = n->kind & MESH_NAME_DOMAIN && domain[0];
    out->answer = MESH_NAME_FOUND;
    out->kind = n->kind;
    out->service = n->service;
    memcpy(out->addr.v4, n->v4, sizeof(n->v4));
    memcpy(out->addr.v6, n->v6, sizeof(n->v6));
    snprintf(out->text, sizeof(out->text), "%s%s%s", n->name, inside ? "." : "", inside ? domain : "");
}

static enum mesh_err
try_addr(const struct mesh_snap_view *v, void *arg)
{
    struct by_addr *q = arg;
    struct table t;
    struct mesh_snap_name_bucket b;
    struct mesh_snap_name n;
    const uint8_t *v4 = q->addr->ip + 12; /* in both families */
    bool is_v4 = mesh_addr_is_v4(q->addr);
    enum mesh_err e = open_table(v, &t);
    memset(&q->out, 0, sizeof(q->out));
    if (e != MESH_OK || t.buckets == 0 || (t.names == 0 && !t.domain[0])) {
        return e;
    }
    q->out.answer = MESH_NAME_UNKNOWN;
    e = get_bucket(&t, mesh_snap_names_addr_at(v4, t.buckets), &b);
    uint32_t i = b.addr;
    for (uint32_t steps = 0; e == MESH_OK && i != MESH_SNAP_NONE; steps++, i = n.next_addr) {
        e = steps < t.names ? get_name(&t, i, &n) : MESH_E_SNAPSHOT;
        if (e == MESH_OK && (is_v4 ? memcmp(n.v4, v4, 4) : memcmp(n.v6, q->addr->ip, 16)) == 0) {
            tell(&q->out, &n, t.domain);
            return MESH_OK;
        }
    }
    return e;
}

enum mesh_err
mesh_snap_name_of(const struct mesh_snap *s, const struct mesh_addr *a, struct mesh_named *out)
{
    struct by_addr q = {.addr = a};
    memset(out, 0, sizeof(*out));
    if (!mesh_vaddr_is(a)) {
        return MESH_OK;
    }
    enum mesh_err e = mesh_snap_attempt(s, try_addr, &q);
    if (e == MESH_OK) {
        *out = q.out;
    }
    return e;
}
