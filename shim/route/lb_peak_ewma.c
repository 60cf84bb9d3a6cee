/* SPDX-License-Identifier: Apache-2.0
 *
 * peak_ewma: the power of two choices by expected latency. Two endpoints are drawn by weight; the one whose
 * connects take less time, for as many as it has open for its weight, gets the connection. So of equally fast
 * idle endpoints each gets its weight's share, loaded ones fill up in proportion to it, and a slow or failing one
 * gets what the others leave. An endpoint that fails fast is not fast: a failure counts as 5 s at least.
 */
#include "common/ewma.h"
#include "shim/core/live.h"
#include "shim/real.h"
#include "shim/route/pick.h"

#define DRAWS       3 /* until the second differs */
#define US_MAX      (1u << 28)
#define ACTIVE_MAX  (1u << 20)
#define WEIGHT_MAX  (1u << 14)

/* Times the weight; of what anybody may have written, as much as cannot overflow. */
static uint64_t
cost(const struct shim_candidate *c, uint32_t weight, uint64_t now_ms)
{
    uint64_t word = atomic_load_explicit(&shim_live_endpoint(c->endpoint.id)->latency, memory_order_relaxed);
    uint64_t us = mesh_ewma_read(word, now_ms);
    uint32_t active = shim_live_active(c->endpoint.id);
    return (us < US_MAX ? us : US_MAX) * ((active < ACTIVE_MAX ? active : ACTIVE_MAX) + (uint64_t)weight);
}

static uint32_t
weight_of(const struct shim_candidate *c)
{
    return c->weight < WEIGHT_MAX ? c->weight : WEIGHT_MAX;
}

enum mesh_err
shim_lb_peak_ewma(const struct shim_lb *lb, struct shim_candidate *out)
{
    struct shim_candidate other;
    enum mesh_err e = shim_lb_draw(lb, out);
    for (unsigned k = 0; e == MESH_OK && k < DRAWS; k++) {
        e = shim_lb_draw(lb, &other);
        if (e == MESH_OK && other.endpoint.id != out->endpoint.id) {
            break;
        }
    }
    if (e != MESH_OK || other.endpoint.id == out->endpoint.id) {
        return e;
    }
    uint64_t now = shim_now() / 1000000;
    uint32_t mine = weight_of(out), its = weight_of(&other);
    if (cost(&other, its, now) * mine < cost(out, mine, now) * its) {
        shim_candidate_take(out, &other);
    }
    return MESH_OK;
}
