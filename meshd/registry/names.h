/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_names: by which host names services are reached, their virtual addresses, and which ports
 * these have. Inside registry/ only.
 *
 * A service's address is the one that trust domain and name say [common/vaddr.h]. Where that is another
 * service's already it gets the next free one. The order is: services that the configuration names,
 * then others, and among each of them that of the bytes of their names. So what the configuration names
 * depends on nothing but the configuration, and nobody takes its address by choosing a name.
 */
#ifndef MESHD_REGISTRY_NAMES_H
#define MESHD_REGISTRY_NAMES_H

#include <stdint.h>

#include "mesh/err.h"

/* Takes the current configuration's services: they have names and addresses as long as they stand
 * there, with or without endpoints. The old ones stay on MESH_E_NO_MEMORY. */
enum mesh_err meshd_names_load(void) MESH_MUST_CHECK;
void meshd_names_fini(void);

/* Before services and endpoints are written: gives addresses, and finds out which ports they have. */
enum mesh_err meshd_names_prepare(void) MESH_MUST_CHECK;
/* How many snapshot endpoints write() makes, as the last prepare() said. */
uint32_t meshd_names_entries(void);
/* The virtual addresses with their ports, and the names: after all services. */
void meshd_names_write(void);

#endif
