/* SPDX-License-Identifier: Apache-2.0
 *
 * least_request: the power of two choices. Two endpoints are drawn by weight, and the one with fewer
 * open connections for its weight gets the connection; the first, when they are equal. So idle
 * endpoints share by weight, and loaded ones fill up in proportion to it. (Envoy draws evenly and
 * weighs weight / (active + 1): then the heaviest idle endpoint gets everything.)
 */
#include "shim/core/live.h"
#include "shim/route/pick.h"

#define DRAWS 3 /* until the second differs */

enum mesh_err
shim_lb_least_request(const struct shim_lb *lb, struct shim_candidate *out)
{
    struct shim_candidate other;
    enum mesh_err e = shim_lb_draw(lb, out);
    if (e != MESH_OK) {
        return e;
    }
    for (unsigned k = 0; k < DRAWS; k++) {
        e = shim_lb_draw(lb, &other);
        if (e != MESH_OK) {
            return e;
        }
        if (other.endpoint.id != out->endpoint.id) {
            break;
        }
    }
    uint64_t mine = shim_live_active(out->endpoint.id), its = shim_live_active(other.endpoint.id);
    if (its * out->weight < mine * other.weight) {
        shim_candidate_take(out, &other);
    }
    return MESH_OK;
}
