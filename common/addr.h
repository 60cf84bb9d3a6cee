/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_addr: a TCP address in one form for both families: 16 bytes (IPv4 as ::ffff:a.b.c.d) and a
 * port in host byte order. Pure functions; any thread, signal-safe.
 */
#ifndef MESH_COMMON_ADDR_H
#define MESH_COMMON_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define MESH_ADDR_TEXT 56 /* "[ipv6]:port" with its NUL */

struct mesh_addr {
    uint8_t ip[16];
    uint16_t port;
};

/* False when sa is NULL, too short, or neither AF_INET nor AF_INET6. */
bool mesh_addr_from(struct mesh_addr *out, const struct sockaddr *sa, size_t len);
bool mesh_addr_is_v4(const struct mesh_addr *a);
bool mesh_addr_is_loopback(const struct mesh_addr *a);
bool mesh_addr_is_any(const struct mesh_addr *a);
bool mesh_addr_is_link_local(const struct mesh_addr *a); /* of IPv6: nothing without its interface (sin6_scope_id) */
bool mesh_addr_eq(const struct mesh_addr *a, const struct mesh_addr *b);
/* Are its first `prefix` bits those of net? IPv4 networks are 96 bits longer; 0 holds all. */
bool mesh_addr_in(const struct mesh_addr *a, const uint8_t net[16], uint8_t prefix);
/* "127.0.0.1:80" or "[::1]:80" into out (MESH_ADDR_TEXT bytes); returns out. */
const char *mesh_addr_text(const struct mesh_addr *a, char *out);

#endif
