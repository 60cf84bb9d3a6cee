/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_pool: the snapshot's pool [mesh/snapshot.h]: who lies where. What the area in force refers to is not
 * touched, nor moved; what only older ones referred to gives its place away. For snapfile.c, which writes, and
 * table.c, which fills it.
 */
#ifndef MESHD_REGISTRY_POOL_H
#define MESHD_REGISTRY_POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "mesh/snapshot.h"

/* A pool of so many bytes, in which nothing is known to lie. */
void meshd_pool_open(size_t size);
void meshd_pool_close(void);
/* Of an earlier meshd: stays until the area of `generation` is out of force. */
void meshd_pool_reserve(uint32_t first, size_t size, uint64_t generation);

/* A draft of `generation` begins: what is of no use to it nor to the one before gives its place away. */
void meshd_pool_begin(uint64_t generation);
/* What was added under that key; false: nothing, or somebody has damaged it. */
bool meshd_pool_find(const uint64_t key[2], struct mesh_snap_part *out);
/* Takes `bytes`, from malloc, which are copied when the draft is written. False, and they are freed: no room. */
bool meshd_pool_add(const uint64_t key[2], uint8_t *bytes, size_t size, uint32_t count, struct mesh_snap_part *out);
/* Is there room for that many bytes? */
bool meshd_pool_has_room(size_t size);
/* So many bytes are used by the area in force, and not by the draft. */
size_t meshd_pool_passing(void);

/* For each that is not written yet; stops at false. */
typedef bool meshd_pool_room(size_t at, size_t size, void *arg);
bool meshd_pool_each_new(meshd_pool_room *room, void *arg);
/* The same, copied into the pool at `base`: when no reader can believe an area that referred to what lay there. */
void meshd_pool_write(uint8_t *base);
/* Is all that was written still there? What is not will not be found again. */
bool meshd_pool_is_whole(const uint8_t *base);
/* The file was cut or damaged: nothing is found again. */
void meshd_pool_forget(void);

struct meshd_pool_info {
    size_t size, used;
    uint32_t tables;
};
void meshd_pool_info(struct meshd_pool_info *out);

#endif
