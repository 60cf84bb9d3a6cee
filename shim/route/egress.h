/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_egress: which addresses this process was told for names that egress_allow lists. The list is asked
 * twice: at the look-up, which decides what is worth keeping, and at the connect, by
 * which a name that is not listed any more opens nothing. Some thousand addresses are kept, those that were
 * told or used last; fork hands them on, exec does not.
 */
#ifndef SHIM_ROUTE_EGRESS_H
#define SHIM_ROUTE_EGRESS_H

#include <netdb.h>

#include "common/snap.h"

/* libc has answered `name` with these. errno stays; nothing is done for names that are not listed. Not in a
 * signal handler, as the look-up itself. */
void shim_egress_list(const char *name, const struct addrinfo *list);
void shim_egress_host(const char *name, const struct hostent *host);

/* A mesh_snap_told_fn. Any thread, signal-safe. */
bool shim_egress_was_told(const struct mesh_addr *a, uint64_t pattern);

#endif
