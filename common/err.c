/* SPDX-License-Identifier: Apache-2.0
 *
 * The error table's accessors; everything comes from mesh/err.def.
 */
#include "mesh/err.h"

#include <stddef.h>

static const struct {
    const char *reason, *text;
    int no;
} table[MESH_ERR_COUNT] = {
    [MESH_OK] = {"ok", "no error", 0},
#define ERR(name, why, no_, txt) [MESH_E_##name] = {#why, txt, no_},
#include "mesh/err.def"
#undef ERR
};

const char *
mesh_err_reason(enum mesh_err e)
{
    return (unsigned)e < MESH_ERR_COUNT ? table[e].reason : "unknown";
}

const char *
mesh_err_text(enum mesh_err e)
{
    return (unsigned)e < MESH_ERR_COUNT ? table[e].text : "unknown error";
}

int
mesh_err_errno(enum mesh_err e)
{
    return (unsigned)e < MESH_ERR_COUNT ? table[e].no : EIO;
}
