/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_policy_check_health: what is wrong with a service's health_check beyond single keys. Inside
 * policy/ only.
 */
#ifndef MESHD_POLICY_HEALTH_H
#define MESHD_POLICY_HEALTH_H

#include "meshd/policy/config.h"
#include "meshd/policy/diag.h"

#define MESHD_HEALTH_ARGUMENTS 32u

void meshd_policy_check_health(const struct meshd_config *cfg, const struct meshd_service_rule *s,
                               struct meshd_diags *d);

#endif
