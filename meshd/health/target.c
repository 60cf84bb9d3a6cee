/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_target: see target.h.
 */
#include "meshd/health/target.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/snapshot.h"
#include "meshd/base/loop.h"
#include "meshd/registry/registry.h"

static struct meshd_target *all;

struct mesh_addr
meshd_target_reach(const struct meshd_endpoint *e)
{
    static const uint8_t v4[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}, v6[16] = {[15] = 1};
    struct mesh_addr to = e->addr;
    if (e->flags & MESH_EP_ANY) {
        bool dual = mesh_addr_is_v4(&to) || !(e->flags & MESH_EP_V6ONLY);
        memcpy(to.ip, dual ? v4 : v6, 16);
    }
    return to;
}

static void
make_key(const struct meshd_endpoint *e, struct meshd_target_key *k)
{
    const struct mesh_addr to = meshd_target_reach(e);
    memset(k, 0, sizeof(*k));
    k->netns = e->flags & MESH_EP_NETNS ? e->netns : 0;
    k->port = to.port;
    memcpy(k->ip, to.ip, sizeof(k->ip));
    snprintf(k->service, sizeof(k->service), "%s", e->service);
}

struct meshd_target *
meshd_target_find(const struct meshd_endpoint *e)
{
    struct meshd_target_key k;
    struct meshd_target *t = NULL;
    if (all) {
        make_key(e, &k);
        HASH_FIND(hh, all, &k, sizeof(k), t);
    }
    return t;
}

struct meshd_target *
meshd_target_new(const struct meshd_endpoint *e, struct meshd_watch *w, meshd_target_due *due)
{
    struct meshd_target *t = calloc(1, sizeof(*t));
    struct event *timer = t ? evtimer_new(meshd_loop(), due, t) : NULL;
    if (!timer) {
        free(t);
        return NULL;
    }
    make_key(e, &t->key);
    t->watch = w;
    t->timer = timer;
    t->version = w->version;
    t->fresh = true;
    meshd_health_state_init(&t->state, "", meshd_real_ns());
    HASH_ADD(hh, all, key, sizeof(t->key), t);
    w->targets++;
    return t;
}

void
meshd_target_free(struct meshd_target *t)
{
    t->watch->targets--;
    HASH_DEL(all, t);
    event_free(t->timer);
    free(t);
}

struct meshd_target *
meshd_target_first(void)
{
    return all;
}

struct meshd_target *
meshd_target_next(const struct meshd_target *t)
{
    return t->hh.next;
}

bool
meshd_target_is_unhealthy(const struct meshd_target *t)
{
    return t->state.info.is == MESHD_HEALTH_UNHEALTHY;
}
