/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_service: connect() to a service, as the program sees it. What happens meanwhile is retry.h's.
 */
#ifndef SHIM_FLOW_SERVICE_H
#define SHIM_FLOW_SERVICE_H

#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "common/snap.h"
#include "shim/core/slot.h"

struct shim_faults;

/* As shim_conn_connect, or SHIM_CONN_TAKEN, for an address that the look-up says is a service's, or an endpoint's whose connect is to
 * take longer. scope: its sin6_scope_id, 0 if it has none. */
struct shim_asked {
    struct mesh_addr addr;
    uint32_t scope;
};
int shim_service_connect(int fd, const struct shim_asked *to, const struct mesh_snap_hit *hit,
                         const struct shim_faults *f, bool *gated);
/* Waits for it in a blocking connect(). again: in another one than the one that began it. */
int shim_service_await(int fd, struct shim_slot *s, bool again, bool *gated);
/* The same after it has failed and the program has been told: the socket is fresh, as bare. */
bool shim_service_renew(int fd, struct shim_slot *s);
/* getpeername() has the endpoint's address in *sa (of `room` bytes, *len in all): it becomes the one that
 * the program asked for, if that is another. */
void shim_service_peername(const struct shim_slot *s, struct sockaddr *sa, socklen_t room, socklen_t *len);

/* SO_ERROR says `no`, but that answers bytes of the handshake, of which the program knows nothing: bare,
 * it would see a connection that was opened and then ended. */
bool shim_service_excuses(struct shim_slot *s, int no);
/* The same for what poll() found: no POLLHUP where bare the end has come in order. A program that asks for it
 * beside SO_ERROR takes the connect for failed. */
extern _Atomic bool shim_service_used; /* this process connects to services */
void shim_service_mend(struct pollfd *p, nfds_t n);

#endif
