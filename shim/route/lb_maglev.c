/* SPDX-License-Identifier: Apache-2.0
 *
 * maglev: a table that the endpoints share by weight, nearly exactly; a connection goes to the entry that its key
 * leads to, or, while that endpoint is not usable, to the next entry of another one.
 */
#include "shim/route/hash.h"

enum mesh_err
shim_lb_maglev(const struct shim_lb *lb, struct shim_candidate *out)
{
    return lb->table->count ? shim_hash_walk(lb, mesh_snap_hash_start(lb->table, lb->hash), out)
                            : shim_lb_at(lb, (uint32_t)(lb->hash >> 32), out);
}
