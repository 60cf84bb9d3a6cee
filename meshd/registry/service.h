/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_service: the registry's services by name, counted by who lists an endpoint for them. Inside
 * registry/ only.
 */
#ifndef MESHD_REGISTRY_SERVICE_H
#define MESHD_REGISTRY_SERVICE_H

#include <uthash.h>

#include "meshd/registry/registry.h"

struct meshd_service_entry {
    char name[MESH_SERVICE_MAX];
    char id[MESH_ID_MAX];
    uint32_t uses;  /* endpoints */
    uint32_t index; /* in the snapshot that was written last */
    UT_hash_handle hh;
};

/* A reference to the service, made when it is new; NULL without memory. */
struct meshd_service_entry *meshd_service_get(const char *name, const char *id);
void meshd_service_put(struct meshd_service_entry *s);
uint32_t meshd_service_count(void);
void meshd_service_visit_all(meshd_service_visit *visit, void *arg);
/* Writes all into the snapshot and notes their index. */
void meshd_service_write(void);

#endif
