/* SPDX-License-Identifier: Apache-2.0
 *
 * hold: connections that do nothing: for what they cost in memory.
 */
#ifndef MESHLOAD_HOLD_H
#define MESHLOAD_HOLD_H

#include "bench/meshload/load.h"

/* Opens `warm` connections that each carry one request and its answer, says "warm", waits for a line; opens
 * spec->connections more, says "held", waits for the end of standard input. 0, or 1 when it failed. */
int hold_run(const struct load_spec *spec, unsigned warm);

#endif
