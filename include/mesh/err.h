/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_err: the one list of things that can go wrong, for both sides.
 * The table is err.def; code, metrics and documentation are made from it.
 */
#ifndef MESH_ERR_H
#define MESH_ERR_H

#include <errno.h>

enum mesh_err {
    MESH_OK = 0,
#define ERR(name, reason, no, text) MESH_E_##name,
#include "mesh/err.def"
#undef ERR
    MESH_ERR_COUNT
};

#define MESH_MUST_CHECK __attribute__((warn_unused_result))

/* The reason word ("bad_mac"), the text for people, and the errno for the program (0: none).
 * Any value is accepted; unknown ones give "unknown". Any thread, signal-safe. */
const char *mesh_err_reason(enum mesh_err e);
const char *mesh_err_text(enum mesh_err e);
int mesh_err_errno(enum mesh_err e);

#endif
