/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_cache: key schedules (EVP_CIPHER_CTX, shim_gcm) of the connections in use just now. Bounded
 * and shared by the whole process, so that a hot connection skips the key schedule and an idle one
 * costs nothing. An entry is found by the key's own bytes, never by a pointer, for the key may
 * move between processes and addresses.
 */
#ifndef SHIM_TLS_CACHE_H
#define SHIM_TLS_CACHE_H

#include <openssl/evp.h>

#include "shim/tls/gcm.h"
#include "shim/tls/suite.h"
#include "shim/tls/tls.h"

#define SHIM_CACHE_WAYS 8u /* keys with the same first byte of the IV that are kept */

/* A key schedule on loan, in the shape that was asked for. */
struct shim_cache_use {
    EVP_CIPHER_CTX *ctx;
    struct shim_gcm *gcm;
    unsigned entry; /* 0: ctx is temporary */
};

/* Once, before all others; without it (or when it fails) every context is temporary. */
void shim_cache_init(void);

/* Lends a context with `key` set for sealing or opening; false when out of memory. Never waits.
 * Allocates nothing when the key, or any key of its suite, had the entry before. After fork. */
int shim_cache_get(const struct shim_suite *s, const struct shim_key *key, int seal,
                   struct shim_cache_use *use);
/* The same for suites with gcm_longest; false also when every entry for this key is in use by
 * others. */
int shim_cache_get_gcm(const struct shim_suite *s, const struct shim_key *key, int seal,
                       struct shim_cache_use *use);
void shim_cache_put(struct shim_cache_use *use);

/* Prepares an entry at a time when allocating is harmless, so that get need not. */
void shim_cache_warm(const struct shim_key *key, int seal);

/* Drops what is kept of a key (both directions); harmless when nothing is. */
void shim_cache_drop(const struct shim_key *key);

/* Drops everything (for tests). */
void shim_cache_fini(void);

#endif
