/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_routes: what must hold of a service's subsets, routes, split, failover and redirect together.
 */
#ifndef MESHD_POLICY_ROUTES_H
#define MESHD_POLICY_ROUTES_H

struct meshd_config;
struct meshd_service_rule;
struct meshd_diags;

/* Everything that is wrong with s goes to *d. All services must have been read. */
void meshd_routes_check(const struct meshd_config *cfg, const struct meshd_service_rule *s,
                        struct meshd_diags *d);

#endif
