/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_hash: see hash.h.
 */
#include "shim/route/hash.h"

#include <string.h>

#include "common/hash.h"
#include "shim/core/live.h"
#include "shim/link/link.h"
#include "shim/real.h"
#include "shim/route/client.h"

#define STEPS 4096u /* along the table, before the members are looked through one after the other */
#define NOTED 4096u /* members, of which it is noted that they were looked at */

/* What the program has bound its socket to; the any address: nothing that would tell it apart. */
static struct mesh_addr
bound_to(int fd)
{
    struct sockaddr_storage sa = {0};
    struct mesh_addr a = {.port = 0};
    socklen_t len = sizeof(sa);
    bool known = sys_call(SYS_getsockname, fd, &sa, &len, 0) == 0 &&
                 mesh_addr_from(&a, (const struct sockaddr *)&sa, len);
    return known ? a : (struct mesh_addr){.port = 0};
}

static bool
asks_for(const struct mesh_snap_hash *policy, enum mesh_hash_field f)
{
    return memchr(policy->term, (int)f + 1, sizeof(policy->term)) != NULL;
}

uint64_t
shim_hash_of(struct shim_pick *p, const struct mesh_snap_service *s, const struct mesh_addr *asked)
{
    const struct mesh_snap_hash *policy = &s->hash;
    char unit[SHIM_CLIENT_TEXT], exe[SHIM_CLIENT_TEXT];
    if (p->has_hash && memcmp(&p->hashed_by, policy, sizeof(*policy)) == 0) {
        return p->hash;
    }
    if (!p->client.service && asks_for(policy, MESH_HASH_UID)) {
        shim_client_get(&p->client);
    }
    const struct mesh_hash_client who = {
        .identity = shim_link_id(),
        .unit = asks_for(policy, MESH_HASH_UNIT) ? shim_client_unit(unit) : "",
        .exe = asks_for(policy, MESH_HASH_EXE) ? shim_client_exe(exe) : "",
        .uid = p->client.service ? p->client.uid : MESH_SNAP_NONE,
        .from = asks_for(policy, MESH_HASH_SOURCE_IP) ? bound_to(p->fd) : (struct mesh_addr){.port = 0},
        .asked = *asked,
    };
    if (!mesh_hash_key(policy, &who, &p->hash)) {
        p->hash = mesh_hash_bytes(&p->draw, sizeof(p->draw), 0);
    }
    p->hashed_by = *policy;
    p->has_hash = true;
    return p->hash;
}

/* Consistent hashing with bounded loads: of the connections that there would be with this one, each member takes
 * its share, by weight, times the factor. Who is not healthy takes nothing, so the others' shares are larger. */
static bool
has_room(const struct shim_lb *lb, const struct shim_candidate *c)
{
    const struct mesh_snap_service *s = lb->list->service;
    uint64_t factor = s->hash.balance_factor;
    if (factor == 0) {
        return true;
    }
    struct mesh_live_service *live = shim_live_service(s->live.entry);
    uint64_t all = atomic_load_explicit(&live->active, memory_order_relaxed) + UINT64_C(1);
    uint64_t slots = (all * factor + 99) / 100, of = (uint64_t)lb->list->total * lb->among;
    uint64_t mine = of ? (slots * c->weight * lb->list->count + of - 1) / of : 1;
    return shim_live_active(c->endpoint.id) < (mine ? mine : 1);
}

/* Member i, if it is one to take. */
static enum mesh_err
consider(const struct shim_lb *lb, uint32_t i, bool bounded, struct shim_candidate *out, bool *take)
{
    enum mesh_err e = shim_lb_look(lb, i, out, take);
    *take = e == MESH_OK && *take && (!bounded || has_room(lb, out));
    return e;
}

static void
note(uint64_t noted[], uint32_t i)
{
    if (i < NOTED) {
        noted[i / 64] |= UINT64_C(1) << i % 64;
    }
}

/* On from `at`, whose member is `first`. Whoever is met again was refused before. */
static enum mesh_err
along_table(const struct shim_lb *lb, uint32_t at, uint32_t first, bool bounded, struct shim_candidate *out, bool *take)
{
    uint64_t noted[NOTED / 64] = {0};
    const struct mesh_snap_hashes *h = lb->table;
    uint32_t met = 1;
    note(noted, first);
    for (uint32_t k = 1; k < h->count && k < STEPS && met < lb->list->count && !*take; k++) {
        uint32_t i = 0;
        enum mesh_err e = mesh_snap_hash_member(h, (uint32_t)(((uint64_t)at + k) % h->count), &i);
        bool again = e == MESH_OK && i < NOTED && noted[i / 64] >> i % 64 & 1;
        if (e == MESH_OK && !again) {
            e = consider(lb, i, bounded, out, take);
            met++;
        }
        if (e != MESH_OK) {
            return e;
        }
        note(noted, i);
    }
    return MESH_OK;
}

static enum mesh_err
walk(const struct shim_lb *lb, uint32_t at, bool bounded, struct shim_candidate *out)
{
    uint32_t first = 0;
    bool take = false;
    enum mesh_err e = mesh_snap_hash_member(lb->table, at, &first);
    e = e == MESH_OK ? consider(lb, first, bounded, out, &take) : e;
    if (e == MESH_OK && !take) {
        e = along_table(lb, at, first, bounded, out, &take);
    }
    for (uint32_t k = 1; e == MESH_OK && !take && k < lb->list->count; k++) {
        e = consider(lb, (first + k) % lb->list->count, bounded, out, &take);
    }
    return e == MESH_OK && !take ? MESH_E_NO_ENDPOINT : e;
}

enum mesh_err
shim_hash_walk(const struct shim_lb *lb, uint32_t at, struct shim_candidate *out)
{
    bool bounded = lb->list->service->hash.balance_factor > 0;
    enum mesh_err e = walk(lb, at, bounded, out);
    return e == MESH_E_NO_ENDPOINT && bounded ? walk(lb, at, false, out) : e;
}
