/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_gcm: OpenSSL's AES-GCM without EVP. One record through EVP costs some 3,000 instructions
 * before the first byte is encrypted (parameters by name, a context's states); for 64 bytes that is
 * four fifths of the work. Here the same code is called that EVP calls in the end: OpenSSL's AES in
 * counter mode and its GHASH for processors that have the instructions. What is ours is to put head,
 * content and lengths side by side, so that each is called once. Only EVP reaches OpenSSL's code that
 * hashes and encrypts in one pass, so long records stay there.
 *
 * Any thread, signal handlers, after fork; but one shim_gcm is used by one at a time.
 */
#ifndef SHIM_TLS_GCM_H
#define SHIM_TLS_GCM_H

#include <stddef.h>
#include <stdint.h>

#define SHIM_GCM_LONGEST 2048u /* the longest content for which this is quicker than EVP */

extern int shim_gcm_avx; /* of keys that are set from now on, where the processor can; for tests */

/* A key made ready, as secret as the key. */
struct shim_gcm;

/* SHIM_GCM_LONGEST, or 0 and nothing below may be called: OpenSSL or the processor has not what it
 * takes. */
size_t shim_gcm_longest(void);

/* NULL when out of memory. It has no key yet. */
struct shim_gcm *shim_gcm_new(void);
void shim_gcm_free(struct shim_gcm *g);

/* key_len 16 or 32. Whatever was there before, an interrupted use included, is gone. */
void shim_gcm_key(struct shim_gcm *g, const uint8_t *key, size_t key_len);

/* What belongs to one record beside its bytes. */
struct shim_gcm_record {
    const uint8_t *nonce; /* 12 bytes */
    const uint8_t *head;  /* authenticated, at most 16 bytes */
    size_t head_len;
};

/* Encrypts n bytes where they are, and makes the tag. False: it cannot, and they are wiped. */
int shim_gcm_seal(struct shim_gcm *g, const struct shim_gcm_record *r, uint8_t *at, size_t n,
                  uint8_t tag[16]);

/* If the tag is right: decrypts 1 <= n <= SHIM_GCM_LONGEST + 1 bytes, all but the last to `out`
 * (which may overlap `in`) and the last to *end, and returns true. Else false, and nothing is
 * written. */
int shim_gcm_open(struct shim_gcm *g, const struct shim_gcm_record *r, const uint8_t *in, size_t n,
                  const uint8_t tag[16], uint8_t *out, uint8_t *end);

#endif
