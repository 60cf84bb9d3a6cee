/* SPDX-License-Identifier: Apache-2.0
 *
 * ring_hash: each endpoint has points on a ring, as many as its weight says; a connection goes to the first one at or
 * behind its key. Who is not usable is passed over, so that his connections alone move, each to the next on the ring.
 */
#include "shim/route/hash.h"

enum mesh_err
shim_lb_ring_hash(const struct shim_lb *lb, struct shim_candidate *out)
{
    return lb->table->count ? shim_hash_walk(lb, mesh_snap_hash_start(lb->table, lb->hash), out)
                            : shim_lb_at(lb, (uint32_t)(lb->hash >> 32), out);
}
