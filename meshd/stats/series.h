/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_series: connections summed by both sides, for the metrics that have labels. The pages have the sums
 * of living processes (struct mesh_page_edge), here are those of dead ones, kept in the totals' file. Inside
 * stats/ only; who asks for them finds them in stats.h.
 *
 * Values shown never fall as long as a series is shown: between the look at a page's sums and the look at
 * its open connections one of them may end, and for that moment its bytes are in neither.
 */
#ifndef MESHD_STATS_SERIES_H
#define MESHD_STATS_SERIES_H

#include <stdio.h>

#include "meshd/stats/page.h"

/* A page that is read no more: its sums, and its open connections as ended. */
void meshd_series_fold(const struct meshd_page_info *info);
/* One round over all live pages: begin, each page, end. */
void meshd_series_begin(void);
void meshd_series_live(const struct meshd_page_info *info);
void meshd_series_end(uint64_t now_ns);
int meshd_series_visit(meshd_series_visit_fn *visit, void *arg);

/* Lines of the totals' file, which begin with "edge ". False: it is damaged. */
void meshd_series_print(FILE *f);
bool meshd_series_parse(const char *line);
void meshd_series_fini(void);

#endif
