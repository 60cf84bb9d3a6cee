/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_peer: a process as the kernel describes it. attest/ fills it, policy/ matches rules on it.
 */
#ifndef MESHD_BASE_PEER_H
#define MESHD_BASE_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

struct meshd_peer {
    pid_t pid; /* in meshd's pid namespace */
    uid_t uid;
    gid_t gid;
    uint64_t starttime; /* /proc/PID/stat field 22, clock ticks since boot */
    char exe[256];      /* /proc/PID/exe without " (deleted)"; its comm if that may not be read */
    char unit[128];     /* systemd unit; "user@UID/NAME" below a user manager; "" if none */
};

/* Could it stop meshd anyway? root, or meshd's own user. */
static inline bool
meshd_peer_is_privileged(const struct meshd_peer *p)
{
    return p->uid == 0 || p->uid == geteuid();
}

#endif
