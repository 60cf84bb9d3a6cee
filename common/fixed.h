/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_fixed: powers and logarithms in integers: connect() may stand in a signal handler, above a program
 * with a rounding mode and exceptions of its own. Numbers are in 1/65536 (ONE). Pure functions.
 */
#ifndef MESH_COMMON_FIXED_H
#define MESH_COMMON_FIXED_H

#include <stdint.h>

#define MESH_FIXED_ONE 65536u

/* 2^-x. */
uint32_t mesh_fixed_exp2_neg(uint32_t x);
/* -log2(x) for 0 < x <= ONE; what is greater counts as ONE, 0 as the least. */
uint32_t mesh_fixed_log2_neg(uint32_t x);
/* e^-(num / den); den 0 counts as no time at all: 0. */
uint32_t mesh_fixed_decay(uint64_t num, uint64_t den);
/* x^(1000 / aggression), 0 <= x <= ONE. */
uint32_t mesh_fixed_root(uint32_t x, uint32_t aggression);

#endif
