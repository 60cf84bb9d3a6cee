/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_link, the part about listeners [DESIGN D9]. Keeps what this process registered, by cookie,
 * so that it can be told to a meshd that lost its registry.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "shim/core/env.h"
#include "shim/core/lock.h"
#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/link/link.h"
#include "shim/link/link_int.h"
#include "shim/link/wire.h"
#include "shim/real.h"

#define KEPT     256
#define HINT_MS  200
#define LEAVE_PAUSES 8u /* of 1 ms, and each twice the one before: 255 ms */
#define LEAVE_TIRED  3u /* after one in vain: 7 ms; a process that is stopped as it decides is so for long */

static struct mesh_wire_listen_req kept[KEPT]; /* cookie 0: free */
static struct shim_private lock;

/* A socket through which meshd hears of the last close in this namespace. */
static int
diag_open(void)
{
    int fd = (int)sys_call(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
                           NETLINK_SOCK_DIAG, 0);
    struct sockaddr_nl sa = {.nl_family = AF_NETLINK,
                             .nl_groups = 1u << (SKNLGRP_INET_TCP_DESTROY - 1) |
                                          1u << (SKNLGRP_INET6_TCP_DESTROY - 1)};
    if (fd >= 0 && sys_call(SYS_bind, fd, &sa, sizeof(sa), 0) != 0) {
        (void)sys_close(fd);
        return -1;
    }
    return fd;
}

static enum mesh_err
call_listen(const struct mesh_wire_listen_req *req, int shown, uint8_t *mode)
{
    struct mesh_wire_listen_rep rep = {0};
    struct shim_wire_call c = {.type = MESH_WIRE_LISTEN, .req = req, .req_len = sizeof(*req),
                               .send_fd = shown, .rep = &rep, .rep_cap = sizeof(rep)};
    enum mesh_err e = shim_wire_call(&c, 2000);
    if (e == MESH_OK && rep.need_diag) {
        int diag = diag_open();
        if (diag >= 0) {
            c.send_fd = diag;
            e = shim_wire_call(&c, 2000);
            (void)sys_close(diag);
        }
    }
    if (e == MESH_OK) {
        *mode = rep.mode;
    }
    return e;
}

/* A wildcard listener is reachable from other namespaces by the interfaces' addresses. */
static void
add_ifaddr(const struct mesh_addr *a, void *arg)
{
    struct mesh_wire_listen_req *req = arg;
    struct mesh_addr any = {.port = 0};
    memcpy(any.ip, req->addr, 16);
    bool v6 = !mesh_addr_is_v4(&any), v4 = !(req->flags & MESH_EP_V6ONLY);
    if (req->ifaddrs == MESH_WIRE_IFADDRS || mesh_addr_is_loopback(a) || !(mesh_addr_is_v4(a) ? v4 : v6) ||
        (!mesh_addr_is_v4(a) && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80)) {
        return; /* link-local addresses mean nothing without their interface */
    }
    memcpy(req->ifaddr[req->ifaddrs++], a->ip, 16);
}

static void
keep(const struct mesh_wire_listen_req *req)
{
    if (!shim_private_enter(&lock)) {
        return;
    }
    for (unsigned i = 0; i < KEPT; i++) {
        if (kept[i].cookie == 0 || kept[i].cookie == req->cookie) {
            kept[i] = *req;
            break;
        }
    }
    shim_private_leave(&lock);
}

