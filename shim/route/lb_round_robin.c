/* SPDX-License-Identifier: Apache-2.0
 *
 * round_robin: in as many turns as there are units of weight each endpoint has its weight's number of
 * them. Where all have 1 (meshd cancels common factors) they follow each other. Else units are visited in
 * steps of about the golden section of their number, which shares no divisor with it: so each is met
 * once, and those of one endpoint lie apart. Nothing needs to be kept but the number of the turn.
 */
#include "shim/route/pick.h"

static uint32_t
common_divisor(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

static uint32_t
step_of(uint32_t total)
{
    uint32_t golden = (uint32_t)((uint64_t)total * 618 / 1000);
    for (uint32_t k = 0; k < golden; k++) {
        if (common_divisor(total, golden + k) == 1) {
            return golden + k;
        }
        if (common_divisor(total, golden - k) == 1) {
            return golden - k;
        }
    }
    return 1;
}

enum mesh_err
shim_lb_round_robin(const struct shim_lb *lb, struct shim_candidate *out)
{
    uint32_t total = lb->list->total;
    if (total == 0) {
        return MESH_E_NO_ENDPOINT;
    }
    uint32_t step = total == lb->list->count ? 1 : step_of(total);
    return shim_lb_at(lb, (uint32_t)(lb->who->turn % total * step % total), out);
}
