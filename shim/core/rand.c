/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_rand: see rand.h. SplitMix64: one atomic addition, then mixing, so threads need no lock.
 */
#include "shim/core/rand.h"

#include <stdatomic.h>

#include "shim/real.h"

static _Atomic uint64_t state; /* 0: not seeded */

#define STEP UINT64_C(0x9e3779b97f4a7c15)

static void
seed(void)
{
    uint64_t fresh = 0, none = 0;
    if (sys_call(SYS_getrandom, &fresh, sizeof(fresh), 1 /* GRND_NONBLOCK */, 0) != sizeof(fresh)) {
        fresh = shim_now() ^ (uint64_t)sys_getpid() << 40; /* early in a boot */
    }
    (void)atomic_compare_exchange_strong(&state, &none, fresh | 1);
}

static uint64_t
mix(uint64_t z)
{
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t
shim_rand(void)
{
    if (atomic_load_explicit(&state, memory_order_relaxed) == 0) {
        seed();
    }
    return mix(atomic_fetch_add_explicit(&state, STEP, memory_order_relaxed));
}

/* The high half of a product; what is uneven about it is below n / 2^32 of its value. */
uint32_t
shim_rand_below(uint32_t n)
{
    return (uint32_t)((shim_rand() >> 32) * n >> 32);
}

uint32_t
shim_rand_next_below(uint64_t *own, uint32_t n)
{
    *own += STEP;
    return (uint32_t)((mix(*own) >> 32) * n >> 32);
}

void
shim_rand_forked(void)
{
    atomic_store(&state, 0);
}
