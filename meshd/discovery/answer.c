/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_answer: see answer.h.
 */
#include "meshd/discovery/answer.h"

#include <stdlib.h>
#include <string.h>

/* Into how many parts a weight of 1 is divided where it must be: a target's weight is shared by its
 * addresses, and beside others weight 0 is one part. */
#define PARTS      60u
#define WEIGHT_MAX 65535u
#define PRIORITY_MAX 127u

struct draft {
    struct meshd_found *at;
    size_t count;
    bool partly, learnt; /* some questions failed; some did not */
};

/* Nobody can connect there, or not everybody means the same by it. */
static bool
is_useless(const struct mesh_addr *a)
{
    if (mesh_addr_is_v4(a)) {
        return a->ip[12] == 0 || a->ip[12] >= 224;
    }
    bool link_local = a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
    return mesh_addr_is_any(a) || a->ip[0] == 0xff || link_local;
}

static void
add(struct draft *d, const struct meshd_target *t, const uint8_t *ip)
{
    struct meshd_found f = {.addr = {.port = t->port}};
    memcpy(f.addr.ip, ip, 16);
    if (d->count < MESHD_ANSWER_ENDPOINTS && !is_useless(&f.addr)) {
        memcpy(f.host, t->host, sizeof(f.host));
        d->at[d->count++] = f;
    }
}

/* Was f an address of t? Of what a former meshd was told only the port is known. */
static bool
was_of(const struct meshd_found *f, const struct meshd_target *t)
{
    return f->host[0] ? strcmp(f->host, t->host) == 0 : f->addr.port == t->port;
}

/* One family of one target; what cannot be had is as it was. */
static void
gather(struct draft *d, const struct meshd_answer *was, const struct meshd_target *t, bool v4)
{
    const struct meshd_addresses *a = v4 ? &t->v4 : &t->v6;
    for (uint32_t i = 0; a->heard == MESHD_HEARD_SOME && i < a->count; i++) {
        add(d, t, a->ip[i]);
    }
    d->partly |= a->heard == MESHD_HEARD_FAILED;
    d->learnt |= a->heard != MESHD_HEARD_FAILED;
    const struct meshd_found *last = NULL;
    for (size_t i = 0; a->heard == MESHD_HEARD_FAILED && i < was->count; i++) {
        const struct meshd_found *f = &was->at[i];
        bool again = last && memcmp(last->addr.ip, f->addr.ip, 16) == 0;
        if (!again && mesh_addr_is_v4(&f->addr) == v4 && was_of(f, t)) {
            add(d, t, f->addr.ip);
            last = f;
        }
    }
}

/* ---- weights and priorities [RFC2782] ---- */

/* How many different priorities are before this one. */
static uint8_t
rank_of(const struct meshd_reply *r, uint16_t priority)
{
    uint32_t rank = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        bool first = r->targets[i].priority < priority;
        for (uint32_t k = 0; first && k < i; k++) {
            first = r->targets[k].priority != r->targets[i].priority;
        }
        rank += first;
    }
    return rank > PRIORITY_MAX ? PRIORITY_MAX : (uint8_t)rank;
}

static bool
all_zero(const struct meshd_reply *r, uint16_t priority)
{
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->targets[i].priority == priority && r->targets[i].weight > 0) {
            return false;
        }
    }
    return true;
}

/* How a target's weight becomes that of its addresses. */
struct scale {
    bool share;     /* targets have different numbers of addresses: each has its part */
    uint32_t parts; /* of a weight of 1 */
};

/* "In the presence of records containing weights greater than 0, records with weight 0 should have a
 * very small chance" [RFC2782]; where all are 0, all have the same. */
static struct scale
scale_of(const struct meshd_reply *r, const size_t *addresses)
{
    struct scale s = {0};
    uint32_t most = 1;
    size_t usual = 0;
    bool zero = false;
    for (uint32_t i = 0; i < r->count; i++) {
        const struct meshd_target *t = &r->targets[i];
        most = t->weight > most ? t->weight : most;
        zero |= t->weight == 0 && !all_zero(r, t->priority);
        s.share |= usual && addresses[i] && addresses[i] != usual;
        usual = addresses[i] ? addresses[i] : usual;
    }
    s.parts = s.share || zero ? WEIGHT_MAX / most : 1;
    s.parts = s.parts > PARTS ? PARTS : s.parts;
    return s;
}

