/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_suite: the three cipher suites [RFC8446 B.4] and the key schedule after the handshake
 * [RFC8446 7.1-7.3].
 */
#ifndef SHIM_TLS_SUITE_H
#define SHIM_TLS_SUITE_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>

#include "mesh/err.h"
#include "shim/tls/tls.h"

#define SHIM_SUITE_TAG 16u
#define SHIM_SUITE_IV  12u
#define SHIM_SUITES    3u

struct shim_suite {
    uint16_t id; /* as on the wire */
    uint8_t index; /* 0 .. SHIM_SUITES - 1 */
    uint8_t key_len, hash_len;
    uint64_t due; /* records after which a KeyUpdate is to be sent */
    uint64_t max; /* records after which sealing fails */
    const char *cipher_name, *md_name;
    size_t gcm_longest; /* content that shim_gcm does; 0 for what is no AES-GCM */
    EVP_CIPHER *cipher; /* fetched once, never freed */
    EVP_MD *md;
};

/* Fetches everything from OpenSSL; once, before all others. */
enum mesh_err shim_suite_init(void) MESH_MUST_CHECK;

/* NULL when unknown. Any thread, signal handlers. */
extern struct shim_suite shim_suites[SHIM_SUITES]; /* in the order of their numbers, from 0x1301 */
static inline const struct shim_suite *
shim_suite_find(uint16_t id)
{
    uint16_t i = (uint16_t)(id - 0x1301);
    return i < SHIM_SUITES ? &shim_suites[i] : NULL;
}

/* Fills a key of generation 0 from an application traffic secret; `key` is untouched on failure. */
enum mesh_err shim_suite_key_init(struct shim_key *key, uint16_t id, const uint8_t *secret,
                                  size_t secret_len) MESH_MUST_CHECK;
/* Moves to the next generation; `key` is untouched on failure. */
enum mesh_err shim_suite_key_update(struct shim_key *key) MESH_MUST_CHECK;

/* [RFC2104]; the key is one hash long, and so is `out`. */
enum mesh_err shim_suite_hmac(const struct shim_suite *s, const uint8_t *key, const uint8_t *in,
                              size_t n, uint8_t *out) MESH_MUST_CHECK;
/* HKDF-Expand-Label(secret, label, context, n) [RFC8446 7.1]: context is a hash, NULL: empty; n is at most
 * one hash, the label at most 12 bytes. */
enum mesh_err shim_suite_expand(const struct shim_suite *s, const uint8_t *secret, const char *label,
                                const uint8_t *context, uint8_t *out, size_t n) MESH_MUST_CHECK;

#endif
