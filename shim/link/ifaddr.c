/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_link, the part about interfaces: their addresses, as the kernel tells them [rtnetlink(7)].
 * getifaddrs(3) would allocate, and listen(2) may be called above the program's malloc.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "shim/link/link_int.h"
#include "shim/real.h"

/* Nothing below is const that the RTA_ and NLMSG_ macros walk over: they cast it away. */
#define ROOM 8192 /* no part of an answer is longer, as no more is asked for [netlink(7)] */

static bool
ask(int fd)
{
    struct {
        struct nlmsghdr head;
        struct ifaddrmsg what;
    } req = {.head = {.nlmsg_len = sizeof(req), .nlmsg_type = RTM_GETADDR,
                      .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}};
    return sys_send(fd, &req, sizeof(req), 0) == (long)sizeof(req);
}

static bool
read_addr(struct nlmsghdr *h, struct mesh_addr *out)
{
    struct ifaddrmsg *m = NLMSG_DATA(h);
    if (h->nlmsg_type != RTM_NEWADDR || (m->ifa_family != AF_INET && m->ifa_family != AF_INET6)) {
        return false;
    }
    size_t want = m->ifa_family == AF_INET ? 4 : 16;
    const uint8_t *ip = NULL;
    int left = (int)IFA_PAYLOAD(h);
    for (struct rtattr *a = IFA_RTA(m); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        if ((a->rta_type == IFA_LOCAL || (a->rta_type == IFA_ADDRESS && !ip)) && RTA_PAYLOAD(a) == want) {
            ip = RTA_DATA(a); /* IFA_ADDRESS is the other end's, where there is one */
        }
    }
    if (!ip) {
        return false;
    }
    *out = (struct mesh_addr){.ip = {[10] = 0xff, [11] = 0xff}};
    if (want == 16) {
        memset(out->ip, 0, 16);
    }
    memcpy(out->ip + 16 - want, ip, want);
    return true;
}

/* False after the last part. */
static bool
read_part(uint8_t *buf, long n, void (*each)(const struct mesh_addr *, void *), void *arg)
{
    struct nlmsghdr *h = (void *)buf;
    struct mesh_addr a;
    for (long left = n; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
        if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR) {
            return false;
        }
        if (read_addr(h, &a)) {
            each(&a, arg);
        }
    }
    return n > 0;
}

void
shim_link_ifaddrs(void (*each)(const struct mesh_addr *, void *), void *arg)
{
    _Alignas(struct nlmsghdr) uint8_t buf[ROOM];
    int fd = (int)sys_call(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE, 0);
    if (fd < 0) {
        return;
    }
    if (ask(fd)) {
        long n;
        do {
            n = sys_recv(fd, buf, sizeof(buf), 0);
        } while (n == -EINTR || (n > 0 && read_part(buf, n, each, arg)));
    }
    (void)sys_close(fd);
}
