/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap_read: see snap.h.
 *
 * The area of generation g carries g in its own first word while it is whole; the writer clears
 * that word before it touches anything else in the area. So a reader that finds g there before and
 * after its copies has copied one state, even if newer generations appeared meanwhile.
 *
 * Every value that decides about an address is copied to a local first, checked, and then used:
 * the compiler barrier in mesh_snap_grab() keeps it from being read a second time.
 */
#include "common/snap_int.h"

#include <string.h>

#include "common/limits.h"

#define TRIES 64 /* each lost one means two publications during one look-up */

#define FRONT_OFF offsetof(struct mesh_snap_area, table)
_Static_assert(FRONT_OFF + sizeof(struct mesh_snap_front) == offsetof(struct mesh_snap_area, bucket) &&
                   FRONT_OFF + offsetof(struct mesh_snap_front, check) ==
                       offsetof(struct mesh_snap_area, check),
               "front");

size_t
mesh_snap_entry_size(enum mesh_snap_tables t)
{
    return mesh_snap_sizes[t];
}

uint32_t
mesh_snap_sum(uint64_t generation, uint32_t index, const void *p, size_t n)
{
    return mesh_snap_sum_of(generation, index, p, n);
}

uint32_t
mesh_snap_bucket(const uint8_t ip[16], uint16_t port)
{
    uint64_t h = mesh_snap_stir(mesh_snap_stir(port, ip), ip + 8) * MESH_SNAP_ODD; /* the first bits have all the others in them */
    return (uint32_t)(h >> 32) % MESH_SNAP_BUCKETS;
}

uint32_t
mesh_snap_cookie_bucket(uint64_t cookie)
{
    return (uint32_t)(cookie % MESH_SNAP_BUCKETS);
}

static enum mesh_err
check_head(const struct mesh_snap *s, uint32_t *area_size)
{
    if (!s->map || s->size < MESH_SNAP_HEAD) {
        return MESH_E_SNAPSHOT;
    }
    const struct mesh_snap_head *h = s->map;
    uint64_t magic = 0;
    uint32_t version = 0, size = 0;
    mesh_snap_grab(&magic, &h->magic, sizeof(magic));
    mesh_snap_grab(&version, &h->version, sizeof(version));
    mesh_snap_grab(&size, &h->area_size, sizeof(size));
    if (magic != MESH_SNAP_MAGIC) {
        return MESH_E_SNAPSHOT;
    }
    if (version != MESH_SNAP_VERSION) {
        return MESH_E_VERSION;
    }
    if (size < sizeof(struct mesh_snap_area) || size % 64 != 0 ||
        MESH_SNAP_SIZE(size) > s->size) {
        return MESH_E_SNAPSHOT;
    }
    *area_size = size;
    return MESH_OK;
}

enum mesh_err
mesh_snap_check(const struct mesh_snap *s)
{
    uint32_t area_size = 0;
    return check_head(s, &area_size);
}

static bool
is_inside(const struct mesh_snap_table *t, size_t each, uint32_t area_size)
{
    return t->off % 8 == 0 && t->off >= sizeof(struct mesh_snap_area) && t->off <= area_size &&
           (uint64_t)t->count * each <= area_size - t->off;
}

/* Acquire: what is read afterwards is at least as new as the stamp. */
static bool
is_whole(const struct mesh_snap_view *v)
{
    return __atomic_load_n(v->stamp, __ATOMIC_ACQUIRE) == v->generation;
}

