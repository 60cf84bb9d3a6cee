/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_service: the registry's services by name, counted by who lists an endpoint for them. Inside
 * registry/ only.
 */
#ifndef MESHD_REGISTRY_SERVICE_H
#define MESHD_REGISTRY_SERVICE_H

#include <uthash.h>

#include "common/vaddr.h"
#include "meshd/policy/config.h"
#include "meshd/registry/registry.h"

struct meshd_service_entry {
    char name[MESH_SERVICE_MAX];
    char id[MESH_ID_MAX];
    uint32_t uses;  /* endpoints, addresses and names */
    uint32_t addresses;
    uint32_t named; /* uses by names.c, and what it notes: */
    int rank;
    uint64_t ranked;
    bool has_vaddr;
    struct mesh_vaddr vaddr;
    uint32_t index; /* in the snapshot that was written last */
    uint32_t live;  /* its entry in the live state, as long as it is here */
    struct mesh_snap_live set;        /* as in that snapshot, but for the count of endpoints */
    struct meshd_live_rule rule;      /* likewise; zeros: none */
    const struct meshd_service_rule *configured; /* of the configuration `serial`; see meshd_service_rule */
    uint64_t serial;
    uint64_t interval_ns;             /* when its outlier detection looks again */
    UT_hash_handle hh;
};

/* A reference to the service, made when it is new; NULL without memory. */
struct meshd_service_entry *meshd_service_get(const char *name, const char *id);
/* NULL: there is none of that name. */
struct meshd_service_entry *meshd_service_find(const char *name);
void meshd_service_put(struct meshd_service_entry *s);
/* What the configuration in force says of it, or NULL; looked up once for each configuration. */
const struct meshd_service_rule *meshd_service_rule(struct meshd_service_entry *s);
uint32_t meshd_service_count(void);
struct meshd_service_entry *meshd_service_first(void);            /* then hh.next */
/* Another number each time that a service has come or gone. */
uint64_t meshd_service_changes(void);
bool meshd_service_any_outlier(void); /* has one outlier detection, in the last snapshot? */
void meshd_service_visit_all(meshd_service_visit *visit, void *arg);
/* Writes all into the snapshot and notes their index and settings. */
void meshd_service_write(void);
/* Of the service in the snapshot that is being written; it has to be in it. */
uint32_t meshd_service_index(const char *name);

#endif