static void
weigh(struct meshd_found *f, uint32_t n, const struct meshd_reply *r, const struct meshd_target *t,
      struct scale s)
{
    uint32_t weight = (all_zero(r, t->priority) ? 1u : t->weight) * s.parts / (s.share && n ? n : 1u);
    uint8_t rank = rank_of(r, t->priority);
    for (uint32_t k = 0; k < n; k++) {
        f[k].weight = weight ? weight : 1;
        f[k].priority = rank;
    }
}

/* ---- the whole ---- */

/* By address; of the same one the first priority's, and there the heaviest. */
static int
by_address(const void *a, const void *b)
{
    const struct meshd_found *x = a, *y = b;
    int c = memcmp(x->addr.ip, y->addr.ip, sizeof(x->addr.ip));
    c = c ? c : (x->addr.port > y->addr.port) - (x->addr.port < y->addr.port);
    c = c ? c : (x->priority > y->priority) - (x->priority < y->priority);
    c = c ? c : (x->weight < y->weight) - (x->weight > y->weight);
    return c ? c : strcmp(x->host, y->host);
}

static void
thin_out(struct draft *d)
{
    size_t n = 0;
    if (d->count) {
        qsort(d->at, d->count, sizeof(*d->at), by_address);
    }
    for (size_t i = 0; i < d->count; i++) {
        if (n == 0 || !mesh_addr_eq(&d->at[n - 1].addr, &d->at[i].addr)) {
            d->at[n++] = d->at[i];
        }
    }
    d->count = n;
}

static void
compose(struct draft *d, const struct meshd_answer *was, const struct meshd_reply *r, size_t *addresses)
{
    for (uint32_t i = 0; i < r->count; i++) {
        size_t before = d->count;
        gather(d, was, &r->targets[i], true);
        gather(d, was, &r->targets[i], false);
        addresses[i] = d->count - before;
    }
    struct scale scale = scale_of(r, addresses);
    struct meshd_found *f = d->at;
    for (uint32_t i = 0; i < r->count; f += addresses[i++]) {
        weigh(f, (uint32_t)addresses[i], r, &r->targets[i], scale);
    }
    thin_out(d);
}

enum meshd_verdict
meshd_answer_take(struct meshd_answer *a, const struct meshd_reply *r)
{
    struct draft d = {0};
    size_t addresses[MESHD_ANSWER_TARGETS] = {0};
    if (r->heard == MESHD_HEARD_FAILED || r->count > MESHD_ANSWER_TARGETS) {
        return MESHD_VERDICT_FAILED;
    }
    d.at = calloc(MESHD_ANSWER_ENDPOINTS, sizeof(*d.at));
    if (!d.at) {
        return MESHD_VERDICT_FAILED;
    }
    if (r->heard == MESHD_HEARD_SOME) {
        compose(&d, a, r, addresses);
    }
    enum meshd_verdict v = d.partly ? MESHD_VERDICT_PARTLY : MESHD_VERDICT_TAKEN;
    if (d.partly && (d.count == 0 || !d.learnt)) {
        v = MESHD_VERDICT_FAILED;
    } else if (d.count == 0 && ++a->negatives < MESHD_ANSWER_NEGATIVES && a->count > 0) {
        v = MESHD_VERDICT_DOUBTED;
    }
    if (v == MESHD_VERDICT_FAILED || v == MESHD_VERDICT_DOUBTED) {
        free(d.at);
        return v;
    }
    a->negatives = d.count ? 0 : a->negatives;
    free(a->at);
    struct meshd_found *fit = realloc(d.at, (d.count + 1) * sizeof(*d.at));
    a->at = fit ? fit : d.at;
    a->count = d.count;
    return v;
}

void
meshd_answer_fini(struct meshd_answer *a)
{
    free(a->at);
    *a = (struct meshd_answer){0};
}

uint32_t
meshd_answer_wait_ms(enum meshd_verdict v, const struct meshd_reply *r, uint32_t refresh_ms)
{
    if (v != MESHD_VERDICT_TAKEN || !r->seen_ttl) {
        return refresh_ms;
    }
    uint32_t most = MESHD_ANSWER_TTL_MS;
    uint32_t ms = r->ttl_s > most / 1000 ? most : r->ttl_s * 1000;
    return ms < refresh_ms ? refresh_ms : ms;
}
