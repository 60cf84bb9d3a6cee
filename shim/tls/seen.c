/* SPDX-License-Identifier: Apache-2.0
 *
 * Verified peers: direct-mapped by the leaf's hash; a newer peer takes an older one's place.
 */
#include "shim/tls/seen.h"

#include <string.h>

static struct shim_seen_entry *
entry_lock(struct shim_seen *s, const uint8_t *hash, int as_server)
{
    unsigned i = (hash[0] + (as_server ? 1u : 0u)) % SHIM_SEEN_ENTRIES;
    struct shim_seen_entry *e = &s->entry[i];
    return atomic_flag_test_and_set_explicit(&e->busy, memory_order_acquire) ? NULL : e;
}

static void
entry_unlock(struct shim_seen_entry *e)
{
    atomic_flag_clear_explicit(&e->busy, memory_order_release);
}

int
shim_seen_has(struct shim_seen *s, const uint8_t hash[SHIM_SEEN_HASH], int as_server, int64_t now,
              int64_t *until)
{
    struct shim_seen_entry *e = entry_lock(s, hash, as_server);
    if (e == NULL)
        return 0;
    int has = e->valid && e->as_server == (as_server != 0) && now >= e->from &&
              now <= e->until && memcmp(e->hash, hash, SHIM_SEEN_HASH) == 0;
    if (has)
        *until = e->until;
    entry_unlock(e);
    return has;
}

void
shim_seen_add(struct shim_seen *s, const uint8_t hash[SHIM_SEEN_HASH], int as_server, int64_t from,
              int64_t until)
{
    struct shim_seen_entry *e = entry_lock(s, hash, as_server);
    if (e == NULL)
        return;
    memcpy(e->hash, hash, SHIM_SEEN_HASH);
    e->as_server = as_server != 0;
    e->from = from;
    e->until = until;
    e->valid = 1;
    entry_unlock(e);
}
