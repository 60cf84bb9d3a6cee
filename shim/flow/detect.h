/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_detect: mode permissive: is the client of the mesh? By its first bytes, or, where the server speaks
 * first, by what meshd knows of it.
 */
#ifndef SHIM_FLOW_DETECT_H
#define SHIM_FLOW_DETECT_H

#include "shim/flow/work.h"

enum shim_detect {
    SHIM_DETECT_WAIT,  /* not known yet: it is looked at again when it is readable, or at w->detect_at */
    SHIM_DETECT_TLS,   /* its handshake is ours */
    SHIM_DETECT_PLAIN, /* nothing of it is */
    SHIM_DETECT_GONE,  /* it has ended without a byte */
    SHIM_DETECT_RESET, /* or with a reset */
};

/* Under the work lock. Consumes nothing. */
enum shim_detect shim_detect(struct shim_work *w);
/* Of a client that has ended without a byte: nobody of the mesh is known to be there, so what the program says is for
 * it. Asks meshd. */
bool shim_detect_is_outside(int fd, const struct shim_slot *s);

#endif
