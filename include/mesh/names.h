/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap_names: the names in the snapshot's area [mesh/snapshot.h]: by which host names services are
 * reached, and the virtual addresses that these have [common/vaddr.h]. Three of the area's tables: the
 * virtual domain, buckets (as many as a power of two), and names. A name is found by its hash, an address by
 * its IPv4 form.
 */
#ifndef MESH_NAMES_H
#define MESH_NAMES_H

#include <stdint.h>

#define MESH_HOST_MAX   128u /* a host name with its NUL */
#define MESH_DOMAIN_MAX 64u  /* the virtual domain with its NUL */

/* What an entry answers to. */
enum mesh_name_kind {
    MESH_NAME_HOST = 1,   /* the name itself: services[].hosts */
    MESH_NAME_LABEL = 2,  /* the name itself: a service of the configuration */
    MESH_NAME_DOMAIN = 4, /* the name under the virtual domain */
};

struct mesh_snap_domain {
    char domain[MESH_DOMAIN_MAX]; /* "": none */
    uint32_t spare;
    uint32_t check; /* of all before */
};
_Static_assert(sizeof(struct mesh_snap_domain) == 72, "domain layout");

struct mesh_snap_name_bucket {
    uint32_t name; /* the first one, or MESH_SNAP_NONE */
    uint32_t addr; /* the first one whose address falls here */
    uint32_t spare;
    uint32_t check; /* of all before */
};
_Static_assert(sizeof(struct mesh_snap_name_bucket) == 16, "name bucket layout");

struct mesh_snap_name {
    char name[MESH_HOST_MAX]; /* lower case, zero behind its end */
    uint8_t v4[4], v6[16];    /* the service's virtual address in both families */
    uint32_t service;         /* index into services[] */
    uint32_t next, next_addr; /* in its two buckets */
    uint8_t kind;             /* enum mesh_name_kind, more than one */
    uint8_t pad[3];
    uint32_t check; /* of all before */
};
_Static_assert(sizeof(struct mesh_snap_name) == 168, "name layout");

#endif
