/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_plain: connections that turn out to be none of the mesh's: from then on the program has the kernel's own socket.
 * All functions but shim_plain_late: under the work lock.
 */
#ifndef SHIM_FLOW_PLAIN_H
#define SHIM_FLOW_PLAIN_H

#include "shim/core/fdtab.h"
#include "shim/flow/work.h"

/* The socket is not ours any more: it is a plain one, open (SHIM_FD_OTHER) or not (SHIM_FD_FRESH). True, for the caller to
 * return: the item is done. */
bool shim_plain_forget(struct shim_work *w, enum shim_fd_kind kind);
/* A client of a permissive server's: what was written early goes as it is. False: there was no room for all. */
bool shim_plain_go(struct shim_work *w);
/* To an accepted socket on which there is no TLS yet, and from which nothing more can be read: its client reset it. The
 * kernel has not told anybody yet, and is let to: what poll, SO_ERROR and each call then say is its own word. */
bool shim_plain_is_dead(const struct shim_work *w);
bool shim_plain_bury(struct shim_work *w);
/* The program writes to a client that ended without a byte. True: it is none of the mesh, and fd a plain socket now.
 * Patient: waits for longer where meshd does not answer. */
bool shim_plain_late(int fd, struct shim_slot *s, bool patient);

#endif
