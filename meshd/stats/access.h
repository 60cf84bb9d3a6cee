/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_access: the access log, one JSON object a line for each connection that ended. The keys are those
 * of Envoy's and Istio's JSON log where they have one. Inside stats/ only; what others may ask is in
 * stats.h.
 *
 * Nothing here waits: a file that takes no bytes (full disk, slow reader) keeps what fits a buffer, the
 * rest is dropped and counted. Lines are whole: what was begun is finished before the next one.
 */
#ifndef MESHD_STATS_ACCESS_H
#define MESHD_STATS_ACCESS_H

#include "meshd/stats/page.h"

#define MESHD_ACCESS_LINE_MAX 4096u

/* The line of c with its newline into out (MESHD_ACCESS_LINE_MAX bytes); its length. */
size_t meshd_access_line(const struct meshd_conn *c, const struct meshd_page_info *info, char *out);

/* Takes what the configuration says; true when the log was off before and is on now. */
bool meshd_access_configure(void);
bool meshd_access_on(void);
/* A line for c, unless the filter leaves it out. */
void meshd_access_put(const struct meshd_conn *c, const struct meshd_page_info *info);
/* Connections that will have no line: ended faster than they were fetched, or never had an entry. */
void meshd_access_lost(uint32_t overrun, uint32_t unlisted);
/* Writes what it can. */
void meshd_access_flush(void);
void meshd_access_fini(void);

#endif
