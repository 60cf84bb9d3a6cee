/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_flag: see mesh/flag.h.
 */
#include "mesh/flag.h"

static const struct {
    const char *code, *text;
} flags[MESH_FLAG_COUNT] = {
#define FLAG(name, letters, words) [MESH_FLAG_##name] = {letters, words},
#define CAUSE(reason, out, in)
#include "mesh/flag.def"
#undef FLAG
#undef CAUSE
};

/* A reason without a line has NONE here, which for a reason means "nobody said": LR. */
static const struct {
    uint8_t known, out, in;
} causes[MESH_ERR_COUNT] = {
#define FLAG(name, letters, words)
#define CAUSE(reason, outbound, inbound)                                                           \
    [MESH_E_##reason] = {1, MESH_FLAG_##outbound, MESH_FLAG_##inbound},
#include "mesh/flag.def"
#undef FLAG
#undef CAUSE
};

static enum mesh_flag
of_orderly(bool outbound, uint32_t how)
{
    if (how & MESH_HOW_RESET) {
        return outbound ? MESH_FLAG_UC : MESH_FLAG_DC;
    }
    if (how & MESH_HOW_ABORTED && !(how & MESH_HOW_PEER_END)) {
        return MESH_FLAG_LR;
    }
    /* Given up by the program that connected, before anybody could speak. */
    return how & MESH_HOW_OPENED ? MESH_FLAG_NONE : MESH_FLAG_DC;
}

enum mesh_flag
mesh_flag_of(bool outbound, enum mesh_err reason, uint32_t how)
{
    if (reason == MESH_OK) {
        return of_orderly(outbound, how);
    }
    if ((unsigned)reason >= MESH_ERR_COUNT || !causes[reason].known) {
        return MESH_FLAG_LR;
    }
    enum mesh_flag f = (enum mesh_flag)(outbound ? causes[reason].out : causes[reason].in);
    if (f == MESH_FLAG_UF && how & MESH_HOW_OPENED) {
        return MESH_FLAG_UC; /* it was connected */
    }
    if (f == MESH_FLAG_UF && how & MESH_HOW_OVERFLOW) {
        return MESH_FLAG_UF_UO;
    }
    return f == MESH_FLAG_UF && how & MESH_HOW_EXHAUSTED ? MESH_FLAG_UF_URX : f;
}

const char *
mesh_flag_code(enum mesh_flag f)
{
    return (unsigned)f < MESH_FLAG_COUNT ? flags[f].code : "-";
}

const char *
mesh_flag_text(enum mesh_flag f)
{
    return (unsigned)f < MESH_FLAG_COUNT ? flags[f].text : "";
}