static enum mesh_err
open_view(const struct mesh_snap *s, uint32_t area_size, struct mesh_snap_view *v)
{
    const struct mesh_snap_head *h = s->map;
    v->generation = atomic_load_explicit(&h->generation, memory_order_acquire);
    v->area = (const uint8_t *)s->map + MESH_SNAP_HEAD + (v->generation & 1) * (size_t)area_size;
    const struct mesh_snap_area *a = (const void *)v->area;
    v->stamp = &a->generation;
    v->pool = (const uint8_t *)s->map + MESH_SNAP_POOL(area_size);
    v->pool_size = MESH_SNAP_SIZE(area_size) - MESH_SNAP_POOL(area_size);
    v->cache = s->cache;
    v->key = (struct mesh_snap_key){s->map, 0, v->generation, area_size};
    mesh_snap_grab(&v->key.epoch, &h->epoch, sizeof(v->key.epoch));
    v->is_kept = false;
    if (!is_whole(v)) {
        return MESH_E_SNAPSHOT;
    }
    struct mesh_snap_front *f = &v->f;
    mesh_snap_grab(f, v->area + FRONT_OFF, sizeof(*f));
    v->is_kept = mesh_snap_cache_front(v->cache, &v->key, f);
    if (v->is_kept) {
        return MESH_OK; /* word for word what was checked before */
    }
    bool good = f->check == mesh_snap_sum_of(v->generation, MESH_SNAP_NONE, f,
                                             offsetof(struct mesh_snap_front, check));
    for (unsigned t = 0; good && t < MESH_SNAP_TABLES; t++) {
        good = is_inside(&f->table[t], mesh_snap_sizes[t], area_size);
    }
    return good ? MESH_OK : MESH_E_SNAPSHOT;
}

enum mesh_err
mesh_snap_attempt(const struct mesh_snap *s, mesh_snap_attempt_fn *fn, void *arg)
{
    uint32_t area_size = 0;
    enum mesh_err e = check_head(s, &area_size);
    if (e != MESH_OK) {
        return e;
    }
    for (int i = 0; i < TRIES; i++) {
        struct mesh_snap_view v;
        enum mesh_err opened = open_view(s, area_size, &v);
        e = opened == MESH_OK ? fn(&v, arg) : opened;
        /* Keeps the copies above from sinking below the second look at the stamp. */
        atomic_thread_fence(memory_order_acquire);
        if (is_whole(&v)) {
            if (opened == MESH_OK && !v.is_kept) {
                mesh_snap_cache_keep_front(v.cache, &v.key, &v.f);
            }
            return e;
        }
    }
    return MESH_E_SNAPSHOT;
}

bool
mesh_snap_has(const struct mesh_snap_view *v, enum mesh_snap_tables t, const struct mesh_snap_part *p)
{
    uint32_t n = v->f.table[t].count;
    return p->first <= n && p->count <= n - p->first;
}

enum mesh_err
mesh_snap_get_endpoint(const struct mesh_snap_view *v, uint32_t i, struct mesh_snap_endpoint *out)
{
    enum mesh_err e = mesh_snap_get(v, MESH_SNAP_ENDPOINTS, i, out);
    if (e == MESH_OK && out->mode > MESH_MODE_STRICT) {
        out->mode = MESH_MODE_STRICT;
    }
    return e;
}

enum mesh_err
mesh_snap_get_service(const struct mesh_snap_view *v, uint32_t i, struct mesh_snap_service *out)
{
    enum mesh_err e = mesh_snap_get(v, MESH_SNAP_SERVICES, i, out);
    if (e != MESH_OK) {
        return e;
    }
    out->name[sizeof(out->name) - 1] = '\0';
    out->id[sizeof(out->id) - 1] = '\0';
    bool good = mesh_snap_has(v, MESH_SNAP_GROUPS, &out->groups) &&
                mesh_snap_has(v, MESH_SNAP_ROUTES, &out->routes) &&
                mesh_snap_has(v, MESH_SNAP_TARGETS, &out->failover);
    return good ? MESH_OK : MESH_E_SNAPSHOT;
}

