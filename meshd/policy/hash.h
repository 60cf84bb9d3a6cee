/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_hash_check: what a service's keys for ring_hash and maglev say together. For config.c only.
 */
#ifndef MESHD_POLICY_HASH_H
#define MESHD_POLICY_HASH_H

#include "meshd/policy/config.h"
#include "meshd/policy/diag.h"

void meshd_hash_check(const struct meshd_service_rule *s, struct meshd_diags *d);
/* Do the tables of all services fit into the snapshot's pool? As far as the configuration knows endpoints. */
void meshd_hash_check_room(const struct meshd_config *cfg, struct meshd_diags *d);

#endif
