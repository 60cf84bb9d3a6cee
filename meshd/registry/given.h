/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_given: endpoints that the configuration names: on other hosts, or of programs that register
 * nothing. They have no cookie, and the kernel is not asked about them. Inside registry/ only.
 */
#ifndef MESHD_REGISTRY_GIVEN_H
#define MESHD_REGISTRY_GIVEN_H

#include "meshd/registry/registry.h"

/* Takes the current configuration's; an endpoint that was there before keeps its id and age. The
 * old ones stay on MESH_E_NO_MEMORY. */
enum mesh_err meshd_given_load(void) MESH_MUST_CHECK;
void meshd_given_fini(void);
uint32_t meshd_given_count(void);
/* Into the snapshot, after meshd_service_write. */
void meshd_given_write(void);
/* Returns what visit returned last. */
int meshd_given_visit(meshd_endpoint_visit *visit, void *arg);

#endif