static enum mesh_err
get_bucket(const struct mesh_snap_view *v, uint32_t i, struct mesh_snap_bucket *b)
{
    const struct mesh_snap_area *a = (const void *)v->area;
    mesh_snap_grab(b, &a->bucket[i], sizeof(*b));
    return b->check == mesh_snap_sum_of(v->generation, i, b, offsetof(struct mesh_snap_bucket, check))
               ? MESH_OK
               : MESH_E_SNAPSHOT;
}

static bool
wildcard_takes(const struct mesh_snap_endpoint *e, const struct mesh_addr *to)
{
    struct mesh_addr own = {.port = e->port};
    memcpy(own.ip, e->addr, 16);
    if (mesh_addr_is_v4(to)) {
        return mesh_addr_is_v4(&own) || !(e->flags & MESH_EP_V6ONLY);
    }
    return !mesh_addr_is_v4(&own);
}

#define SERVICE_SCORE 7 /* no other one can beat that */

/* How well an endpoint fits, 0 not at all: a service's address beats all; exact beats wildcard; the own namespace beats others;
 * a wildcard of the destination's family beats a dual one, as in the kernel's own look-up. */
static int
score(const struct mesh_snap_endpoint *e, const struct mesh_snap_query *q)
{
    bool home = e->netns == q->netns;
    if (e->port != q->addr.port || ((e->flags & MESH_EP_NETNS) && !home) ||
        (q->endpoints_only && e->flags & MESH_EP_SERVICE)) {
        return 0;
    }
    if (!(e->flags & MESH_EP_ANY)) {
        int exact = e->flags & MESH_EP_SERVICE ? SERVICE_SCORE : 5;
        return memcmp(e->addr, q->addr.ip, 16) == 0 ? exact + home : 0;
    }
    if (!home || !wildcard_takes(e, &q->addr)) {
        return 0;
    }
    struct mesh_addr own = {.port = e->port};
    memcpy(own.ip, e->addr, 16);
    return 1 + (mesh_addr_is_v4(&own) == mesh_addr_is_v4(&q->addr));
}

static enum mesh_err
walk(const struct mesh_snap_view *v, uint32_t bucket, struct mesh_snap_query *q)
{
    struct mesh_snap_bucket b;
    struct mesh_snap_endpoint ep;
    enum mesh_err e = get_bucket(v, bucket, &b);
    uint32_t i = b.first;
    for (uint32_t steps = 0; e == MESH_OK && i != MESH_SNAP_NONE; steps++) {
        if (steps > v->f.table[MESH_SNAP_ENDPOINTS].count) {
            return MESH_E_SNAPSHOT; /* a ring */
        }
        e = mesh_snap_get_endpoint(v, i, &ep);
        int s = e == MESH_OK ? score(&ep, q) : 0;
        if (s > q->score) {
            q->score = s;
            q->hit->endpoint = ep;
        }
        i = q->score >= SERVICE_SCORE ? MESH_SNAP_NONE : ep.next;
    }
    return e;
}

static struct mesh_snap_asked
asked_by(const struct mesh_snap_query *q)
{
    struct mesh_snap_asked a = {.netns = q->netns, .port = q->addr.port};
    memcpy(a.ip, q->addr.ip, sizeof(a.ip));
    return a;
}

enum mesh_err
mesh_snap_try_find(const struct mesh_snap_view *v, void *arg)
{
    static const uint8_t any[16];
    struct mesh_snap_query *q = arg;
    q->score = 0;
    q->hit->registry_only = v->f.settings.egress != 0;
    q->hit->live = v->f.settings.live;
    q->key = v->key;
    q->plan.is_known = 0;
    const struct mesh_snap_asked a = asked_by(q);
    q->is_kept = !q->endpoints_only && mesh_snap_cache_find(v->cache, &q->key, &a, q->hit, &q->plan);
    if (q->is_kept) {
        q->score = SERVICE_SCORE;
        return MESH_OK;
    }
    enum mesh_err e = walk(v, mesh_snap_bucket(q->addr.ip, q->addr.port), q);
    if (e == MESH_OK && q->score == 0) {
        e = walk(v, mesh_snap_bucket(any, q->addr.port), q);
    }
    if (e == MESH_OK && q->score) {
        e = mesh_snap_get_service(v, q->hit->endpoint.service, &q->hit->service);
    }
    if (e == MESH_OK && v->cache && q->score >= SERVICE_SCORE) {
        mesh_snap_plan(v, q->hit, q->addr.port, &q->plan);
    }
    return e;
}

