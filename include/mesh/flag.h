/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_flag: response flags, made from flag.def; and how a connection ended, from which they follow.
 */
#ifndef MESH_FLAG_H
#define MESH_FLAG_H

#include <stdbool.h>
#include <stdint.h>

#include "mesh/err.h"

enum mesh_flag {
#define FLAG(name, code, text) MESH_FLAG_##name,
#define CAUSE(reason, out, in)
#include "mesh/flag.def"
#undef FLAG
#undef CAUSE
    MESH_FLAG_COUNT
};

/* What is known of a connection besides its reason; bits of struct mesh_page_conn's `how`. */
enum mesh_how {
    MESH_HOW_OPENED = 1,    /* TLS was up, or it is plaintext and the program's */
    MESH_HOW_ROUTED = 2,    /* connect() named a service */
    MESH_HOW_RETRIED = 4,   /* an attempt that failed, and another one followed */
    MESH_HOW_EXHAUSTED = 8, /* it failed, and no attempt was left */
    MESH_HOW_RESET = 16,    /* the peer reset it */
    MESH_HOW_PEER_END = 32, /* the peer sent its end in order */
    MESH_HOW_MOVED = 64,    /* it goes on elsewhere: in the list of another image or process */
    MESH_HOW_ABORTED = 256, /* closed here with SO_LINGER {1,0}: a reset, as the program wished */
    MESH_HOW_OVERFLOW = 512, /* it failed, and a circuit breaker allowed no other attempt */
    MESH_HOW_EXITED = 128,  /* the program exits and said so: who finds the entry open ends it in order */
};

/* Any value is accepted; unknown reasons have LR, unknown bits do nothing. Any thread, signal-safe. */
enum mesh_flag mesh_flag_of(bool outbound, enum mesh_err reason, uint32_t how);
const char *mesh_flag_code(enum mesh_flag f); /* "UF"; "-" for unknown ones */
const char *mesh_flag_text(enum mesh_flag f);

#endif
