/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_fault: see fault.h.
 */
#include "shim/route/fault.h"

#include <string.h>

#include "common/limits.h"
#include "shim/core/rand.h"

/* The last part of spiffe://<trust domain>/ns/<namespace>/sa/<service>. */
static uint64_t
service_of(const char *id)
{
    const char *last = strrchr(id, '/');
    return last ? mesh_limit_hash(last + 1) : 0;
}

static bool
is_drawn(const struct mesh_snap_fault *f, uint64_t source, uint16_t port)
{
    return (f->source == 0 || f->source == source) && (f->port == 0 || f->port == port) &&
           shim_rand_below(MESH_FAULT_ALWAYS) < f->percentage;
}

void
shim_fault_none(struct shim_faults *out)
{
    *out = (struct shim_faults){.connect = MESH_FAULT_NONE, .stream = MESH_FAULT_NONE};
}

void
shim_fault_draw(const struct mesh_snap_limits *l, const char *id, uint16_t port, struct shim_faults *out)
{
    uint64_t source = service_of(id);
    shim_fault_none(out);
    for (unsigned i = 0; i < l->faults && i < MESH_FAULTS; i++) {
        const struct mesh_snap_fault *f = &l->fault[i];
        bool stream = f->type == MESH_FAULT_RESET || f->type == MESH_FAULT_SLOW_READ ||
                      f->type == MESH_FAULT_SHORT_WRITE;
        uint8_t *kind = stream ? &out->stream : &out->connect;
        if (*kind != MESH_FAULT_NONE || !is_drawn(f, source, port)) {
            continue;
        }
        *kind = f->type;
        out->delay_ms = stream ? out->delay_ms : f->delay_ms;
        out->bytes = stream ? f->bytes : out->bytes;
    }
}
