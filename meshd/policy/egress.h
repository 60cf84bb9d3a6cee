/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_config_check_egress: what no single key of egress_allow can tell. Inside policy/ only.
 */
#ifndef MESHD_POLICY_EGRESS_H
#define MESHD_POLICY_EGRESS_H

#include "meshd/policy/config.h"
#include "meshd/policy/diag.h"

void meshd_config_check_egress(const struct meshd_config *cfg, struct meshd_diags *d);

#endif
