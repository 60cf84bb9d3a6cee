/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_limits: the limits and faults of services on their way into the snapshot, and the correction of what
 * processes have counted for them (mesh/limits.h). Inside registry/ only.
 */
#ifndef MESHD_REGISTRY_LIMITS_H
#define MESHD_REGISTRY_LIMITS_H

#include "meshd/policy/config.h"

struct mesh_limit;

/* Writes those of the rule (NULL: no rule), if it has any; what the service's `limits` is to be. */
uint32_t meshd_limits_write(const struct meshd_service_rule *rule);

/* How many connections are counted for the service and this caller. */
uint32_t meshd_limits_count(struct mesh_limit *table, const char *service, const char *caller);

/* As meshd_live_correct, for the counts of connections in `table`. */
void meshd_limits_correct(struct mesh_limit *table);

#endif
