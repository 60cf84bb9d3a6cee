/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_table: see table.h.
 */
#include "meshd/registry/table.h"

#include <string.h>

#include "common/hash.h"
#include "common/snap_hash.h"
#include "meshd/base/log.h"
#include "meshd/registry/pool.h"

static bool lacks, complained; /* a table, in the snapshot that is being written; and the log has it */
static size_t wanted;          /* bytes that had no room */

uint64_t
meshd_table_hash(const struct mesh_addr *a, uint32_t salt)
{
    uint8_t text[22];
    memcpy(text, a->ip, 16);
    text[16] = (uint8_t)(a->port >> 8);
    text[17] = (uint8_t)a->port;
    for (unsigned i = 0; i < 4; i++) {
        text[18 + i] = (uint8_t)(salt >> 8 * i);
    }
    return mesh_hash_bytes(text, sizeof(text), 0);
}

/* Two sums of all that the table is made of. */
static void
key_of(const struct meshd_table_rule *r, const struct meshd_table_member *m, uint32_t n, uint64_t key[2])
{
    bool ring = r->load_balancer == MESH_LB_RING_HASH;
    const uint32_t how[] = {r->load_balancer, ring ? r->least : r->size, ring ? r->most : 0, n};
    key[0] = mesh_hash_bytes(how, sizeof(how), 1);
    key[1] = mesh_hash_bytes(how, sizeof(how), 2);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t text[22];
        memcpy(text, m[i].addr.ip, 16);
        memcpy(text + 16, &m[i].addr.port, 2);
        memcpy(text + 18, &m[i].weight, 4);
        key[0] = mesh_hash_bytes(text, sizeof(text), key[0]);
        key[1] = mesh_hash_bytes(text, sizeof(text), key[1]);
    }
}

uint32_t
meshd_table_count(const struct meshd_table_rule *r, const struct meshd_table_member *m, uint32_t n)
{
    if (r->load_balancer != MESH_LB_RING_HASH) {
        return r->size;
    }
    const struct meshd_ring ring = meshd_ring_scale(r, m, n);
    return (uint32_t)meshd_ring_sum(&ring, m, n);
}

uint8_t *
meshd_table_make(const struct meshd_table_rule *r, const struct meshd_table_member *m, uint32_t n)
{
    return r->load_balancer == MESH_LB_RING_HASH ? meshd_ring_make(r, m, n) : meshd_maglev_make(r, m, n);
}

/* One line, until a snapshot has all of its tables. */
static struct mesh_snap_part
none(const char *why, uint32_t n)
{
    if (!complained) {
        log_warn("no hash table for %u endpoints: %s; they are chosen by key and weight alone, and more keys than need be "
                 "move when one comes or goes", n, why);
    }
    complained = lacks = true;
    return (struct mesh_snap_part){0, 0};
}

struct mesh_snap_part
meshd_table_get(const struct meshd_table_rule *r, const struct meshd_table_member *m, uint32_t n)
{
    struct mesh_snap_part found = {0, 0};
    uint64_t key[2];
    if (n < 2) {
        return found; /* there is nothing to choose */
    }
    if (n > MESH_HASH_MEMBERS) {
        return none("there are too many", n);
    }
    key_of(r, m, n, key);
    if (meshd_pool_find(key, &found)) {
        return found;
    }
    uint32_t count = meshd_table_count(r, m, n);
    size_t size = mesh_snap_hash_size(r->load_balancer, count);
    if (!meshd_pool_has_room(size)) {
        wanted += size;
        return none("the tables of all services are larger than the snapshot's pool", n);
    }
    uint8_t *bytes = meshd_table_make(r, m, n);
    if (!bytes || !meshd_pool_add(key, bytes, size, count, &found)) {
        return none("out of memory", n);
    }
    log_debug("a hash table of %u entries for %u endpoints", count, n);
    return found;
}

bool
meshd_table_end(void)
{
    bool again = wanted > 0 && meshd_pool_passing() > 0;
    complained = lacks && complained;
    lacks = false;
    wanted = 0;
    return again;
}
