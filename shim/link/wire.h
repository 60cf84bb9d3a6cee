/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_wire: one exchange with meshd over its Unix socket; framing, time limits, descriptors.
 * The only file of the shim that handles SCM_RIGHTS on its own account.
 */
#ifndef SHIM_LINK_WIRE_H
#define SHIM_LINK_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "mesh/err.h"
#include "mesh/wire.h"

struct shim_wire_call {
    uint16_t type;
    const void *req, *req2; /* body in two parts */
    size_t req_len, req2_len;
    int send_fd; /* -1: none */
    void *rep;
    size_t rep_cap, rep_len; /* room, and what came */
    int fd[2];               /* descriptors that came, -1: none; the caller closes them */
};

/* Calls `each` with every descriptor that a message of the program carries [unix(7)]. */
void shim_wire_each_fd(const struct msghdr *m, void (*each)(int fd, int arg), int arg);

/* Connects, sends, receives, closes; at most timeout_ms in all. */
enum mesh_err shim_wire_call(struct shim_wire_call *c, int timeout_ms) MESH_MUST_CHECK;

#endif
