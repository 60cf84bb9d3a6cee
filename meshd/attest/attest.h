/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_attest: who is at the other end of a Unix socket, by what the kernel says, and which
 * identity it gets. The boundary is what the kernel separates: uid and unit. exe is a label.
 */
#ifndef MESHD_ATTEST_ATTEST_H
#define MESHD_ATTEST_ATTEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mesh/err.h"
#include "mesh/page.h"
#include "meshd/base/peer.h"

struct meshd_identity {
    char service[MESH_SERVICE_MAX];
    char id[MESH_ID_MAX]; /* spiffe://<trust_domain>/ns/<namespace>/sa/<service> */
};

/* Fills *peer for the connected Unix socket fd: the process that connected it. MESH_E_DENIED: it is
 * gone, was replaced meanwhile, or is not visible in meshd's pid namespace. */
enum mesh_err meshd_attest_peer(int fd, struct meshd_peer *peer) MESH_MUST_CHECK;

/* Fills exe and unit of process p->pid, whose start time the caller compares before and after. */
void meshd_attest_look(struct meshd_peer *p);

/* Who connected fd, as the kernel noted it, without looking at the process. */
enum mesh_err meshd_attest_cred(int fd, pid_t *pid, uid_t *uid, gid_t *gid) MESH_MUST_CHECK;

/* The identity of `peer`, which wishes to be called `wish` (may be ""; need not be trusted). */
enum mesh_err meshd_attest_identity(const struct meshd_peer *peer, const char *wish,
                                    struct meshd_identity *out) MESH_MUST_CHECK;

/* Makes the SPIFFE ID of `service` from the current configuration, MESH_ID_MAX bytes at out.
 * MESH_E_CONFIG when it would be too long. */
enum mesh_err meshd_attest_id(const char *service, char *out) MESH_MUST_CHECK;

/* A valid service name (at most MESH_SERVICE_MAX - 1 of [a-zA-Z0-9._-], not "." or "..") from a
 * path's last component; "unknown" when nothing is left. out: MESH_SERVICE_MAX bytes. */
void meshd_attest_service_name(const char *path, char *out);
bool meshd_attest_is_service_name(const char *s);

#endif
