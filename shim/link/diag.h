/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_diag: what the kernel tells of the other end of a connection [sock_diag(7)], where that is in our own namespace.
 */
#ifndef SHIM_LINK_DIAG_H
#define SHIM_LINK_DIAG_H

#include "common/addr.h"

enum shim_far_end {
    SHIM_FAR_UNKNOWN, /* none here: it is another host's, or no socket any more */
    SHIM_FAR_HELD,    /* some process has it */
    SHIM_FAR_LEFT,    /* nobody has it, it only sends what was written, or its end */
};

/* Of the socket at `at` that is connected to `to`, which is conn. */
enum shim_far_end shim_diag_far_end(int conn, const struct mesh_addr *at, const struct mesh_addr *to);

#endif
