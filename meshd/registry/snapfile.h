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

/* Maps `path`. A damaged one is mended from the copy beside it (`path`.copy); it is made anew, under
 * a random epoch, when that is damaged too, when it is missing or of an earlier boot. */
enum mesh_err meshd_snapfile_open(const char *path, uint32_t area_size) MESH_MUST_CHECK;
void meshd_snapfile_close(void);

/* What the current area lists, for a meshd that comes back; the copies are checked and terminated. */
typedef void meshd_snapfile_visit_fn(const struct mesh_snap_endpoint *e,
                                     const struct mesh_snap_service *s, void *arg);
void meshd_snapfile_visit(meshd_snapfile_visit_fn *visit, void *arg);

/* The greatest endpoint id that was ever given out: of the file that was opened, and for those that are committed. */
uint32_t meshd_snapfile_last_id(void);
void meshd_snapfile_set_last_id(uint32_t id);

/* Writing: begin, entries, commit. Nothing is touched before commit, which says MESH_E_NO_MEMORY when
 * they do not fit or could not be kept. Check sums are made there. */
void meshd_snapfile_begin(void);
/* The new entry's index; MESH_SNAP_NONE without memory. */
uint32_t meshd_snapfile_add(enum mesh_snap_tables t, const void *entry);
/* The same, and its address can be found: `next` and `next_cookie` are set here. */
uint32_t meshd_snapfile_endpoint(const struct mesh_snap_endpoint *e);
void meshd_snapfile_get(enum mesh_snap_tables t, uint32_t i, void *entry);
void meshd_snapfile_put(enum mesh_snap_tables t, uint32_t i, const void *entry);
uint32_t meshd_snapfile_count(enum mesh_snap_tables t);
enum mesh_err meshd_snapfile_commit(const struct mesh_snap_settings *set) MESH_MUST_CHECK;
/* Would that many of them fit, if they are no part of more than one group? */
bool meshd_snapfile_has_room(uint64_t services, uint64_t endpoints);

/* Is everything in the file as it was committed? Reads all of it. */
bool meshd_snapfile_is_whole(void);

struct mesh_snap meshd_snapfile_view(void); /* as a reader sees it; borrowed */
void meshd_snapfile_beat(void); /* refreshes alive_ns */
int meshd_snapfile_fd(void);    /* a new read-only descriptor, the caller's; -1 with errno */
uint64_t meshd_snapfile_generation(void);
uint64_t meshd_snapfile_epoch(void);

#endif
