/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_route: the decision in connect(): is this address a mesh endpoint, and whom must we find
 * there? Reads the snapshot only; no meshd call. Any thread, no locks.
 */
#ifndef SHIM_ROUTE_ROUTE_H
#define SHIM_ROUTE_ROUTE_H

#include <stdbool.h>

#include "common/addr.h"
#include "common/snap.h"

enum shim_verdict {
    SHIM_ROUTE_PASS,   /* not in the mesh: the program's own business */
    SHIM_ROUTE_SERVICE, /* an address of hit.service: an endpoint has to be chosen (pick.h) */
    SHIM_ROUTE_MESH,   /* mutual TLS with hit.service.id, or fail */
    SHIM_ROUTE_DENY,   /* egress is registry_only and the registry does not know it */
    SHIM_ROUTE_NO_PORT,    /* a virtual address, and its service does not have that port */
    SHIM_ROUTE_NO_SERVICE, /* a virtual address that is no service's */
    SHIM_ROUTE_ABSENT, /* the same, of an address of ours: programs wait for their servers so */
};

/* A connect to the any address reaches the loopback [ip(7)]. */
struct mesh_addr shim_route_effective(const struct mesh_addr *to);

/* Of a connect on fd. MESH_E_SNAPSHOT when the snapshot cannot be trusted: the caller must fail the connect. */
enum mesh_err shim_route_decide(int fd, const struct mesh_addr *to, struct mesh_snap_hit *hit,
                                enum shim_verdict *out) MESH_MUST_CHECK;

#endif
