/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_route: see route.h.
 */
#include "shim/route/route.h"

#include <netinet/in.h>
#include <string.h>

#include "shim/link/link.h"
#include "shim/real.h"
#include "shim/route/egress.h"
#include "shim/route/names.h"

/* Is it an address of this namespace? The kernel lets a socket bind to those only. */
static bool
is_local(const struct mesh_addr *a)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    bool v4 = mesh_addr_is_v4(a);
    memcpy(&in.sin_addr, a->ip + 12, 4);
    memcpy(&in6.sin6_addr, a->ip, 16);
    int fd = (int)sys_call(SYS_socket, v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0, 0);
    if (fd < 0) {
        return true; /* cannot tell: take it for ours, which fails closed */
    }
    long r = v4 ? sys_call(SYS_bind, fd, &in, sizeof(in), 0)
                : sys_call(SYS_bind, fd, &in6, sizeof(in6), 0);
    (void)sys_close(fd);
    return r == 0;
}

struct mesh_addr
shim_route_effective(const struct mesh_addr *to)
{
    struct mesh_addr a = *to;
    if (mesh_addr_is_any(to) && mesh_addr_is_v4(to)) {
        memcpy(a.ip + 12, (const uint8_t[]){127, 0, 0, 1}, 4);
    } else if (mesh_addr_is_any(to)) {
        a.ip[15] = 1;
    }
    return a;
}

/* An address that the snapshot does not list with that port. To a virtual one no packet goes. */
static enum mesh_err
decide_unlisted(const struct mesh_snap *snap, const struct mesh_addr *a, bool registry_only,
                enum shim_verdict *out)
{
    struct mesh_named who = {.answer = MESH_NAME_FOREIGN};
    bool allowed = true;
    enum mesh_err e = mesh_vaddr_is(a) ? shim_names_of(a, &who) : MESH_OK;
    if (e == MESH_OK && who.answer != MESH_NAME_FOREIGN) {
        *out = who.answer == MESH_NAME_FOUND ? SHIM_ROUTE_NO_PORT : SHIM_ROUTE_NO_SERVICE;
        return MESH_OK;
    }
    if (e == MESH_OK && registry_only) {
        e = mesh_snap_allows(snap, a, shim_egress_was_told, &allowed);
    }
    if (e == MESH_OK) {
        *out = allowed ? SHIM_ROUTE_PASS : is_local(a) ? SHIM_ROUTE_ABSENT : SHIM_ROUTE_DENY;
    }
    return e;
}

enum mesh_err
shim_route_decide(int fd, const struct mesh_addr *to, struct mesh_snap_hit *hit,
                  enum shim_verdict *out)
{
    struct mesh_snap snap = shim_link_snapshot();
    struct mesh_addr a = shim_route_effective(to);
    bool found = false;
    enum mesh_err e = mesh_snap_find(&snap, shim_link_netns(fd), &a, hit, &found);
    if (e != MESH_OK) {
        return e;
    }
    if (found && hit->needs_local && !is_local(&a)) {
        found = false;
    }
    if (found && hit->endpoint.flags & MESH_EP_SERVICE) {
        *out = SHIM_ROUTE_SERVICE;
        return MESH_OK;
    }
    if (found && hit->endpoint.mode != MESH_MODE_OFF) {
        *out = SHIM_ROUTE_MESH;
        return MESH_OK;
    }
    if (!found) {
        return decide_unlisted(&snap, &a, hit->registry_only, out);
    }
    *out = SHIM_ROUTE_PASS;
    return MESH_OK;
}
