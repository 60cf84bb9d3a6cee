/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_show_hash: how ring_hash and maglev choose, for show_why.c only.
 */
#ifndef MESHD_CTL_SHOW_HASH_H
#define MESHD_CTL_SHOW_HASH_H

#include <jansson.h>

#include "common/hash.h"
#include "common/snap_hash.h"

/* Who asks, and which endpoints, by id, may be chosen. */
struct meshd_hash_asker {
    struct mesh_hash_client who;
    bool (*usable)(uint32_t id, void *arg);
    void *arg;
};

/* The key, its hash, and the endpoints in the order of attempts: {"key": "uid=33", "hash": "0x...", "endpoints":
 * ["10.0.0.1:80", ...]}; "hash" is null when nothing of the key is known. New reference; NULL: damage or no memory. */
json_t *meshd_show_hash(const struct mesh_snap_choice *c, const struct mesh_snap_service *s,
                        const struct mesh_snap_group *g, const struct meshd_hash_asker *asker);

#endif
