/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_server: the Unix socket that shims talk to. One request at a time per client, answered by
 * one handler; strict about time and size, and cheap: garbage gets an error reply and the door.
 */
#ifndef MESHD_BASE_SERVER_H
#define MESHD_BASE_SERVER_H

#include <stddef.h>
#include <stdint.h>

#include "mesh/err.h"

struct meshd_request {
    int sock; /* the client's socket, to ask the kernel who it is */
    uint16_t type;
    const uint8_t *body;
    size_t len;
    int fd; /* a descriptor that came along, or -1; a handler that keeps it sets it to -1 */
};

struct meshd_reply {
    enum mesh_err err;
    uint8_t *body; /* malloc'ed by the handler, wiped and freed by the server; NULL with len 0 */
    size_t len;
    int fd[2]; /* -1 or a descriptor, which the server closes after sending */
    uint64_t held; /* not 0: it is not sent before meshd_server_release() of that number */
};

typedef void meshd_server_handler(struct meshd_request *req, struct meshd_reply *rep);

/* Serves `path` (mode 0666). An old socket file of that name is replaced: whoever calls holds the
 * run directory's lock. */
enum mesh_err meshd_server_init(const char *path, meshd_server_handler *handler) MESH_MUST_CHECK;
void meshd_server_fini(void);
uint32_t meshd_server_clients(void);
/* Sends what was held under `number`, or e instead of it; nothing if that client is gone. */
void meshd_server_release(uint64_t number, enum mesh_err e);

/* A listening Unix socket at `path`, non-blocking, with this mode; for other servers too. */
enum mesh_err meshd_server_listen(const char *path, unsigned mode, int *fd) MESH_MUST_CHECK;

#endif
