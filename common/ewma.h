/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_ewma: how long connecting to an endpoint takes, as a peak-sensitive moving average: what is longer
 * counts at once, what is shorter draws it down by and by, and without news it sinks, so that an endpoint that
 * was avoided is tried again. One word of the live state: the value in µs above, its time in ms below; 0: never
 * measured. Any thread, signal-safe, no locks.
 */
#ifndef MESH_COMMON_EWMA_H
#define MESH_COMMON_EWMA_H

#include <stdatomic.h>
#include <stdint.h>

#define MESH_EWMA_DECAY_MS   10000u
#define MESH_EWMA_DEFAULT_US 30000u /* of one that was never measured */

/* Now, 1 at least. */
uint32_t mesh_ewma_read(uint64_t word, uint64_t now_ms);
/* The word with another measurement. */
uint64_t mesh_ewma_next(uint64_t word, uint64_t us, uint64_t now_ms);
void mesh_ewma_add(_Atomic uint64_t *word, uint64_t us, uint64_t now_ms);

#endif
