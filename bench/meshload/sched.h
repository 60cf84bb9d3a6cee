/* SPDX-License-Identifier: Apache-2.0
 *
 * sched: when a connection's requests are due. That depends on the rate alone, never on how long answers take:
 * who is behind sends late, and the time of waiting counts as latency. Else a server that stalls would be
 * measured only as often as it answers ("coordinated omission").
 */
#ifndef MESHLOAD_SCHED_H
#define MESHLOAD_SCHED_H

#include <stdint.h>

enum sched_kind {
    SCHED_EVEN,    /* equal distances */
    SCHED_JITTER,  /* one in each period, anywhere in it */
    SCHED_POISSON, /* independent of each other */
    SCHED_MAX,     /* always due: as fast as answers come */
};

struct sched {
    enum sched_kind kind;
    double period; /* nanoseconds */
    double at;     /* begin of the present period */
    uint64_t due;  /* when the next request is to be sent */
    uint64_t seed;
};

/* `rate` a second, from `start` on; the first period begins anywhere in one period from there, so that
 * connections do not march in step. */
void sched_init(struct sched *s, enum sched_kind kind, double rate, uint64_t start, uint64_t seed);

/* The next request was taken: `due` is the one after it, never earlier. */
void sched_next(struct sched *s);

/* A number in [0, 1); the state is *seed. SplitMix64. */
double sched_random(uint64_t *seed);

#endif
