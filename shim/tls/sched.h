/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_sched: the key schedule of a handshake that resumes [RFC8446 7.1], for TLS_AES_128_GCM_SHA256, and its
 * transcript hash. The secret in it moves from early to handshake to master. All calls are false
 * when OpenSSL has no memory.
 */
#ifndef SHIM_TLS_SCHED_H
#define SHIM_TLS_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>

#define SHIM_SCHED_SUITE 0x1301u
#define SHIM_SCHED_HASH  32u

struct shim_sched {
    EVP_MD_CTX *transcript;
    uint8_t secret[SHIM_SCHED_HASH];
};

/* Begins with the early secret of a pre-shared key of SHIM_SCHED_HASH bytes. */
bool shim_sched_init(struct shim_sched *s, const uint8_t *psk);
void shim_sched_fini(struct shim_sched *s); /* wipes; after a failed init, and twice, too */

bool shim_sched_add(struct shim_sched *s, const uint8_t *message, size_t n);
bool shim_sched_hash(const struct shim_sched *s, uint8_t hash[SHIM_SCHED_HASH]);

/* To the next secret: with the key exchange's, or NULL for none. */
bool shim_sched_next(struct shim_sched *s, const uint8_t *shared);
/* Derive-Secret(secret, label, what was added so far). */
bool shim_sched_derive(const struct shim_sched *s, const char *label, uint8_t out[SHIM_SCHED_HASH]);

/* verify_data under a traffic secret [RFC8446 4.4.4]: over a hash. */
bool shim_sched_verify_data(const uint8_t *secret, const uint8_t *hash, uint8_t out[SHIM_SCHED_HASH]);
/* The binder of a key that did not come by a ticket [RFC8446 4.2.11.2], from the early secret, over the hash
 * of the hello up to its binders. */
bool shim_sched_binder(const struct shim_sched *s, const uint8_t *hash, uint8_t out[SHIM_SCHED_HASH]);

#endif
