/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_pick: which endpoint of a service a connect() goes to. The snapshot's members with their weights
 * are the candidates; the service's algorithm (lb_*.c) draws; an endpoint that this socket cannot reach,
 * or that this connect() has tried, is passed over. Allocates nothing; any thread, signal-safe.
 *
 *   address ── router ── split ──> service, subset ── tiers by health ── algorithm ──> endpoint
 *                                      └── none left: failover, one target after the other
 */
#ifndef SHIM_ROUTE_PICK_H
#define SHIM_ROUTE_PICK_H

#include "common/snap.h"
#include "common/snap_hash.h"
#include "shim/route/outlier.h"

#define SHIM_PICK_MAX 16u /* attempts of one connect(), at most */

/* Who asks: a socket, and the endpoints that it has been to. */
struct shim_pick {
    uint64_t netns;
    int family;  /* AF_INET or AF_INET6 */
    bool v6only; /* IPV6_V6ONLY */
    bool has_turn;
    bool has_draw;
    uint32_t draw; /* one for all attempts, too: the split and the tier stay the same */
    struct mesh_snap_client client; /* .service NULL: nobody has asked yet */
    int fd;        /* its source address may be part of the hash key */
    bool has_hash;
    struct mesh_snap_hash hashed_by; /* the policy that `hash` is of */
    uint64_t hash;
    uint64_t turn; /* round_robin: one for all attempts, or the next connect() would begin where this did */
    uint32_t tried_count;
    uint32_t tried[SHIM_PICK_MAX]; /* endpoint ids */
};

void shim_pick_init(struct shim_pick *p, int fd);

struct shim_candidate {
    uint32_t weight;
    struct mesh_snap_endpoint endpoint;
    struct mesh_addr to; /* where it is reached: for a wildcard listener the loopback address */
    uint64_t probe;      /* shim_outlier_again */
    uint64_t route;      /* mesh_snap_route_name of the rule that decided, 0: none did */
    const struct mesh_snap_service *service; /* whose it is: the one that was asked for, in the hit, or `other` */
    struct mesh_snap_service other;
};

/* What an algorithm has found out of `from`, and no more. */
static inline void
shim_candidate_take(struct shim_candidate *c, const struct shim_candidate *from)
{
    c->weight = from->weight;
    c->endpoint = from->endpoint;
    c->to = from->to;
}

/* What an algorithm sees. */
struct shim_lb {
    const struct mesh_snap_list *list;
    const struct shim_pick *who;
    struct shim_outlier *state; /* of this choice */
    uint64_t *random;           /* shim_rand_next_below */
    const struct mesh_snap_hashes *table; /* ring_hash and maglev, as what follows; the list has all members then */
    uint64_t hash;
    uint32_t among;    /* so many of the members are healthy, or taken for it */
    bool healthy_only;
};

/* Member i, if this connect() can go there. */
enum mesh_err shim_lb_look(const struct shim_lb *lb, uint32_t i, struct shim_candidate *out,
                           bool *usable) MESH_MUST_CHECK;

/* The member that has unit n of the weights, or the next usable one after it.
 * MESH_E_NO_ENDPOINT: there is none. */
enum mesh_err shim_lb_at(const struct shim_lb *lb, uint32_t n, struct shim_candidate *out) MESH_MUST_CHECK;
/* Drawn by weight: usable ones among a few draws first, so that the successor of one that is not does not
 * get all its share. */
enum mesh_err shim_lb_draw(const struct shim_lb *lb, struct shim_candidate *out) MESH_MUST_CHECK;

enum mesh_err shim_lb_least_request(const struct shim_lb *lb, struct shim_candidate *out) MESH_MUST_CHECK;
enum mesh_err shim_lb_round_robin(const struct shim_lb *lb, struct shim_candidate *out) MESH_MUST_CHECK;
enum mesh_err shim_lb_random(const struct shim_lb *lb, struct shim_candidate *out) MESH_MUST_CHECK;
enum mesh_err shim_lb_peak_ewma(const struct shim_lb *lb, struct shim_candidate *out) MESH_MUST_CHECK;
enum mesh_err shim_lb_ring_hash(const struct shim_lb *lb, struct shim_candidate *out) MESH_MUST_CHECK;
enum mesh_err shim_lb_maglev(const struct shim_lb *lb, struct shim_candidate *out) MESH_MUST_CHECK;

/* Chooses for a connect() to `asked`, an address of a service; hit as mesh_snap_find, its service the one that
 * was asked for. What is chosen counts as tried; out->service points into *hit or *out, so neither may be copied
 * alone. MESH_E_NO_ENDPOINT: none is left; MESH_E_OVERFLOW: none that has room; MESH_E_SNAPSHOT. */
enum mesh_err shim_pick(struct shim_pick *p, const struct mesh_snap *snap, const struct mesh_addr *asked,
                        struct mesh_snap_hit *hit, struct shim_candidate *out) MESH_MUST_CHECK;

#endif
