/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_fixed: see fixed.h.
 */
#include "common/fixed.h"

#define LOG2E 94548u /* of ONE */

/* 2^-(2^-(i+1)), of 2^32: one factor for each bit of a fraction. */
static const uint32_t roots[16] = {
    0xb504f334, 0xd744fccb, 0xeac0c6e8, 0xf5257d15, 0xfa83b2db, 0xfd3e0c0d, 0xfe9e115c, 0xff4ecb59,
    0xffa75652, 0xffd3a752, 0xffe9d2b3, 0xfff4e91c, 0xfffa747f, 0xfffd3a3b, 0xfffe9d1d, 0xffff4e8e};

uint32_t
mesh_fixed_exp2_neg(uint32_t x)
{
    uint32_t whole = x / MESH_FIXED_ONE;
    uint64_t r = UINT64_C(1) << 32;
    if (whole > 16) {
        return 0;
    }
    for (unsigned i = 0; i < 16; i++) {
        if (x & 0x8000u >> i) {
            r = r * roots[i] >> 32;
        }
    }
    return (uint32_t)(((r >> whole) + (1u << 15)) >> 16);
}

uint32_t
mesh_fixed_log2_neg(uint32_t x)
{
    uint32_t whole = 0, fraction = 0;
    if (x >= MESH_FIXED_ONE) {
        return 0;
    }
    uint64_t y = x ? x : 1;
    while (y < MESH_FIXED_ONE) {
        y <<= 1;
        whole++;
    }
    y <<= 14; /* 1 <= y < 2, of 2^30; its square's whole part is the next bit of its logarithm */
    for (unsigned i = 0; i < 16; i++) {
        y = y * y >> 30;
        fraction <<= 1;
        if (y >= UINT64_C(1) << 31) {
            y >>= 1;
            fraction |= 1;
        }
    }
    return whole * MESH_FIXED_ONE - fraction;
}

uint32_t
mesh_fixed_decay(uint64_t num, uint64_t den)
{
    if (den == 0 || num / 12 >= den) {
        return 0; /* below 1/65536 */
    }
    return mesh_fixed_exp2_neg((uint32_t)(num * LOG2E / den));
}

uint32_t
mesh_fixed_root(uint32_t x, uint32_t aggression)
{
    if (x == 0 || x >= MESH_FIXED_ONE || aggression == 1000 || aggression == 0) {
        return x < MESH_FIXED_ONE ? x : MESH_FIXED_ONE;
    }
    uint64_t log = (uint64_t)mesh_fixed_log2_neg(x) * 1000 / aggression;
    return log < 32 * MESH_FIXED_ONE ? mesh_fixed_exp2_neg((uint32_t)log) : 0;
}
