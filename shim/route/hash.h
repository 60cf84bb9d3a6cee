/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_hash: what ring_hash and maglev have in common: a connection's key, and the way from the entry of a table
 * that it leads to. Allocates nothing; any thread, signal-safe.
 */
#ifndef SHIM_ROUTE_HASH_H
#define SHIM_ROUTE_HASH_H

#include "shim/route/pick.h"

/* By the service's hash_policy: the same for all attempts of one connect(). Where nothing is known that the policy
 * asks for, by chance. */
uint64_t shim_hash_of(struct shim_pick *p, const struct mesh_snap_service *s, const struct mesh_addr *asked);

/* From place `at` of the table on the first member that is usable and, with hash_balance_factor, has room; if none
 * has room, the first one that is usable. */
enum mesh_err shim_hash_walk(const struct shim_lb *lb, uint32_t at, struct shim_candidate *out) MESH_MUST_CHECK;

#endif
