/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_names: host names and virtual addresses of the mesh, as the program's look-ups and sockets meet
 * them. No lock is held when these return; none may run in a signal handler.
 */
#ifndef SHIM_ROUTE_NAMES_H
#define SHIM_ROUTE_NAMES_H

#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "common/snap_names.h"

/* Whose is `name`? Attaches to meshd if this process has not yet; the first time it waits for it, as
 * connect() does. bind: an address to listen at is wanted. What is certain to be none of the mesh's (an
 * address, this host's own name) costs no look. MESH_E_SNAPSHOT: nobody can say now. */
enum mesh_err shim_names_find(const char *name, bool bind, struct mesh_named *out) MESH_MUST_CHECK;

/* Whose is this address, if it is a virtual one? Does not attach. */
enum mesh_err shim_names_of(const struct mesh_addr *a, struct mesh_named *out) MESH_MUST_CHECK;

/* A virtual address, where only TCP can go? Nothing is sent there, whoever told the process of it: a file, its caller,
 * another image. Attaches as shim_names_find does; without meshd nobody knows, and it is not. */
bool shim_names_forbid(const struct sockaddr *sa, size_t len);

/* The same for each datagram's address: a look at its first byte is what others pay. */
static inline bool
shim_names_stop(const void *sa, size_t len)
{
    const uint8_t *b = sa; /* as in sockaddr_in and sockaddr_in6, of whatever alignment */
    uint16_t family = AF_UNSPEC;
    if (!sa || len < sizeof(struct sockaddr_in)) {
        return false;
    }
    memcpy(&family, b, sizeof(family));
    bool may_be = family == AF_INET ? b[4] >= 0xf0 : family == AF_INET6 && len >= 24 && (b[8] == 0xfd || (b[18] == 0xff && b[20] >= 0xf0));
    return __builtin_expect(may_be, 0) && shim_names_forbid(sa, len);
}

#endif
