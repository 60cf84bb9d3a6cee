/* SPDX-License-Identifier: Apache-2.0
 *
 * random: each endpoint with a probability in proportion to its weight.
 */
#include "shim/route/pick.h"

enum mesh_err
shim_lb_random(const struct shim_lb *lb, struct shim_candidate *out)
{
    return shim_lb_draw(lb, out);
}
