/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_config_check_limits: what no single key of a service's limits and faults can tell. Inside policy/ only.
 */
#ifndef MESHD_POLICY_LIMITS_H
#define MESHD_POLICY_LIMITS_H

#include "meshd/policy/config.h"
#include "meshd/policy/diag.h"

void meshd_config_check_limits(const struct meshd_service_rule *s, struct meshd_diags *d);

#endif
