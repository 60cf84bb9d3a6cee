/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_netlink: the kernel's word about listening sockets, by NETLINK_SOCK_DIAG, one socket per
 * network namespace: told when a socket's last holder is gone, and asked which sockets listen.
 *
 * The socket of meshd's own namespace, and of those that it may enter (CAP_SYS_ADMIN), is meshd's own
 * and trusted. For others a process of the namespace sends one. It may keep a copy, steal our
 * answers, and so make listeners seem gone; hence such a socket counts for its sender's uid alone.
 */
#ifndef MESHD_REGISTRY_NETLINK_H
#define MESHD_REGISTRY_NETLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/addr.h"
#include "mesh/err.h"

struct meshd_listening {
    uint64_t cookie;
    struct mesh_addr addr;
    uint32_t uid, inode;
};

/* The last holder of a socket is gone; `uid` as below. */
typedef void meshd_netlink_gone(uint64_t netns, uid_t uid, bool trusted, uint64_t cookie);
/* All events that were there are told; `lost`: some were lost, look at everything. */
typedef void meshd_netlink_told(bool lost);

enum mesh_err meshd_netlink_init(meshd_netlink_gone *gone, meshd_netlink_told *told) MESH_MUST_CHECK;
void meshd_netlink_fini(void);

/* Is there a socket for netns whose word counts for uid's listeners? */
bool meshd_netlink_covers(uint64_t netns, uid_t uid);
/* Opens one by meshd's own means: its own namespace, or pid's if that is netns. */
bool meshd_netlink_open(uint64_t netns, pid_t pid);
/* Takes a socket that a process of uid sent; on success *fd is -1. MESH_E_PROTOCOL: it is not what
 * it should be. */
enum mesh_err meshd_netlink_adopt(uint64_t netns, uid_t uid, int *fd) MESH_MUST_CHECK;
/* Nothing is registered in netns any more: its sockets (not our own namespace's) are closed, which
 * would else keep it alive. */
void meshd_netlink_drop(uint64_t netns);
uint32_t meshd_netlink_namespaces(void);
uint64_t meshd_netlink_own(void);
uint64_t meshd_netlink_of(int fd); /* a socket's, 0: the kernel does not tell */

/* All listening sockets of netns on `port` (0: all ports). *out: malloc'ed, *n entries, the
 * caller's. MESH_E_SYSTEM: the kernel cannot tell. */
enum mesh_err meshd_netlink_list(uint64_t netns, uid_t uid, uint16_t port,
                                 struct meshd_listening **out, size_t *n) MESH_MUST_CHECK;

#endif
