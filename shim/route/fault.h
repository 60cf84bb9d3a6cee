/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_fault: which faults of the configuration a connection gets. Drawn once for each connect().
 */
#ifndef SHIM_ROUTE_FAULT_H
#define SHIM_ROUTE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "mesh/snapshot.h"

/* The one that meets connect(), and the one that meets the open connection; MESH_FAULT_NONE: none. */
struct shim_faults {
    uint8_t connect; /* REFUSE, DELAY or BLACKHOLE */
    uint8_t stream;  /* RESET, SLOW_READ or SHORT_WRITE */
    uint32_t delay_ms;
    uint64_t bytes; /* of stream */
};

/* For a connect() of the process whose SPIFFE ID is `id`, to `port`. Of each kind the first in order. Any
 * thread, signal-safe. */
void shim_fault_draw(const struct mesh_snap_limits *l, const char *id, uint16_t port,
                     struct shim_faults *out);
void shim_fault_none(struct shim_faults *out);

#endif
