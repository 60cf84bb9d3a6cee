/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_link: the talk with meshd (mesh/wire.h). Each request opens a Unix connection, high-numbered
 * and close-on-exec, and closes it before it returns: in steady state we own no descriptor.
 *
 * All calls may block for a bounded time; none may run in a signal handler. Errors: NO_MESHD,
 * PROTOCOL, VERSION, or what meshd answered.
 */
#ifndef SHIM_LINK_LINK_H
#define SHIM_LINK_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/snap.h"
#include "mesh/err.h"
#include "mesh/wire.h"

/* Attaches if this process tree has not yet, waiting up to LIBMESH_WAIT for meshd the first time;
 * attaches again when the snapshot has gone stale. MESH_E_NO_MESHD when there is no snapshot. */
enum mesh_err shim_link_ready(void) MESH_MUST_CHECK;

/* After a call that the program's connect or listen cannot do without: true if it should be made again. *until,
 * 0 at first, ends the waiting: LIBMESH_WAIT later, or at once when someone has waited in vain
 * since meshd was last there. No lock may be held. */
bool shim_link_wait(enum mesh_err e, uint64_t *until);

/* Attaches if meshd is there right now; for those that can do without. */
enum mesh_err shim_link_try(void);

/* The mapped snapshot; size 0 before the first attach, and while its file is cut short. To be asked
 * for before each use and not kept. */
struct mesh_snap shim_link_snapshot(void);
/* A look-up found it damaged: the next shim_link_ready() asks meshd. */
void shim_link_damaged(void);
/* The network namespace of socket fd, by SO_NETNS_COOKIE: a process may have left the one in which it
 * made the socket. fd -1: the one of its start. 0 where the kernel has none. */
uint64_t shim_link_netns(int fd);
const char *shim_link_id(void); /* own SPIFFE ID, "" before attach */

struct shim_link_cert {
    struct mesh_wire_cert_rep rep;
    uint8_t blob[16384]; /* chain, key, bundle; wiped by the caller */
};
enum mesh_err shim_link_cert(struct shim_link_cert *out) MESH_MUST_CHECK;

#define SHIM_LISTEN_V6ONLY 1u
#define SHIM_LISTEN_SHOW   2u /* it was inherited, perhaps from another user: meshd is shown the socket */
enum mesh_err shim_link_listen(int fd, const struct mesh_addr *addr, unsigned how, uint64_t cookie,
                               uint8_t *mode);
void shim_link_unlisten(uint64_t cookie);
void shim_link_listen_forget(uint64_t cookie); /* the same without a word: another process has it */
/* After listen(): clients may be sent there. */
void shim_link_listens(uint64_t cookie);
/* Before the close of what may be the last descriptor: nobody is sent there any more. */
void shim_link_leave(uint64_t cookie);
/* *known: whether meshd knows a mesh connection from client address a to our address `to` (enum mesh_peer_known).
 * fd: our end of it, whose namespace is meant. */
enum mesh_err shim_link_peer_known(int fd, const struct mesh_addr *a, const struct mesh_addr *to,
                                   uint32_t *known) MESH_MUST_CHECK;
enum mesh_err shim_link_handoff(int fd, const struct mesh_addr *to, const char *expect_id,
                                const void *data, size_t n) MESH_MUST_CHECK;

/* Before a connection is passed to a process of whatever tree: meshd keeps its region for it. */
enum mesh_err shim_link_lend(uint64_t cookie, int region_fd) MESH_MUST_CHECK;
/* A TCP connection came from somewhere. *known: it is of the mesh. *region_fd: where it lives, -1 if
 * that is not for us; the caller closes it. */
enum mesh_err shim_link_claim(int fd, bool *known, int *region_fd) MESH_MUST_CHECK;

/* The live state that the snapshot names becomes the process's, if it is not yet. Asks meshd, at most once a second. */
void shim_link_live(uint32_t live);

void shim_link_forked(void);

#endif
