/* SPDX-License-Identifier: Apache-2.0
 *
 * hist: a histogram of times in nanoseconds with logarithmic buckets, 256 for each power of two: what it
 * says of a value is at most 1/256 (0.4 %) too high, and never too low. Below 512 ns it is exact. Values
 * above HIST_MAX count as HIST_MAX; `max` has them as they were. One thread.
 */
#ifndef MESHLOAD_HIST_H
#define MESHLOAD_HIST_H

#include <stdint.h>
#include <stdio.h>

#define HIST_BITS    8
#define HIST_MAX     ((UINT64_C(1) << 40) - 1) /* 18 minutes */
#define HIST_BUCKETS ((40 - HIST_BITS) << HIST_BITS | 0xff)

struct hist {
    uint64_t count, min, max;
    double sum;
    uint64_t bucket[HIST_BUCKETS + 1];
};

void hist_init(struct hist *h);
void hist_add(struct hist *h, uint64_t ns);

/* The bucket of a value, and the highest value that it holds. */
unsigned hist_index(uint64_t ns);
uint64_t hist_top(unsigned index);

/* The value that a share `q` (0 to 1) of all does not exceed; 0 when there are none. */
uint64_t hist_at(const struct hist *h, double q);
double hist_mean(const struct hist *h);

/* A JSON object: count, mean, min, percentiles, max, and each bucket that is not empty as [top, count]. */
void hist_write(const struct hist *h, FILE *to);

#endif