/* Addresses of services alone: they are few, and go before all others. */
void
mesh_snap_keep(const struct mesh_snap *s, const struct mesh_snap_query *q)
{
    if (s->cache && !q->is_kept && q->score >= SERVICE_SCORE) {
        const struct mesh_snap_asked a = asked_by(q);
        mesh_snap_cache_keep(s->cache, &q->key, &a, q->hit, &q->plan);
    }
}

static enum mesh_err
find(const struct mesh_snap *s, struct mesh_snap_query *q, struct mesh_snap_hit *hit, bool *found)
{
    struct mesh_snap_hit now;
    q->hit = &now;
    enum mesh_err e = mesh_snap_attempt(s, mesh_snap_try_find, q);
    if (e != MESH_OK) {
        return e;
    }
    *found = q->score > 0;
    mesh_snap_keep(s, q);
    if (*found) {
        *hit = now;
        hit->needs_local =
            (hit->endpoint.flags & MESH_EP_ANY) && !mesh_addr_is_loopback(&q->addr);
    }
    hit->registry_only = now.registry_only;
    return MESH_OK;
}

enum mesh_err
mesh_snap_find(const struct mesh_snap *s, uint64_t netns, const struct mesh_addr *a,
               struct mesh_snap_hit *hit, bool *found)
{
    struct mesh_snap_query q = {.netns = netns, .addr = *a};
    return find(s, &q, hit, found);
}

enum mesh_err
mesh_snap_find_endpoint(const struct mesh_snap *s, uint64_t netns, const struct mesh_addr *a,
                        struct mesh_snap_hit *hit, bool *found)
{
    struct mesh_snap_query q = {.netns = netns, .addr = *a, .endpoints_only = true};
    return find(s, &q, hit, found);
}

static enum mesh_err
try_listener(const struct mesh_snap_view *v, void *arg)
{
    struct mesh_snap_query *q = arg;
    struct mesh_snap_bucket b;
    enum mesh_err e = get_bucket(v, mesh_snap_cookie_bucket(q->cookie), &b);
    uint32_t i = b.cookie;
    q->score = 0;
    for (uint32_t steps = 0; e == MESH_OK && i != MESH_SNAP_NONE; steps++) {
        struct mesh_snap_endpoint *ep = &q->hit->endpoint;
        if (steps > v->f.table[MESH_SNAP_ENDPOINTS].count) {
            return MESH_E_SNAPSHOT;
        }
        e = mesh_snap_get_endpoint(v, i, ep);
        if (e == MESH_OK && ep->cookie == q->cookie && ep->netns == q->netns &&
            ep->port == q->addr.port) {
            q->score = 1;
            return mesh_snap_get_service(v, ep->service, &q->hit->service);
        }
        i = ep->next_cookie;
    }
    return e;
}

bool
mesh_snap_listener(const struct mesh_snap *s, uint64_t netns, uint64_t cookie, uint16_t port,
                   struct mesh_snap_hit *hit)
{
    struct mesh_snap_hit now = {.live = 0};
    struct mesh_snap_query q = {.netns = netns, .cookie = cookie, .addr = {.port = port}, .hit = &now};
    if (cookie == 0 || mesh_snap_attempt(s, try_listener, &q) != MESH_OK || !q.score) {
        return false;
    }
    *hit = now;
    return true;
}

struct limits_of {
    uint64_t service;
    uint32_t index;
    struct mesh_snap_limits found;
};

