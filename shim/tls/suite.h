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
    EVP_CIPHER *cipher; /* fetched once, never freed */
    EVP_MD *md;
};

/* Fetches everything from OpenSSL; once, before all others. */
enum mesh_err shim_suite_init(void) MESH_MUST_CHECK;

/* NULL when unknown. Any thread, signal handlers. */
const struct shim_suite *shim_suite_find(uint16_t id);

/* Fills a key of generation 0 from an application traffic secret; `key` is untouched on failure. */
enum mesh_err shim_suite_key_init(struct shim_key *key, uint16_t id, const uint8_t *secret,
                                  size_t secret_len) MESH_MUST_CHECK;
/* Moves to the next generation; `key` is untouched on failure. */
enum mesh_err shim_suite_key_update(struct shim_key *key) MESH_MUST_CHECK;

#endif
