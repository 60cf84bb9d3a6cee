/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_owners: that addresses and host names are one service's each. Inside policy/ only.
 */
#ifndef MESHD_POLICY_OWNERS_H
#define MESHD_POLICY_OWNERS_H

#include "meshd/policy/config.h"
#include "meshd/policy/diag.h"

void meshd_owners_check(const struct meshd_config *cfg, struct meshd_diags *d);

#endif
