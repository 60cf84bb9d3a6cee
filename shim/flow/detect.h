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
enum shim_origin {
    SHIM_ORIGIN_MESH,    /* or perhaps of it, and gone: nothing is said */
    SHIM_ORIGIN_OUTSIDE, /* nobody of the mesh is known to be there: what the program says is for it */
    SHIM_ORIGIN_UNKNOWN, /* just now: meshd does not answer, or somebody is in the kernel's connect() */
};

/* Of a client that has ended without a byte. Asks meshd. */
enum shim_origin shim_detect_origin(int fd, const struct shim_slot *s);

#endif
