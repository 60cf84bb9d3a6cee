/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_frame: takes one request of mesh/wire.h out of a byte stream, however it is cut up. It
 * knows every request's exact length, and allocates only as bytes really arrive. No descriptors,
 * no clocks: pure, so that tests can feed it anything.
 */
#ifndef MESHD_BASE_FRAME_H
#define MESHD_BASE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mesh/err.h"
#include "mesh/wire.h"

struct meshd_frame {
    struct mesh_wire_head head;
    size_t head_got, body_got, body_cap;
    uint8_t *body; /* head.len bytes when done; wiped and freed by fini */
};

/* Where the next bytes go and how many are wanted (never beyond this request); NULL with *n == 0
 * when the request is complete or there is no memory. */
void *meshd_frame_room(struct meshd_frame *f, size_t *n);
/* n bytes were put there. MESH_E_PROTOCOL, MESH_E_VERSION: hang up. */
enum mesh_err meshd_frame_fed(struct meshd_frame *f, size_t n) MESH_MUST_CHECK;
bool meshd_frame_is_done(const struct meshd_frame *f);
/* Back to the state of {0}. */
void meshd_frame_fini(struct meshd_frame *f);

#endif
