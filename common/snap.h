/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap_read: the reader of the snapshot, for the shim and for meshd's own tests. Lock-free,
 * allocates nothing, trusts nothing; any thread, signal-safe.
 */
#ifndef MESH_COMMON_SNAP_H
#define MESH_COMMON_SNAP_H

#include <stdbool.h>
#include <stddef.h>

#include "common/addr.h"
#include "mesh/snapshot.h"

/* A mapping of `size` bytes; not owned. */
struct mesh_snap {
    const void *map;
    size_t size;
};

struct mesh_snap_hit {
    struct mesh_snap_endpoint endpoint;
    struct mesh_snap_service service; /* strings are NUL-terminated in the copy */
    bool needs_local; /* a wildcard matched a non-loopback address: it is a hit only if that
                         address is one of this namespace's own */
};

/* MESH_OK when the head is usable, else MESH_E_SNAPSHOT or MESH_E_VERSION. */
enum mesh_err mesh_snap_check(const struct mesh_snap *s) MESH_MUST_CHECK;

/* Looks `a` up as a client in namespace `netns` would. *found tells; best match first: exact
 * address, then wildcard. MESH_E_SNAPSHOT when the content is damaged or never still. */
enum mesh_err mesh_snap_find(const struct mesh_snap *s, uint64_t netns, const struct mesh_addr *a,
                             struct mesh_snap_hit *hit, bool *found) MESH_MUST_CHECK;

/* The effective inbound mode of the listener with this cookie on `port`; false if not listed. */
bool mesh_snap_listener(const struct mesh_snap *s, uint64_t netns, uint64_t cookie, uint16_t port,
                        struct mesh_snap_hit *hit);

/* A consistent copy of the settings; built-in defaults when the snapshot is unusable. */
void mesh_snap_settings(const struct mesh_snap *s, struct mesh_snap_settings *out);
void mesh_snap_settings_default(struct mesh_snap_settings *out);

#endif
