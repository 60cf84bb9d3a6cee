/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_seen: a small memory of peer certificates that were verified under one identity, so that
 * the next handshake with the same peer need not check the issuers' signatures again. An entry is
 * the hash of the leaf and the time in which its whole chain is valid; it dies with the identity,
 * that is with its bundle. The proof that the peer has the key is part of each handshake still.
 *
 * Any thread; no call waits: an entry in use counts as absent.
 */
#ifndef SHIM_TLS_SEEN_H
#define SHIM_TLS_SEEN_H

#include <stdatomic.h>
#include <stdint.h>

#define SHIM_SEEN_ENTRIES 64u /* a power of two */
#define SHIM_SEEN_HASH    32u

struct shim_seen_entry {
    atomic_flag busy;
    uint8_t valid;
    uint8_t as_server; /* role in which we verified the peer */
    uint8_t hash[SHIM_SEEN_HASH];
    int64_t from, until; /* seconds, CLOCK_REALTIME; both included */
};

struct shim_seen {
    struct shim_seen_entry entry[SHIM_SEEN_ENTRIES];
};

/* True when the leaf of that hash was verified for that role and `now` is within its time, the end of
 * which goes to *until. */
int shim_seen_has(struct shim_seen *s, const uint8_t hash[SHIM_SEEN_HASH], int as_server,
                  int64_t now, int64_t *until);
void shim_seen_add(struct shim_seen *s, const uint8_t hash[SHIM_SEEN_HASH], int as_server,
                   int64_t from, int64_t until);

#endif
