/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_gcm: OpenSSL's AES-GCM without EVP. One record through EVP costs some 3,000 instructions
 * before the first byte is encrypted (parameters by name, a context's states); for 64 bytes that is
 * four fifths of the work. Here the same code is called that EVP calls in the end, for processors that have the
 * instructions: for short records OpenSSL's AES in counter mode and its GHASH, where what is ours is to put head,
 * content and lengths side by side, so that each is called once; for long ones what does both in one pass.
 *
 * Any thread, signal handlers, after fork; but one shim_gcm is used by one at a time.
 */
#ifndef SHIM_TLS_GCM_H
#define SHIM_TLS_GCM_H

#include <stddef.h>
#include <stdint.h>

#define SHIM_GCM_LONGEST    16384u /* of content */
#define SHIM_GCM_TWO_PASSES 2048u  /* without the processor's AVX and MOVBE EVP is quicker from here on */

extern int shim_gcm_avx; /* of keys that are set from now on, where the processor can; for tests */

/* A key made ready, as secret as the key. */
struct shim_gcm;

/* The longest content that this does: one of the two above, or 0 and nothing below may be called: OpenSSL or the
 * processor has not what it takes. */
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

/* Encrypts n bytes, at most the longest, and one more to `out`, which is `in` or beside it, and makes the tag. False: that
 * is too long, and nothing is written. */
int shim_gcm_seal(struct shim_gcm *g, const struct shim_gcm_record *r, const uint8_t *in, size_t n, uint8_t end,
                  uint8_t *out, uint8_t tag[16]);

/* If the tag is right: decrypts n bytes, at most the longest and one, all but the last to `out`, which is `in` or
 * before it or beside it, and the last to *end, and returns true. Else false, *end is as it was, and what was written
 * of `out` is wiped. */
int shim_gcm_open(struct shim_gcm *g, const struct shim_gcm_record *r, const uint8_t *in, size_t n,
                  const uint8_t tag[16], uint8_t *out, uint8_t *end);

#endif
