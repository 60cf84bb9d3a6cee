/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_waiting: who waits for the next snapshot. A thousand programs that begin to listen at once share a few
 * snapshots: those that ask while one is made have the next one in common, and are answered when it is out.
 */
#ifndef MESHD_REGISTRY_WAITING_H
#define MESHD_REGISTRY_WAITING_H

#include <stdint.h>

#include "mesh/err.h"

/* Takes an endpoint away again that could not be published, and says so. */
typedef void meshd_waiting_undo_fn(uint32_t endpoint_id, enum mesh_err e);

/* The number under which the server holds the answer (base/server.h) until what is known now is published, in the
 * next turn of the loop. If that fails, the newest half is undone, and it is tried without, and so on; their answers
 * are the error. undo NULL: nothing is new. Returns 0 when out of memory. */
uint64_t meshd_waiting_add(uint32_t endpoint_id, meshd_waiting_undo_fn *undo);
void meshd_waiting_fini(void);

#endif
