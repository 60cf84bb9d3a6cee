/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap_read: see snap.h.
 *
 * The area of generation g carries g in its own first word while it is whole; the writer clears
 * that word before it touches anything else in the area. So a reader that finds g there before and
 * after its copies has copied one state, even if newer generations appeared meanwhile.
 *
 * Every value that decides about an address is copied to a local first, checked, and then used:
 * the compiler barrier in grab() keeps it from being read a second time.
 */
#include "common/snap.h"

#include <string.h>

#define TRIES 64 /* each lost one means two publications during one look-up */

/* One attempt's view of the current area: everything in it is checked. */
struct view {
    const uint8_t *area;
    const uint64_t *stamp;
    uint64_t generation;
    uint32_t services_off, services;
    uint32_t endpoints_off, endpoints;
};

typedef enum mesh_err attempt_fn(const struct view *v, void *arg);

static void
grab(void *to, const void *from, size_t n)
{
    memcpy(to, from, n);
    atomic_signal_fence(memory_order_seq_cst);
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
    grab(&magic, &h->magic, sizeof(magic));
    grab(&version, &h->version, sizeof(version));
    grab(&size, &h->area_size, sizeof(size));
    if (magic != MESH_SNAP_MAGIC) {
        return MESH_E_SNAPSHOT;
    }
    if (version != MESH_SNAP_VERSION) {
        return MESH_E_VERSION;
    }
    if (size < sizeof(struct mesh_snap_area) || size % 64 != 0 ||
        (uint64_t)size * 2 + MESH_SNAP_HEAD > s->size) {
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
is_inside(uint32_t off, uint32_t count, size_t each, uint32_t area_size)
{
    return off % 8 == 0 && off >= sizeof(struct mesh_snap_area) && off <= area_size &&
           (uint64_t)count * each <= area_size - off;
}

/* Acquire: what is read afterwards is at least as new as the stamp. */
static bool
is_whole(const struct view *v)
{
    return __atomic_load_n(v->stamp, __ATOMIC_ACQUIRE) == v->generation;
}

static enum mesh_err
open_view(const struct mesh_snap *s, uint32_t area_size, struct view *v)
{
    const struct mesh_snap_head *h = s->map;
    v->generation = atomic_load_explicit(&h->generation, memory_order_acquire);
    v->area = (const uint8_t *)s->map + MESH_SNAP_HEAD + (v->generation & 1) * (size_t)area_size;
    const struct mesh_snap_area *a = (const void *)v->area;
    v->stamp = &a->generation;
    if (!is_whole(v)) {
        return MESH_E_SNAPSHOT;
    }
    grab(&v->services_off, &a->services_off, 4);
    grab(&v->services, &a->services, 4);
    grab(&v->endpoints_off, &a->endpoints_off, 4);
    grab(&v->endpoints, &a->endpoints, 4);
    if (!is_inside(v->services_off, v->services, sizeof(struct mesh_snap_service), area_size) ||
        !is_inside(v->endpoints_off, v->endpoints, sizeof(struct mesh_snap_endpoint), area_size)) {
        return MESH_E_SNAPSHOT;
    }
    return MESH_OK;
}

/* Runs fn on a view until it was whole from beginning to end. */
static enum mesh_err
attempt(const struct mesh_snap *s, attempt_fn *fn, void *arg)
{
    uint32_t area_size = 0;
    enum mesh_err e = check_head(s, &area_size);
    if (e != MESH_OK) {
        return e;
    }
    for (int i = 0; i < TRIES; i++) {
        struct view v = {0};
        e = open_view(s, area_size, &v);
        if (e == MESH_OK) {
            e = fn(&v, arg);
        }
        /* Keeps the copies above from sinking below the second look at the stamp. */
        atomic_thread_fence(memory_order_acquire);
        if (v.area && is_whole(&v)) {
            return e;
        }
    }
    return MESH_E_SNAPSHOT;
}

static enum mesh_err
get_endpoint(const struct view *v, uint32_t i, struct mesh_snap_endpoint *out)
{
    if (i >= v->endpoints) {
        return MESH_E_SNAPSHOT;
    }
    grab(out, v->area + v->endpoints_off + (size_t)i * sizeof(*out), sizeof(*out));
    if (out->mode > MESH_MODE_STRICT) {
        out->mode = MESH_MODE_STRICT;
    }
    return MESH_OK;
}

static enum mesh_err
get_service(const struct view *v, uint32_t i, struct mesh_snap_service *out)
{
    if (i >= v->services) {
        return MESH_E_SNAPSHOT;
    }
    grab(out, v->area + v->services_off + (size_t)i * sizeof(*out), sizeof(*out));
    out->name[sizeof(out->name) - 1] = '\0';
    out->id[sizeof(out->id) - 1] = '\0';
    return MESH_OK;
}

static enum mesh_err
first_of(const struct view *v, uint16_t port, uint32_t *index)
{
    const struct mesh_snap_area *a = (const void *)v->area;
    grab(index, &a->bucket[port % MESH_SNAP_BUCKETS], sizeof(*index));
    return MESH_OK;
}

struct query {
    uint64_t netns, cookie;
    struct mesh_addr addr;
    struct mesh_snap_hit hit;
    int score; /* of hit, 0: nothing found */
};

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

/* How well an endpoint fits, 0 not at all: exact beats wildcard; the own namespace beats others;
 * a wildcard of the destination's family beats a dual one, as in the kernel's own look-up. */
static int
score(const struct mesh_snap_endpoint *e, const struct query *q)
{
    bool home = e->netns == q->netns;
    if (e->port != q->addr.port || ((e->flags & MESH_EP_NETNS) && !home)) {
        return 0;
    }
    if (!(e->flags & MESH_EP_ANY)) {
        return memcmp(e->addr, q->addr.ip, 16) == 0 ? 5 + home : 0;
    }
    if (!home || !wildcard_takes(e, &q->addr)) {
        return 0;
    }
    struct mesh_addr own = {.port = e->port};
    memcpy(own.ip, e->addr, 16);
    return 1 + (mesh_addr_is_v4(&own) == mesh_addr_is_v4(&q->addr));
}

static enum mesh_err
try_find(const struct view *v, void *arg)
{
    struct query *q = arg;
    uint32_t i = MESH_SNAP_NONE;
    enum mesh_err e = first_of(v, q->addr.port, &i);
    q->score = 0;
    for (uint32_t steps = 0; e == MESH_OK && i != MESH_SNAP_NONE; steps++) {
        struct mesh_snap_endpoint ep = {0};
        if (steps > v->endpoints) {
            return MESH_E_SNAPSHOT; /* a ring */
        }
        e = get_endpoint(v, i, &ep);
        int s = e == MESH_OK ? score(&ep, q) : 0;
        if (s > q->score) {
            q->score = s;
            q->hit.endpoint = ep;
        }
        i = ep.next;
    }
    if (e == MESH_OK && q->score) {
        e = get_service(v, q->hit.endpoint.service, &q->hit.service);
    }
    return e;
}

enum mesh_err
mesh_snap_find(const struct mesh_snap *s, uint64_t netns, const struct mesh_addr *a,
               struct mesh_snap_hit *hit, bool *found)
{
    struct query q = {.netns = netns, .addr = *a};
    enum mesh_err e = attempt(s, try_find, &q);
    if (e != MESH_OK) {
        return e;
    }
    *found = q.score > 0;
    if (*found) {
        *hit = q.hit;
        hit->needs_local = (hit->endpoint.flags & MESH_EP_ANY) && !mesh_addr_is_loopback(a);
    }
    return MESH_OK;
}

static enum mesh_err
try_listener(const struct view *v, void *arg)
{
    struct query *q = arg;
    uint32_t i = MESH_SNAP_NONE;
    enum mesh_err e = first_of(v, q->addr.port, &i);
    q->score = 0;
    for (uint32_t steps = 0; e == MESH_OK && i != MESH_SNAP_NONE; steps++) {
        struct mesh_snap_endpoint *ep = &q->hit.endpoint;
        if (steps > v->endpoints) {
            return MESH_E_SNAPSHOT;
        }
        e = get_endpoint(v, i, ep);
        if (e == MESH_OK && ep->cookie == q->cookie && ep->netns == q->netns &&
            ep->port == q->addr.port) {
            q->score = 1;
            return get_service(v, ep->service, &q->hit.service);
        }
        i = ep->next;
    }
    return e;
}

bool
mesh_snap_listener(const struct mesh_snap *s, uint64_t netns, uint64_t cookie, uint16_t port,
                   struct mesh_snap_hit *hit)
{
    struct query q = {.netns = netns, .cookie = cookie, .addr = {.port = port}};
    if (cookie == 0 || attempt(s, try_listener, &q) != MESH_OK || !q.score) {
        return false;
    }
    *hit = q.hit;
    hit->needs_local = false;
    return true;
}

static enum mesh_err
try_settings(const struct view *v, void *arg)
{
    const struct mesh_snap_area *a = (const void *)v->area;
    grab(arg, &a->settings, sizeof(a->settings));
    return MESH_OK;
}

void
mesh_snap_settings(const struct mesh_snap *s, struct mesh_snap_settings *out)
{
    struct mesh_snap_settings set = {0};
    if (attempt(s, try_settings, &set) != MESH_OK || set.mode > MESH_MODE_STRICT ||
        set.egress > 1) {
        mesh_snap_settings_default(out);
        return;
    }
    *out = set;
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
