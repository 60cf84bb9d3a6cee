/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_watch: services that have a health_check: their rule, a copy that outlives a reload, and what is
 * counted for them. Inside health/ only.
 */
#ifndef MESHD_HEALTH_WATCH_H
#define MESHD_HEALTH_WATCH_H

#include <uthash.h>

#include "meshd/health/health.h"
#include "meshd/policy/config.h"

struct meshd_watch {
    char name[MESH_SERVICE_MAX], id[MESH_ID_MAX];
    struct meshd_health_rule rule; /* its lists are ours */
    uint32_t version;              /* another one: another rule */
    bool traffic;                  /* a program has connected to it */
    bool current;                  /* the configuration has it */
    uint32_t targets;
    struct meshd_health_service count; /* .healthy: of the targets */
    UT_hash_handle hh;
};

/* Takes the current configuration's. One that is no longer there stays, not current, for whoever points
 * to it; meshd_watch_sweep ends those without targets. MESH_E_NO_MEMORY: some are missing. */
enum mesh_err meshd_watch_load(void) MESH_MUST_CHECK;
void meshd_watch_sweep(void);
void meshd_watch_fini(void);
/* NULL: it is not checked. */
struct meshd_watch *meshd_watch_find(const char *service);
struct meshd_watch *meshd_watch_first(void);
struct meshd_watch *meshd_watch_next(const struct meshd_watch *w);

/* Looks whether programs have connected to services of which none was known to. True: to some. */
bool meshd_watch_look_for_traffic(void);

#endif
