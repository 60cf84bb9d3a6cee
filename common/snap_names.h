/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_snap_names: the reader of the snapshot's names [mesh/names.h]. As snap.h: lock-free,
 * allocates nothing, trusts nothing; any thread, signal-safe.
 */
#ifndef MESH_COMMON_SNAP_NAMES_H
#define MESH_COMMON_SNAP_NAMES_H

#include "common/snap.h"
#include "common/vaddr.h"
#include "mesh/names.h"

#define MESH_NAME_TEXT (MESH_HOST_MAX + MESH_DOMAIN_MAX) /* a name under the domain, with its NUL */

enum mesh_name_answer {
    MESH_NAME_FOREIGN, /* not the mesh's */
    MESH_NAME_FOUND,
    MESH_NAME_UNKNOWN, /* the mesh's by its form, and no service has it */
};

struct mesh_named {
    enum mesh_name_answer answer;
    uint8_t kind; /* the one enum mesh_name_kind by which it was found */
    uint32_t service;
    struct mesh_vaddr addr;
    char text[MESH_NAME_TEXT]; /* of mesh_snap_name_of: the name in full */
};

/* Is `name`, as a program asks for it, a service's? In any case of letters, with or without a dot at the
 * end. UNKNOWN: it lies under the virtual domain. MESH_E_SNAPSHOT: damaged, nobody can say. */
enum mesh_err mesh_snap_name_find(const struct mesh_snap *s, const char *name, struct mesh_named *out) MESH_MUST_CHECK;

/* Whose virtual address is `a`? UNKNOWN: nobody's. FOREIGN: it is not in the ranges of virtual
 * addresses, or there are no virtual addresses at all. */
enum mesh_err mesh_snap_name_of(const struct mesh_snap *s, const struct mesh_addr *a,
                                struct mesh_named *out) MESH_MUST_CHECK;

/* The bucket of a name in lower case, of an IPv4 address; `buckets` is a power of two. */
uint32_t mesh_snap_names_at(const char *name, uint32_t buckets);
uint32_t mesh_snap_names_addr_at(const uint8_t v4[4], uint32_t buckets);

#endif
