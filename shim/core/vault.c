/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_vault: see vault.h.
 */
#include "shim/core/vault.h"

#include <stdatomic.h>
#include <string.h>

#include "shim/core/region.h"

static _Atomic uint64_t *
place(enum shim_vault_table t, uint64_t hash)
{
    struct shim_region *r = shim_region();
    return r ? r->vault.word[t][hash % SHIM_VAULT_RECORDS] : NULL;
}

/* Of the length, too; never 0, which is what an empty place has. */
static uint64_t
checksum(const uint64_t *word, size_t words, size_t n)
{
    uint64_t h = n * UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = 0; i < words; i++) {
        h = (h ^ word[i]) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
    }
    return h | 1;
}

void
shim_vault_put(enum shim_vault_table t, uint64_t hash, const void *record, size_t n)
{
    uint64_t word[SHIM_VAULT_WORDS - 1] = {0};
    size_t words = (n + 7) / 8;
    _Atomic uint64_t *p = place(t, hash);
    if (!p || n > sizeof(word)) {
        return;
    }
    memcpy(word, record, n);
    for (size_t i = 0; i < words; i++) {
        atomic_store_explicit(&p[1 + i], word[i], memory_order_relaxed);
    }
    atomic_store_explicit(&p[0], checksum(word, words, n), memory_order_release);
    explicit_bzero(word, sizeof(word));
}

bool
shim_vault_get(enum shim_vault_table t, uint64_t hash, void *record, size_t n)
{
    uint64_t word[SHIM_VAULT_WORDS - 1];
    size_t words = (n + 7) / 8;
    _Atomic uint64_t *p = place(t, hash);
    if (!p || n > sizeof(word)) {
        return false;
    }
    uint64_t sum = atomic_load_explicit(&p[0], memory_order_acquire);
    for (size_t i = 0; sum && i < words; i++) {
        word[i] = atomic_load_explicit(&p[1 + i], memory_order_relaxed);
    }
    bool whole = sum != 0 && sum == checksum(word, words, n);
    if (whole) {
        memcpy(record, word, n);
    }
    explicit_bzero(word, sizeof(word));
    return whole;
}
