/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_nametab: see nametab.h.
 */
#include "meshd/registry/nametab.h"

#include <stdio.h>

#include "common/snap_names.h"
#include "meshd/registry/snapfile.h"

static uint32_t
add_buckets(uint32_t names)
{
    const struct mesh_snap_name_bucket empty = {.name = MESH_SNAP_NONE, .addr = MESH_SNAP_NONE};
    uint32_t n = 16;
    while (n < names && n < UINT32_C(1) << 24) {
        n *= 2;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (meshd_snapfile_add(MESH_SNAP_NAME_BUCKETS, &empty) == MESH_SNAP_NONE) {
            return 0; /* commit says so */
        }
    }
    return n;
}

/* In front of those that are in its buckets already. */
static void
link_name(uint32_t i, struct mesh_snap_name *n, uint32_t buckets)
{
    struct mesh_snap_name_bucket b;
    uint32_t by_name = mesh_snap_names_at(n->name, buckets), by_addr = mesh_snap_names_addr_at(n->v4, buckets);
    meshd_snapfile_get(MESH_SNAP_NAME_BUCKETS, by_name, &b);
    n->next = b.name;
    b.name = i;
    meshd_snapfile_put(MESH_SNAP_NAME_BUCKETS, by_name, &b);
    meshd_snapfile_get(MESH_SNAP_NAME_BUCKETS, by_addr, &b);
    n->next_addr = b.addr;
    b.addr = i;
    meshd_snapfile_put(MESH_SNAP_NAME_BUCKETS, by_addr, &b);
}

void
meshd_nametab_write(const struct mesh_snap_name *names, uint32_t count, const char *domain)
{
    struct mesh_snap_domain d = {.domain = ""};
    uint32_t buckets = add_buckets(count);
    snprintf(d.domain, sizeof(d.domain), "%s", domain);
    (void)meshd_snapfile_add(MESH_SNAP_DOMAIN, &d);
    for (uint32_t i = count; buckets && i-- > 0;) {
        struct mesh_snap_name n = names[i];
        link_name(count - 1 - i, &n, buckets);
        (void)meshd_snapfile_add(MESH_SNAP_NAMES, &n);
    }
}
