/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_goodbye: how the end of an open connection is said before the kernel's: a close_notify [RFC 8446 6.1], in
 * user space or by the kernel's TLS.
 */
#ifndef SHIM_FLOW_GOODBYE_H
#define SHIM_FLOW_GOODBYE_H

#include "shim/core/slot.h"

/* The orderly end of an open connection whose last descriptor goes. A close with bytes unread is a
 * reset, which takes with it what the peer has not got yet; to bare TCP the peer's end is no byte, to
 * us it is a record. So our end goes out first, and what has come meanwhile is cleared away.
 * -EAGAIN: there is no room for it yet. `try`: other threads' calls are not waited for. */
int shim_goodbye(int fd, struct shim_slot *s, bool try);
/* Takes out control records. False: there is data that the program never read. Not of the kernel's TLS. */
bool shim_goodbye_clear(int fd, struct shim_slot *s, bool try);
/* FIN, behind close_notify. A peer that had closed altogether answers that, which is data, with a reset; it would not
 * to a FIN, so no error is left: a program may look at it before it reads what has come. */
void shim_goodbye_fin(int fd);

#endif