static enum mesh_err
get_limits(const struct mesh_snap_view *v, uint32_t i, struct mesh_snap_limits *out)
{
    enum mesh_err e = mesh_snap_get(v, MESH_SNAP_LIMITS, i, out);
    return e == MESH_OK && out->faults > MESH_FAULTS ? MESH_E_SNAPSHOT : e;
}

/* Where it was, else wherever it is now. */
static enum mesh_err
try_limits(const struct mesh_snap_view *v, void *arg)
{
    struct limits_of *q = arg;
    enum mesh_err e = get_limits(v, q->index, &q->found);
    for (uint32_t i = 0; (e != MESH_OK || q->found.service != q->service) && i < v->f.table[MESH_SNAP_LIMITS].count; i++) {
        e = get_limits(v, i, &q->found);
    }
    return e == MESH_OK && q->found.service != q->service ? MESH_E_SNAPSHOT : e;
}

bool
mesh_snap_limits(const struct mesh_snap *s, const struct mesh_snap_service *service,
                 struct mesh_snap_limits *out)
{
    struct limits_of q = {.service = mesh_limit_hash(service->name), .index = service->limits - 1};
    if (service->limits == 0 || mesh_snap_attempt(s, try_limits, &q) != MESH_OK) {
        return false;
    }
    *out = q.found;
    return true;
}

/* The limits of the configuration [meshd.conf(5)]. */
static bool
is_sane(const struct mesh_snap_settings *set)
{
    return set->mode <= MESH_MODE_STRICT && set->egress <= 1 &&
           set->kernel_tls <= MESH_KTLS_ALWAYS && set->accept_grace_ms <= 60000 &&
           set->handshake_timeout_ms >= 100 && set->handshake_timeout_ms <= 600000 &&
           set->detect_timeout_ms <= 60000 && set->linger_ms <= 600000;
}

static enum mesh_err
try_settings(const struct mesh_snap_view *v, void *arg)
{
    memcpy(arg, &v->f.settings, sizeof(v->f.settings));
    return MESH_OK;
}

void
mesh_snap_settings(const struct mesh_snap *s, struct mesh_snap_settings *out)
{
    struct mesh_snap_settings set = {0};
    if (mesh_snap_attempt(s, try_settings, &set) != MESH_OK || !is_sane(&set)) {
        mesh_snap_settings_default(out);
        return;
    }
    *out = set;
}

static enum mesh_err
try_verify(const struct mesh_snap_view *v, void *arg)
{
    enum mesh_err e = is_sane(&v->f.settings) ? MESH_OK : MESH_E_SNAPSHOT;
    union {
        struct mesh_snap_service service;
        struct mesh_snap_endpoint endpoint;
        struct mesh_snap_route route;
        struct mesh_snap_limits limits;
    } any;
    (void)arg;
    for (uint32_t i = 0; e == MESH_OK && i < MESH_SNAP_BUCKETS; i++) {
        struct mesh_snap_bucket b;
        e = get_bucket(v, i, &b);
    }
    for (unsigned t = 0; t < MESH_SNAP_TABLES; t++) {
        for (uint32_t i = 0; e == MESH_OK && i < v->f.table[t].count; i++) {
            e = t == MESH_SNAP_SERVICES ? mesh_snap_get_service(v, i, &any.service)
                                        : mesh_snap_get(v, t, i, &any);
        }
    }
    return e;
}

enum mesh_err
mesh_snap_verify(const struct mesh_snap *s)
{
    return mesh_snap_attempt(s, try_verify, NULL);
}

void
mesh_snap_settings_default(struct mesh_snap_settings *out)
{
    *out = (struct mesh_snap_settings){
        .accept_grace_ms = 50,
        .handshake_timeout_ms = 5000,
        .detect_timeout_ms = 200,
        .linger_ms = 1000,
        .mode = MESH_MODE_PERMISSIVE,
    };
}
