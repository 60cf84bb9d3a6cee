/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_given: the endpoints that sources name [source.h]: on other hosts, or of programs that register
 * nothing. They have no cookie, and the kernel is not asked about them. A set is what one source says
 * of one service. Inside registry/ only.
 */
#ifndef MESHD_REGISTRY_GIVEN_H
#define MESHD_REGISTRY_GIVEN_H

#include <uthash.h>

#include "meshd/registry/registry.h"
#include "meshd/registry/source.h"

struct meshd_given_set {
    struct meshd_given_key {
        char service[MESH_SERVICE_MAX];
        uint32_t rank; /* enum meshd_rank */
    } key;
    bool fresh; /* while a commit goes on: put in by it */
    uint32_t count;
    struct given *at; /* by address, each once */
    struct meshd_given_set *next;
    UT_hash_handle hh;
};

/* Not in force yet; an endpoint that is in force already has its id and age. NULL without memory. */
struct meshd_given_set *meshd_given_make(enum meshd_rank rank, const char *service,
                                         const struct meshd_endpoint_rule *list, size_t n);
void meshd_given_free(struct meshd_given_set *set);
/* Takes the set in the place of its predecessor, and says in the log what that changes. */
void meshd_given_put(struct meshd_given_set *set);
/* After a row of puts: sets of this rank that are not of this row go (`all`). */
void meshd_given_settle(enum meshd_rank rank, bool all);
/* How many endpoints the set in force has that this one would replace. */
uint32_t meshd_given_size(const struct meshd_given_set *set);

void meshd_given_recall(enum meshd_rank rank, const char *service, meshd_source_visit *visit,
                        void *arg);
/* A meshd_snapfile_visit_fn: an entry that a former meshd wrote. It stays until its source commits. */
void meshd_given_restore(const struct mesh_snap_endpoint *e, const struct mesh_snap_service *s,
                         void *arg);

void meshd_given_fini(void);
uint32_t meshd_given_count(void);
/* Into the snapshot, after meshd_service_write: the configured ones, or all others. What is written
 * later is what a connect() to an address finds first. */
void meshd_given_write(bool configured);
/* Returns what visit returned last. */
int meshd_given_visit(meshd_endpoint_visit *visit, void *arg);

#endif
