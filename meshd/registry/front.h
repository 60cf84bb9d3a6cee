/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_front: the addresses by which services are reached as a whole, and the services that others'
 * rules lead to. Inside registry/ only.
 */
#ifndef MESHD_REGISTRY_FRONT_H
#define MESHD_REGISTRY_FRONT_H

#include "meshd/registry/registry.h"

/* Takes the current configuration's addresses; the old ones stay on MESH_E_NO_MEMORY. */
enum mesh_err meshd_front_load(void) MESH_MUST_CHECK;
void meshd_front_fini(void);
uint32_t meshd_front_count(void);

/* The addresses, into the snapshot: after all services. */
void meshd_front_write(void);

/* Visits the services that r's rules lead to, and their targets' redirects. */
void meshd_front_each_target(const struct meshd_service_rule *r, void (*visit)(const char *, void *), void *arg);

#endif
