/* SPDX-License-Identifier: Apache-2.0
 *
 * Between stats.c, the life of the pages, and view.c, what is asked of them.
 */
#ifndef MESHD_STATS_STATS_INT_H
#define MESHD_STATS_STATS_INT_H

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "meshd/stats/ended.h"
#include "meshd/stats/page.h"

struct meshd_stats_entry {
    struct meshd_page_info info;
    bool orphan, folded;
    uint64_t settled, settling; /* nobody decides by older snapshots any more; is being waited for */
    bool busy[MESH_PAGE_PIDS + 1]; /* not yet seen without a decision since `settling` was current */
    bool hot;
    struct meshd_ended_cursor ended;
    UT_hash_handle hh; /* by info.page_id */
};

extern struct meshd_stats_entry *meshd_stats_entries;

/* Alive by the pids that the processes wrote, which mean something in our own pid namespace only. */
uint32_t meshd_stats_alive(const struct meshd_page_head *h);

/* Of a page that is folded: what its process left. */
void meshd_stats_killed(const struct meshd_conn *c, uint64_t at_ns);

#endif
