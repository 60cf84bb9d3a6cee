/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_totals: what dead processes left: counters for each service, kept in <run_dir>/totals, and
 * the connections that closed last, in memory. Inside stats/ only.
 */
#ifndef MESHD_STATS_TOTALS_H
#define MESHD_STATS_TOTALS_H

#include "meshd/stats/stats.h"

/* A damaged file is reported and put aside as totals.bad. */
enum mesh_err meshd_totals_load(const char *path) MESH_MUST_CHECK;
/* `folded`: pages that are in the totals but may still lie in the directory. */
enum mesh_err meshd_totals_save(const uint64_t *folded, size_t n) MESH_MUST_CHECK;
/* Was this page folded before the last save? */
bool meshd_totals_has(uint64_t page_id);
void meshd_totals_fini(void);

void meshd_totals_add(const char *service, const struct meshd_counters *c);
/* Copies for all services, ordered by name: malloc'ed, the caller's. NULL with *n == 0: none, or no
 * memory. `room`: entries more that the caller will add. */
struct meshd_total *meshd_totals_copy(size_t room, size_t *n);

void meshd_recent_add(const struct meshd_conn *c);
int meshd_recent_visit(meshd_conn_visit *visit, void *arg);

#endif
