/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_origin: whose certificate a connection shows that went on in another program (inetd's, while cat
 * serves it). Each page has a random mark, which a connection takes along; so nobody can claim the
 * identity of a program from which it has no connection. Inside stats/ only.
 */
#ifndef MESHD_STATS_ORIGIN_H
#define MESHD_STATS_ORIGIN_H

#include "meshd/stats/page.h"

uint64_t meshd_origin_mark(void); /* a new one; 0 when there is no randomness */
void meshd_origin_add(const struct meshd_page_info *info);
/* Its page was folded: kept as one of the last MESHD_STATS_RECENT. */
void meshd_origin_gone(const struct meshd_page_info *info);
/* Puts the origin in the place of the holder, if it is known. */
void meshd_origin_apply(struct meshd_conn *c, const struct meshd_page_info *holder);
void meshd_origin_fini(void);

#endif
