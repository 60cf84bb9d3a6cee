/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_vaddr: the virtual address of a service, the same on every host, for nothing but trust domain and
 * name decide about it:
 *
 *   IPv4   240.0.0.0/4, one of MESH_VADDR_SLOTS addresses; the last byte is never 0 or 255
 *   IPv6   fdfc:de32:883e, 48 bits of the same hash, and the 32 bits of the IPv4 address
 *
 * So an IPv6 address is nobody else's if its IPv4 form is not. Pure functions; any thread, signal-safe.
 */
#ifndef MESH_COMMON_VADDR_H
#define MESH_COMMON_VADDR_H

#include "common/addr.h"

#define MESH_VADDR_SLOTS (254u << 20)

struct mesh_vaddr {
    uint8_t v4[4], v6[16];
};

/* hash % MESH_VADDR_SLOTS is the slot that the service has if it is free. */
uint64_t mesh_vaddr_hash(const char *trust_domain, const char *service);
void mesh_vaddr_at(struct mesh_vaddr *out, uint64_t hash, uint32_t slot);

/* Is it an address of this kind? Whose, and whether there are any, the names table knows. */
bool mesh_vaddr_is(const struct mesh_addr *a);
/* `v` as an address; family AF_INET or AF_INET6. */
struct mesh_addr mesh_vaddr_addr(const struct mesh_vaddr *v, int family, uint16_t port);

#endif
