/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_quota: how many statistics pages there may be, and how many of one user: with all of them taken by one,
 * nobody else's new process would come into the mesh. Inside stats/ only.
 */
#ifndef MESHD_STATS_QUOTA_H
#define MESHD_STATS_QUOTA_H

#include <stdint.h>

#include "mesh/err.h"
#include "meshd/attest/attest.h"

#define MESHD_PAGES_MAX  16384u
#define MESHD_PAGES_USER 4096u /* of one user, but root and meshd's own */
#define MESHD_PAGES_KEPT 1024u /* the last ones are for these two */

/* May the peer have one page more? all: that there are; own: of its user, those too whose process is dead while
 * somebody still holds them. If not that is counted, and said now and then. */
enum mesh_err meshd_quota_check(const struct meshd_peer *peer, uint32_t all, uint32_t own) MESH_MUST_CHECK;

#endif
