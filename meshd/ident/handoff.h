/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_handoff: delivers the last data of a program that is gone [DESIGN D11]: connects with that
 * program's identity, checks the other side's, sends, closes in an orderly way.
 */
#ifndef MESHD_IDENT_HANDOFF_H
#define MESHD_IDENT_HANDOFF_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/addr.h"
#include "mesh/err.h"

#define MESHD_HANDOFFS_MAX 64
#define MESHD_HANDOFF_MS   10000

struct meshd_handoff_job {
    struct mesh_addr to;
    const char *service, *id; /* the identity to show */
    const char *expect_id;    /* the one to see */
    const uint8_t *data;      /* copied */
    size_t len;
    pid_t pid; /* for logs and the certificate list */
    int fd;    /* a TCP socket to connect, taken over in any case; -1: one of meshd's */
};

/* Starts a delivery; MESH_OK means that it was begun, not that it will succeed.
 * MESH_E_NO_MEMORY: too many at once. */
enum mesh_err meshd_handoff_start(const struct meshd_handoff_job *job) MESH_MUST_CHECK;
void meshd_handoff_fini(void);

#endif
