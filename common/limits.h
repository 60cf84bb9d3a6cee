/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_limit: the arithmetic of mesh/limits.h, for those who spend and for meshd, which corrects. Lock-free
 * and bounded, allocates nothing; any thread, signal-safe. Times: CLOCK_MONOTONIC ns.
 */
#ifndef MESH_COMMON_LIMITS_H
#define MESH_COMMON_LIMITS_H

#include <stdbool.h>
#include <stddef.h>

#include "mesh/limits.h"

/* Of a service's name, or of anything else; never 0. */
uint64_t mesh_limit_hash(const char *text);
/* A caller (its SPIFFE ID) of a service; caller "": all of them together. */
uint64_t mesh_limit_key(const char *service, const char *caller);
/* Instead of a caller: who shares the service's bandwidth, on either side. */
#define MESH_LIMIT_OPENED   ">"
#define MESH_LIMIT_ACCEPTED "<"

/* Where the key's entry is; made when there is none. With no place left it shares another's. */
uint32_t mesh_limit_at(struct mesh_limit *table, uint64_t key, uint64_t now);
/* The same without making one: MESH_LIMITS when there is none. */
uint32_t mesh_limit_find(struct mesh_limit *table, uint64_t key);

struct mesh_rate {
    uint32_t max_tokens; /* 0: no limit */
    uint32_t tokens_per_fill, fill_interval_ms;
};
/* Takes a token, if there is one. The bucket fills steadily, not in leaps: as many a second. */
bool mesh_limit_take(struct mesh_limit *l, const struct mesh_rate *r, uint64_t now);

/* One connection more, unless `max` (0: no limit) are there already; one less, never below zero. */
bool mesh_limit_enter(struct mesh_limit *l, uint32_t max);
void mesh_limit_leave(struct mesh_limit *l);

#endif
