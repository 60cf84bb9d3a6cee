/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_sockopt: socket options that the configuration wants on a connection (SHIM_SF_TUNED): pacing,
 * keepalive, user timeout. What the program has set goes before it, be it later, and what the program
 * asks for is what it has set.
 */
#ifndef SHIM_FLOW_SOCKOPT_H
#define SHIM_FLOW_SOCKOPT_H

#include <stdbool.h>
#include <sys/socket.h>

#include "mesh/snapshot.h"
#include "shim/core/slot.h"

/* The connection is open. */
void shim_sockopt_open(int fd, struct shim_slot *s, const struct mesh_snap_limits *l);

/* Something is about to be sent: as many share the service's bandwidth as do now. A look into memory, unless there
 * are others than before. Under tx_lock. */
void shim_sockopt_share(int fd, struct shim_slot *s);

/* The program sets TCP_CORK, on whatever socket. */
void shim_sockopt_cork(void);

/* What has been written of a handshake leaves now: the program's cork is for its own bytes, which wait for it. */
void shim_sockopt_push(int fd);
/* The first data have been written. Bare, nothing small is on its way before them that they would wait for [RFC896]: the
 * handshake's last flight does not hold them back, either. */
void shim_sockopt_first(int fd);

/* Before the kernel's connect(): data in the SYN would leave before TLS, and the connect be put off to the first write.
 * TCP_FASTOPEN_CONNECT is without effect, as with a peer that does not know it [tcp(7)]; the program still reads it as set. */
void shim_sockopt_fast_open(int fd, struct shim_slot *s);
/* The socket is not connected any more: it is to be as the program had set it [tcp_disconnect]. */
void shim_sockopt_fast_open_again(int fd, const struct shim_slot *s);
bool shim_sockopt_was_fast_open(const struct shim_slot *s, int level, int opt);

/* What the kernel answered is to be told: TCP_MAXSEG as a program may set it. */
void shim_sockopt_segment(const struct shim_slot *s, int level, int opt, void *val, socklen_t len);

/* False: it is the kernel's to answer, and to do. Else 0 or -1 with errno in *r, as the system call. */
bool shim_sockopt_get(int fd, struct shim_slot *s, int level, int opt, void *val, socklen_t *len, int *r);
bool shim_sockopt_set(int fd, struct shim_slot *s, int level, int opt, const void *val, socklen_t len, int *r);

#endif
