/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_ewma: see ewma.h.
 */
#include "common/ewma.h"

#include "common/fixed.h"

static uint64_t
sunk(uint64_t word, uint64_t now_ms, uint32_t *share)
{
    *share = mesh_fixed_decay((uint32_t)((uint32_t)now_ms - (uint32_t)word), MESH_EWMA_DECAY_MS);
    return (word >> 32) * *share / MESH_FIXED_ONE;
}

uint32_t
mesh_ewma_read(uint64_t word, uint64_t now_ms)
{
    uint32_t share = 0;
    if (word == 0) {
        return MESH_EWMA_DEFAULT_US;
    }
    uint64_t us = sunk(word, now_ms, &share);
    return us ? (uint32_t)us : 1;
}

uint64_t
mesh_ewma_next(uint64_t word, uint64_t us, uint64_t now_ms)
{
    uint32_t share = 0;
    uint64_t value = us < UINT32_MAX ? us : UINT32_MAX, old = sunk(word, now_ms, &share);
    if (word != 0 && value < word >> 32) {
        value = old + value * (MESH_FIXED_ONE - share) / MESH_FIXED_ONE;
    }
    return (value ? value : 1) << 32 | (uint32_t)now_ms;
}

void
mesh_ewma_add(_Atomic uint64_t *word, uint64_t us, uint64_t now_ms)
{
    uint64_t was = atomic_load_explicit(word, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(word, &was, mesh_ewma_next(was, us, now_ms),
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}
