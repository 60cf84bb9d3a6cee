/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_rand: numbers for choices and pauses, not for secrets. One sequence a process, seeded by the
 * kernel at its first use and again after fork. Any thread, signal-safe.
 */
#ifndef SHIM_CORE_RAND_H
#define SHIM_CORE_RAND_H

#include <stdint.h>

uint64_t shim_rand(void);
uint32_t shim_rand_below(uint32_t n); /* even in [0, n); 0 for n 0 */
/* The same from a number of one's own, which shim_rand() has begun: for several in one call, without a locked addition
 * for each. */
uint32_t shim_rand_next_below(uint64_t *own, uint32_t n);
void shim_rand_forked(void);

#endif
