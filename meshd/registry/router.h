/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_router: the configuration's routes, splits, failover and egress networks, into the snapshot. Inside
 * registry/ only.
 */
#ifndef MESHD_REGISTRY_ROUTER_H
#define MESHD_REGISTRY_ROUTER_H

/* After all services. */
void meshd_router_write(void);

#endif