enum mesh_err
shim_link_listen(int fd, const struct mesh_addr *addr, unsigned how, uint64_t cookie, uint8_t *mode)
{
    struct mesh_wire_listen_req req = {.netns = shim_link_netns(fd), .cookie = cookie,
                                       .port = addr->port};
    struct stat st;
    if (sys_call(SYS_fstat, fd, &st, 0, 0) == 0) {
        req.inode = st.st_ino;
    }
    memcpy(req.addr, addr->ip, 16);
    memcpy(req.service, shim_env.service, sizeof(req.service));
    if (mesh_addr_is_any(addr)) {
        req.flags = (uint8_t)(MESH_EP_ANY | (how & SHIM_LISTEN_V6ONLY ? MESH_EP_V6ONLY : 0));
        shim_link_ifaddrs(add_ifaddr, &req);
    }
    uint64_t until = 0;
    enum mesh_err e;
    do {
        e = call_listen(&req, how & SHIM_LISTEN_SHOW ? fd : -1, mode);
    } while (shim_link_wait(e, &until));
    if (e == MESH_OK) {
        keep(&req);
        shim_stat_add(MESH_STAT_LISTENERS, 1);
    }
    return e;
}

/* Clients that come meanwhile try another endpoint, should meshd not answer. Returns how many may still be on
 * their way. */
static uint32_t
hint(enum mesh_wire_type type, uint64_t cookie)
{
    struct mesh_wire_unlisten_req req = {shim_link_netns(-1), cookie};
    struct mesh_wire_leave_rep rep = {0};
    struct shim_wire_call c = {.type = type, .req = &req, .req_len = sizeof(req), .send_fd = -1};
    if (type == MESH_WIRE_LEAVE) {
        c.rep = &rep;
        c.rep_cap = sizeof(rep);
    }
    if (shim_private_enter(&lock)) {
        for (unsigned i = 0; i < KEPT; i++) {
            req.netns = kept[i].cookie == cookie ? kept[i].netns : req.netns;
        }
        shim_private_leave(&lock);
    }
    enum mesh_err e = shim_wire_call(&c, HINT_MS);
    if (e != MESH_OK) {
        shim_log_debug("hint %d: %s", (int)type, mesh_err_reason(e));
        return 0;
    }
    return rep.deciding;
}

void
shim_link_leave(uint64_t cookie)
{
    static _Atomic bool tired;
    unsigned i = 0, most = atomic_load(&tired) ? LEAVE_TIRED : LEAVE_PAUSES;
    bool any;
    while ((any = hint(MESH_WIRE_LEAVE, cookie) > 0) && i < most) {
        (void)sys_poll(NULL, 0, 1 << i++); /* nobody sleeps while he decides; on a full machine he may not run */
    }
    atomic_store(&tired, any);
}

void
shim_link_listens(uint64_t cookie)
{
    (void)hint(MESH_WIRE_LISTENS, cookie);
}

/* Not told to a new meshd any more. Returns its namespace, `netns` if it was not kept. */
static uint64_t
forget(uint64_t cookie, uint64_t netns)
{
    if (shim_private_enter(&lock)) {
        for (unsigned i = 0; i < KEPT; i++) {
            if (kept[i].cookie == cookie) {
                netns = kept[i].netns;
                kept[i].cookie = 0;
            }
        }
        shim_private_leave(&lock);
    }
    return netns;
}

void
shim_link_listen_forget(uint64_t cookie)
{
    (void)forget(cookie, 0);
}

void
shim_link_unlisten(uint64_t cookie)
{
    struct mesh_wire_unlisten_req req = {forget(cookie, shim_link_netns(-1)), cookie};
    struct shim_wire_call c = {.type = MESH_WIRE_UNLISTEN, .req = &req, .req_len = sizeof(req),
                               .send_fd = -1};
    enum mesh_err e = shim_wire_call(&c, 1000);
    if (e != MESH_OK) {
        /* meshd sees the socket's end by itself. */
        shim_log_debug("unlisten: %s", mesh_err_reason(e));
    }
}

void
shim_link_listen_again(void)
{
    for (unsigned i = 0; i < KEPT; i++) {
        struct mesh_wire_listen_req req = kept[i];
        uint8_t mode = 0;
        if (req.cookie && call_listen(&req, -1, &mode) != MESH_OK) {
            shim_log_error("a listener could not be registered again");
        }
    }
}

void
shim_link_listen_forked(void)
{
    shim_private_forked(&lock, false);
}
