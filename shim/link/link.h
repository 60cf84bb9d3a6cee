/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_link: the talk with meshd (mesh/wire.h). Each request opens a Unix connection, high-numbered
 * and close-on-exec, and closes it before it returns: in steady state we own no descriptor.
 *
 * All calls may block for a bounded time; none may run in a signal handler. Errors: NO_MESHD,
 * PROTOCOL, VERSION, or what meshd answered.
 */
#ifndef SHIM_LINK_LINK_H
#define SHIM_LINK_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/snap.h"
#include "mesh/err.h"
#include "mesh/wire.h"

/* Attaches if this process tree has not yet, waiting up to LIBMESH_WAIT for meshd the first time;
 * attaches again when the snapshot has gone stale. MESH_E_NO_MESHD when there is no snapshot. */
enum mesh_err shim_link_ready(void) MESH_MUST_CHECK;

/* The mapped snapshot; size 0 before the first attach. */
struct mesh_snap shim_link_snapshot(void);
/* This process's namespace, SO_NETNS_COOKIE; 0 where the kernel has none. */
uint64_t shim_link_netns(void);
const char *shim_link_id(void); /* own SPIFFE ID, "" before attach */

struct shim_link_cert {
    struct mesh_wire_cert_rep rep;
    uint8_t blob[16384]; /* chain, key, bundle; wiped by the caller */
};
enum mesh_err shim_link_cert(struct shim_link_cert *out) MESH_MUST_CHECK;

enum mesh_err shim_link_listen(int fd, const struct mesh_addr *addr, bool v6only, uint64_t cookie,
                               uint8_t *mode) MESH_MUST_CHECK;
void shim_link_unlisten(uint64_t cookie);
/* True if meshd knows a mesh connection from that client address. */
bool shim_link_peer_known(const struct mesh_addr *a);
enum mesh_err shim_link_handoff(const struct mesh_addr *to, const char *expect_id, const void *data,
                                size_t n) MESH_MUST_CHECK;

void shim_link_forked(void);

#endif
