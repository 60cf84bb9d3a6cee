/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_addr: see addr.h.
 */
#include "common/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static const uint8_t v4_prefix[12] = {[10] = 0xff, [11] = 0xff};

bool
mesh_addr_from(struct mesh_addr *out, const struct sockaddr *sa, size_t len)
{
    if (!sa || len < sizeof(sa->sa_family)) {
        return false;
    }
    if (sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof(in));
        memcpy(out->ip, v4_prefix, sizeof(v4_prefix));
        memcpy(out->ip + 12, &in.sin_addr, 4);
        out->port = ntohs(in.sin_port);
        return true;
    }
    if (sa->sa_family == AF_INET6 && len >= 24) { /* the kernel takes RFC 2133's shorter form too */
        struct sockaddr_in6 in6 = {0};
        memcpy(&in6, sa, len < sizeof(in6) ? len : sizeof(in6));
        memcpy(out->ip, &in6.sin6_addr, 16);
        out->port = ntohs(in6.sin6_port);
        return true;
    }
    return false;
}

bool
mesh_addr_is_v4(const struct mesh_addr *a)
{
    return memcmp(a->ip, v4_prefix, sizeof(v4_prefix)) == 0;
}

bool
mesh_addr_is_link_local(const struct mesh_addr *a)
{
    return a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80; /* [RFC4291 2.5.6] */
}

bool
mesh_addr_is_any(const struct mesh_addr *a)
{
    static const uint8_t zero[16];
    return memcmp(a->ip, zero, 16) == 0 || (mesh_addr_is_v4(a) && memcmp(a->ip + 12, zero, 4) == 0);
}

bool
mesh_addr_is_loopback(const struct mesh_addr *a)
{
    static const uint8_t one[16] = {[15] = 1};
    return mesh_addr_is_v4(a) ? a->ip[12] == 127 : memcmp(a->ip, one, 16) == 0;
}

bool
mesh_addr_eq(const struct mesh_addr *a, const struct mesh_addr *b)
{
    return a->port == b->port && memcmp(a->ip, b->ip, 16) == 0;
}

bool
mesh_addr_in(const struct mesh_addr *a, const uint8_t net[16], uint8_t prefix)
{
    unsigned whole = prefix / 8, rest = prefix % 8;
    if (whole > 16 || (whole == 16 && rest)) {
        return false;
    }
    return memcmp(a->ip, net, whole) == 0 && (rest == 0 || (a->ip[whole] ^ net[whole]) >> (8 - rest) == 0);
}

const char *
mesh_addr_text(const struct mesh_addr *a, char *out)
{
    char ip[INET6_ADDRSTRLEN] = "?";
    if (mesh_addr_is_v4(a)) {
        inet_ntop(AF_INET, a->ip + 12, ip, sizeof(ip));
        snprintf(out, MESH_ADDR_TEXT, "%s:%u", ip, a->port);
    } else {
        inet_ntop(AF_INET6, a->ip, ip, sizeof(ip));
        snprintf(out, MESH_ADDR_TEXT, "[%s]:%u", ip, a->port);
    }
    return out;
}
