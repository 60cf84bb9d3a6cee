/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_snapfile: the snapshot's writer [mesh/snapshot.h]. One file, two areas, one writer. It
 * knows the layout and nothing of why something is in it.
 */
#ifndef MESHD_REGISTRY_SNAPFILE_H
#define MESHD_REGISTRY_SNAPFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/snap.h"
#include "mesh/err.h"
#include "mesh/snapshot.h"

/* Maps `path`, which it makes anew (with a random epoch) when it is missing, damaged or of an
 * earlier boot; a damaged one is replaced, not written over: others may map it. */
enum mesh_err meshd_snapfile_open(const char *path, uint32_t area_size) MESH_MUST_CHECK;
void meshd_snapfile_close(void);

/* What the current area lists, for a meshd that comes back; the copies are checked and terminated. */
typedef void meshd_snapfile_visit_fn(const struct mesh_snap_endpoint *e,
                                     const struct mesh_snap_service *s, void *arg);
void meshd_snapfile_visit(meshd_snapfile_visit_fn *visit, void *arg);

/* Writing: begin, exactly that many services and endpoints, commit. The next area is spoilt from
 * begin on and current after commit; `next` of an endpoint is set here. */
bool meshd_snapfile_has_room(uint64_t services, uint64_t endpoints);
enum mesh_err meshd_snapfile_begin(uint32_t services, uint32_t endpoints) MESH_MUST_CHECK;
void meshd_snapfile_service(const struct mesh_snap_service *s);
void meshd_snapfile_endpoint(const struct mesh_snap_endpoint *e);
void meshd_snapfile_commit(const struct mesh_snap_settings *set, const char *trust_domain);

struct mesh_snap meshd_snapfile_view(void); /* as a reader sees it; borrowed */
void meshd_snapfile_beat(void); /* refreshes alive_ns */
int meshd_snapfile_fd(void);    /* a new read-only descriptor, the caller's; -1 with errno */
uint64_t meshd_snapfile_generation(void);
uint64_t meshd_snapfile_epoch(void);

#endif
