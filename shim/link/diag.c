/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_diag: see diag.h.
 */
#include "shim/link/diag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <string.h>
#include <sys/socket.h>

#include "shim/core/room.h"
#include "shim/link/link.h"
#include "shim/real.h"

static void
put_addr(__be32 *to, __be16 *port, const struct mesh_addr *a)
{
    bool v4 = mesh_addr_is_v4(a);
    memcpy(to, a->ip + (v4 ? 12 : 0), v4 ? 4 : 16);
    *port = htons(a->port);
}

/* The kernel answers before sendto() returns. */
static enum shim_far_end
ask(int fd, const struct mesh_addr *at, const struct mesh_addr *to)
{
    struct {
        struct nlmsghdr head;
        struct inet_diag_req_v2 what;
    } req = {.head = {.nlmsg_len = sizeof(req), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
             .what = {.sdiag_family = mesh_addr_is_v4(at) ? AF_INET : AF_INET6, .sdiag_protocol = IPPROTO_TCP,
                      .idiag_states = UINT32_MAX,
                      .id = {.idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}}};
    struct {
        struct nlmsghdr head;
        struct inet_diag_msg is;
        uint8_t more[512];
    } rep;
    put_addr(req.what.id.idiag_src, &req.what.id.idiag_sport, at);
    put_addr(req.what.id.idiag_dst, &req.what.id.idiag_dport, to);
    if (sys_send(fd, &req, sizeof(req), MSG_DONTWAIT) != (long)sizeof(req) ||
        sys_recv(fd, &rep, sizeof(rep), MSG_DONTWAIT) < (long)(sizeof(rep.head) + sizeof(rep.is)) ||
        rep.head.nlmsg_type != SOCK_DIAG_BY_FAMILY) {
        return SHIM_FAR_UNKNOWN;
    }
    return rep.is.idiag_inode ? SHIM_FAR_HELD : SHIM_FAR_LEFT;
}

static int
dial(void)
{
    return (int)sys_call(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG, 0);
}

/* The process may be in another namespace than its connection [unshare(2)]: what is there is not the other end. */
enum shim_far_end
shim_diag_far_end(int conn, const struct mesh_addr *at, const struct mesh_addr *to)
{
    int fd = dial();
    if (fd == -EMFILE && shim_room_make()) {
        fd = dial();
        shim_room_end();
    }
    if (fd < 0) {
        return SHIM_FAR_UNKNOWN;
    }
    enum shim_far_end far = shim_link_netns(fd) == shim_link_netns(conn) ? ask(fd, at, to) : SHIM_FAR_UNKNOWN;
    (void)sys_close(fd);
    return far;
}
