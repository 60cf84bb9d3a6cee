/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_conn: the life of a mesh connection as the program sees it: connect, accept, dup, shutdown,
 * close, names and options. Functions that stand for a system call return as it does (-1, errno).
 */
#ifndef SHIM_FLOW_CONN_H
#define SHIM_FLOW_CONN_H

#include <stdbool.h>
#include <sys/socket.h>

#include "shim/core/slot.h"

#define SHIM_PASS (-4095) /* not a mesh connection (any more): make the real call */

/* connect() of a TCP socket to an IPv4 or IPv6 address. *gated: the program must not see readiness
 * before the handshake is done (DESIGN D3). */
int shim_conn_connect(int fd, const struct sockaddr *sa, socklen_t len, bool *gated);
/* connect(AF_UNSPEC): the connection is gone, the socket lives. */
int shim_conn_unspec(int fd, const struct sockaddr *sa, socklen_t len);
/* The same, without an error left on it, of a connection that failed; false when fd's word is not `word` any more. */
bool shim_conn_reset(int fd, uint32_t word);

/* listen() is about to be called: registers [DESIGN D9]. Before, not after: between the two a client
 * would find a listener that the registry does not know, and speak plaintext to it. 0, or an errno
 * for the program. */
int shim_conn_listen(int fd);
/* accept() or poll() on a socket that we did not see listen(): inherited, or received. Registers it if
 * it is a TCP listener, and remembers if not. As above. */
int shim_conn_listen_inherited(int fd);
/* A descriptor that another image or process left to us; if it is such a listener, poll() shall see. */
void shim_conn_inherited(int fd);
/* listen() failed after all. */
void shim_conn_listen_failed(int fd);
/* It succeeded. */
void shim_conn_listens(int fd);
/* accept() gave fd, of a listener whose descriptor word was `word` when it was called: 0, or an errno
 * (then fd is closed). EAGAIN: the client had gone before it was heard (meshd repeats its connection
 * [DESIGN D11]); accept the next one. A blocking accept waits a moment for a handshake that has begun:
 * the program may be away for long afterwards. */
int shim_conn_accepted(int listener, uint32_t word, int fd);

/* `to` now is the same connection or listener as `from`. */
void shim_conn_dup(int from, int to);
/* Some socket was duplicated before its connection was up: what happens to one number then
 * concerns others too. */
bool shim_conn_has_aliases(void);
/* fd, a fresh socket until now, has got its word: its duplicates get it too. Their number. */
uint32_t shim_conn_adopt_aliases(int fd);
int shim_conn_close(int fd);
/* dup2 and friends are about to replace fd. */
void shim_conn_replaced(int fd);
int shim_conn_shutdown(int fd, int how);

int shim_conn_getpeername(int fd, struct sockaddr *sa, socklen_t *len);
int shim_conn_getsockopt(int fd, int level, int opt, void *val, socklen_t *len);
int shim_conn_setsockopt(int fd, int level, int opt, const void *val, socklen_t len);

/* The last descriptor is gone: statistics, and the slot is free. */
void shim_conn_end(struct shim_slot *s);

/* The slot behind fd; NULL: it is none of the mesh any more, and the table is corrected. */
struct shim_slot *shim_conn_slot(int fd);
/* The kernel said ENOTSOCK: the number was closed and given out anew where we could not see it.
 * (Every way to a new *socket* is seen, so that a stale number is never another connection.) */
__attribute__((cold)) void shim_conn_stale(int fd);
/* The program waits for fd: if its handshake slept since fork, it is this process's now. */
void shim_conn_wake(int fd);
/* Which of POLLIN and POLLOUT the program may see now; ~0 for everything (no gate). */
short shim_conn_visible(int fd);

/* True, and the connection FAILED, when the process that drives its handshake is no more. */
bool shim_conn_is_orphan(struct shim_slot *s);
/* True of a client's that is, or was, such a one and whose server has heard nothing: an end in order would look like that of
 * a client outside the mesh, to which servers speak. It is to end by a reset. */
bool shim_conn_is_mute(struct shim_slot *s);

void shim_conn_before_fork(void);
void shim_conn_fork_failed(void);
void shim_conn_forked(void);
/* The process ends with connections open, and nobody else holds them. for_good: nothing of the program
 * runs any more, so it is their orderly end; else what would make the kernel's close a reset is
 * cleared away, for a destructor may still write. */
void shim_conn_exit(bool for_good);
/* That end is under way. Other threads may still run for a moment; to bare TCP they could still write. */
bool shim_conn_is_over(void);

#endif
