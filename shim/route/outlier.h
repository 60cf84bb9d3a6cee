/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_outlier: what the host knows of an endpoint (mesh/live.h, common/outlier.h), for a choice and for an
 * attempt. A choice passes over who is ejected, has as many connections as it may, or, while it warms up, now
 * and then; an attempt tells how it ended. Allocates nothing, no system call; any thread, signal-safe.
 */
#ifndef SHIM_ROUTE_OUTLIER_H
#define SHIM_ROUTE_OUTLIER_H

#include <stdbool.h>
#include <stdint.h>

#include "mesh/err.h"
#include "mesh/snapshot.h"

/* Of one choice; zeros to begin with. */
struct shim_outlier {
    uint64_t now_ms;  /* CLOCK_MONOTONIC, 0: nobody has needed it yet */
    uint32_t rounds;
    bool cold_too, ejected_too;       /* they are taken as if they were not */
    bool passed_cold, passed_ejected; /* there were such */
    bool full; /* one has as many connections as it may */
};

/* May this endpoint of the service be chosen? */
bool shim_outlier_admits(struct shim_outlier *o, const struct mesh_snap_service *s, uint32_t id);

/* One tier has been looked through, with e. True: once more, with those that warm up, for it has nobody else. */
bool shim_outlier_again_cold(struct shim_outlier *o, enum mesh_err e);

/* A round has ended with e and, if that is MESH_OK, this endpoint. True: one more round, which may take the ejected when nobody else was left. False: *probe is what
 * the attempt has to tell the outcome of (0: it is like any other). */
bool shim_outlier_again(struct shim_outlier *o, enum mesh_err e, const struct mesh_snap_service *s, uint32_t id,
                        uint64_t *probe);

/* It is not made after all: the probe is free. */
void shim_outlier_release(uint32_t id, uint64_t probe);

/* One attempt, from connect() to its outcome. */
struct shim_outlier_attempt {
    struct mesh_snap_live set;
    uint64_t probe, begun_ns;
    uint32_t id, timeout_ms;
    bool measured; /* somebody wants to know how long it takes */
    bool told;     /* its outcome */
};
void shim_outlier_begin(struct shim_outlier_attempt *a, const struct mesh_snap_service *s, uint32_t id,
                        uint64_t probe);
/* Each of these counts once in an attempt, and success after failure not at all. */
void shim_outlier_failed(struct shim_outlier_attempt *a);
void shim_outlier_succeeded(struct shim_outlier_attempt *a);
/* TCP is up and the peer says nothing: no outcome, but it took that long already. */
void shim_outlier_waits(const struct shim_outlier_attempt *a);

#endif
