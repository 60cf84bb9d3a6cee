/* SPDX-License-Identifier: Apache-2.0
 *
 * sched: see sched.h.
 */
#include "bench/meshload/sched.h"

#include <math.h>

double
sched_random(uint64_t *seed)
{
    uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static void
draw(struct sched *s)
{
    switch (s->kind) {
    case SCHED_EVEN:
        s->due = (uint64_t)s->at;
        break;
    case SCHED_JITTER:
        s->due = (uint64_t)(s->at + sched_random(&s->seed) * s->period);
        break;
    case SCHED_POISSON:
        s->at -= log1p(-sched_random(&s->seed)) * s->period;
        s->due = (uint64_t)s->at;
        break;
    case SCHED_MAX:
        break;
    }
}

void
sched_init(struct sched *s, enum sched_kind kind, double rate, uint64_t start, uint64_t seed)
{
    *s = (struct sched){.kind = kind, .due = start, .seed = seed};
    if (kind != SCHED_MAX) {
        s->period = 1e9 / rate;
        s->at = (double)start;
        /* What comes at random has no step to march in. */
        s->at += kind == SCHED_POISSON ? 0 : sched_random(&s->seed) * s->period;
        draw(s);
    }
}

void
sched_next(struct sched *s)
{
    if (s->kind == SCHED_EVEN || s->kind == SCHED_JITTER) {
        s->at += s->period;
    }
    draw(s);
}
