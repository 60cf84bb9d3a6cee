/* SPDX-License-Identifier: Apache-2.0
 *
 * calibrate: what this machine can do at best, which every row of the benchmark is held against.
 */
#ifndef CALIBRATE_H
#define CALIBRATE_H

#include <stdbool.h>
#include <stddef.h>

#define REPEATS 11

/* Does something `times` times. False: it cannot be done here. */
typedef bool measure_fn(void *arg, unsigned times);

enum clock_kind {
    CLOCK_CPU,  /* of the thread: for what never waits */
    CLOCK_WALL,
};

/* Repeats fn until a repeat takes some 20 ms, REPEATS times, and reports the median of a single one in
 * nanoseconds, divided by `parts`. */
void measure(const char *name, enum clock_kind clock, double parts, measure_fn *fn, void *arg);

void calibrate_kernel(void);
void calibrate_crypto(void);

#endif
