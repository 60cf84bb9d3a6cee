/* SPDX-License-Identifier: Apache-2.0
 *
 * The cipher suites, and HKDF-Expand-Label over a fetched digest. HMAC is spelled out here rather
 * than taken from EVP_KDF, whose every use fetches and so takes OpenSSL's store lock: that lock
 * may be held for ever in the child of a fork, where key_update must still work.
 */
#include "shim/tls/suite.h"

#include <string.h>

#include "shim/tls/gcm.h"
#include "shim/tls/mem.h"

#define HASH_MAX  48u
#define BLOCK_MAX 128u
#define INFO_MAX  80u

/* AES-GCM may protect 2^24.5 full records [RFC8446 5.5]. A KeyUpdate is asked for at a third of
 * it; who goes on for another 2^23 records without one has a bug, and is stopped. */
#define GCM_DUE (UINT64_C(1) << 23)
#define GCM_MAX (UINT64_C(1) << 24)
/* ChaCha20-Poly1305 has only the end of the sequence numbers [RFC8446 5.3]. */
#define CHACHA_DUE (UINT64_C(1) << 62)
#define CHACHA_MAX (UINT64_C(1) << 63)

struct shim_suite shim_suites[SHIM_SUITES] = {
    {0x1301, 0, 16, 32, GCM_DUE, GCM_MAX, "AES-128-GCM", "SHA2-256", 0, NULL, NULL},
    {0x1302, 1, 32, 48, GCM_DUE, GCM_MAX, "AES-256-GCM", "SHA2-384", 0, NULL, NULL},
    {0x1303, 2, 32, 32, CHACHA_DUE, CHACHA_MAX, "ChaCha20-Poly1305", "SHA2-256", 0, NULL, NULL},
};

enum mesh_err
shim_suite_init(void)
{
    for (size_t i = 0; i < SHIM_SUITES; i++) {
        struct shim_suite *s = &shim_suites[i];
        s->cipher = EVP_CIPHER_fetch(NULL, s->cipher_name, NULL);
        s->md = EVP_MD_fetch(NULL, s->md_name, NULL);
        s->gcm_longest = s->id == 0x1303 ? 0 : shim_gcm_longest();
        if (s->cipher == NULL || s->md == NULL)
            return MESH_E_ENGINE;
    }
    return MESH_OK;
}

static int
hash_two(EVP_MD_CTX *ctx, const EVP_MD *md, const uint8_t *pad, size_t block, const uint8_t *in,
         size_t n, uint8_t *out)
{
    return EVP_DigestInit_ex2(ctx, md, NULL) && EVP_DigestUpdate(ctx, pad, block) &&
           EVP_DigestUpdate(ctx, in, n) && EVP_DigestFinal_ex(ctx, out, NULL);
}

enum mesh_err
shim_suite_hmac(const struct shim_suite *s, const uint8_t *key, const uint8_t *in, size_t n, uint8_t *out)
{
    enum mesh_err e = MESH_E_NO_MEMORY;
    uint8_t ipad[BLOCK_MAX] = {0}, opad[BLOCK_MAX] = {0}, inner[HASH_MAX] = {0};
    size_t block = s->hash_len == 48 ? 128 : 64;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (ctx == NULL)
        return e;
    for (size_t i = 0; i < block; i++) {
        uint8_t k = i < s->hash_len ? key[i] : 0;
        ipad[i] = k ^ 0x36;
        opad[i] = k ^ 0x5c;
    }
    if (hash_two(ctx, s->md, ipad, block, in, n, inner) &&
        hash_two(ctx, s->md, opad, block, inner, s->hash_len, out))
        e = MESH_OK;
    EVP_MD_CTX_free(ctx);
    shim_mem_wipe(ipad, sizeof(ipad));
    shim_mem_wipe(opad, sizeof(opad));
    shim_mem_wipe(inner, sizeof(inner));
    return e;
}

/* One HMAC: T(1) = HMAC(secret, length || "tls13 " label || context || 0x01) [RFC5869 2.3]. */
enum mesh_err
shim_suite_expand(const struct shim_suite *s, const uint8_t *secret, const char *label,
                  const uint8_t *context, uint8_t *out, size_t n)
{
    uint8_t info[INFO_MAX] = {0}, t[HASH_MAX] = {0};
    size_t ll = strlen(label), at = 0;
    info[at++] = 0;
    info[at++] = (uint8_t)n;
    info[at++] = (uint8_t)(6 + ll);
    memcpy(info + at, "tls13 ", 6);
    memcpy(info + at + 6, label, ll);
    at += 6 + ll;
    info[at++] = context != NULL ? s->hash_len : 0;
    if (context != NULL) {
        memcpy(info + at, context, s->hash_len);
        at += s->hash_len;
    }
    info[at++] = 1;
    enum mesh_err e = shim_suite_hmac(s, secret, info, at, t);
    if (e == MESH_OK)
        memcpy(out, t, n);
    shim_mem_wipe(t, sizeof(t));
    return e;
}

/* Fills key, IV and lengths from k->secret [RFC8446 7.3]. */
static enum mesh_err
key_derive(struct shim_key *k, const struct shim_suite *s)
{
    k->suite = s->id;
    k->secret_len = s->hash_len;
    k->key_len = s->key_len;
    k->seq = 0;
    enum mesh_err e = shim_suite_expand(s, k->secret, "key", NULL, k->key, s->key_len);
    if (e == MESH_OK)
        e = shim_suite_expand(s, k->secret, "iv", NULL, k->iv, SHIM_SUITE_IV);
    return e;
}

enum mesh_err
shim_suite_key_init(struct shim_key *key, uint16_t id, const uint8_t *secret, size_t secret_len)
{
    const struct shim_suite *s = shim_suite_find(id);
    if (s == NULL || secret_len != s->hash_len)
        return MESH_E_HANDSHAKE;
    struct shim_key k = {0};
    memcpy(k.secret, secret, secret_len);
    enum mesh_err e = key_derive(&k, s);
    if (e == MESH_OK)
        *key = k;
    shim_mem_wipe(&k, sizeof(k));
    return e;
}

enum mesh_err
shim_suite_key_update(struct shim_key *key)
{
    struct shim_key k = {0};
    const struct shim_suite *s = shim_suite_find(key->suite);
    if (s == NULL)
        return MESH_E_BAD_RECORD;
    /* application_traffic_secret_N+1 [RFC8446 7.2] */
    enum mesh_err e = shim_suite_expand(s, key->secret, "traffic upd", NULL, k.secret, s->hash_len);
    if (e == MESH_OK)
        e = key_derive(&k, s);
    k.generation = key->generation + 1;
    if (e == MESH_OK)
        *key = k;
    shim_mem_wipe(&k, sizeof(k));
    return e;
}
