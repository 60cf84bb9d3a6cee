/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_ended: fetches connections that ended since the last time from a page, in their turn, for the
 * access log. Inside stats/ only.
 */
#ifndef MESHD_STATS_ENDED_H
#define MESHD_STATS_ENDED_H

#include "meshd/stats/page.h"

/* How far one page was fetched. Zeroed: not begun. */
struct meshd_ended_cursor {
    bool begun;
    uint64_t taken;    /* number of the last one */
    uint64_t stuck;    /* one that had a number and no entry, the last time */
    uint32_t unlisted; /* of the page's conns_full, what has been counted */
};

enum meshd_ended_from {
    MESHD_ENDED_RESUME, /* where the last meshd with a log was; from now on if there was none */
    MESHD_ENDED_NOW,
};

/* lost: connections that ended without leaving anything; unlisted: that never had an entry. */
struct meshd_ended_count {
    uint32_t fetched, lost, unlisted;
};

/* The next fetch begins here. */
void meshd_ended_begin(uint64_t page_id, struct meshd_ended_cursor *at, enum meshd_ended_from from);
/* Nobody fetches any more: a later log does not begin with what is old. */
void meshd_ended_stop(uint64_t page_id, struct meshd_ended_cursor *at);
/* Calls visit for each, oldest first; at most MESH_PAGE_CONNS. `last`: no process has the page any more,
 * so nothing is waited for. What visit returns is not looked at. */
void meshd_ended_fetch(const struct meshd_page_info *info, struct meshd_ended_cursor *at, bool last,
                       meshd_conn_visit *visit, void *arg, struct meshd_ended_count *count);

#endif
