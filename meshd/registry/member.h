/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_member: which endpoints a connection to a service may go to: groups, tiers and members of the
 * snapshot. Inside registry/ only.
 */
#ifndef MESHD_REGISTRY_MEMBER_H
#define MESHD_REGISTRY_MEMBER_H

#include "meshd/registry/registry.h"

struct meshd_service_entry;

/* While endpoints are written: the one at `index` of the snapshot is the service's. given: who
 * names it, the greatest goes first; 0: it registered. Without memory it is left out. */
void meshd_member_add(const struct meshd_service_entry *s, const struct meshd_endpoint *e, uint32_t index,
                      unsigned given);
/* All groups, into the snapshot: after all services and endpoints. */
void meshd_member_write(void);
void meshd_member_fini(void);

#endif
