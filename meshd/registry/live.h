/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_live: the live state of the host (mesh/live.h). Made here, written by all processes that connect to
 * services; each of them gets it by asking. Main thread only.
 */
#ifndef MESHD_REGISTRY_LIVE_H
#define MESHD_REGISTRY_LIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "mesh/err.h"
#include "mesh/live.h"

/* Without it (no memory, no memfd) processes count for themselves. */
void meshd_live_init(void);
void meshd_live_fini(void);

/* Which one it is: random, 0 when there is none. The snapshot says it. */
uint32_t meshd_live_id(void);
int meshd_live_fd(void); /* a new descriptor, the caller's; -1 with errno */

/* What is counted for the endpoint with this id. */
uint32_t meshd_live_count(uint32_t id);
/* NULL: there is none, or (an endpoint's) no process has used it: it is not made real by looking. */
struct mesh_live_endpoint *meshd_live_endpoint(uint32_t id);
struct mesh_live_endpoint *meshd_live_use(uint32_t id); /* to write; NULL: there is none */
struct mesh_live_service *meshd_live_service(uint32_t entry);

/* Brings counts in line with what the pages show: takes away those of processes that were killed, and adds the
 * connections that are older than this meshd. To be called every few seconds; a difference has to last from one
 * call to the next. */
void meshd_live_correct(void);

#endif
