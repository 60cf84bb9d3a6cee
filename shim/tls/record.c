/* SPDX-License-Identifier: Apache-2.0
 *
 * Records. On the wire [RFC8446 5.2]:
 *
 *   | 23 | 03 03 | length | encrypted: content ... | type | zeros ... | tag 16 |
 *   `------ head, 5, authenticated ------'
 *
 * A record is sealed in place of its output; it is opened straight into the caller's buffer, whose
 * end is one byte before the inner type, so the last inner byte is always decrypted apart.
 */
#include "shim/tls/record.h"

#include <endian.h>
#include <stdatomic.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include "shim/tls/cache.h"
#include "shim/tls/gcm.h"
#include "shim/tls/mem.h"
#include "shim/tls/suite.h"

#define TAG       SHIM_SUITE_TAG
#define INNER_MAX (SHIM_REC_PLAIN_MAX + 1u) /* content, type and padding [RFC8446 5.4] */
/* Up to here copying the content beside its type is cheaper than a second call of the cipher. */
#define COPY_MAX 2048u

static void
nonce_make(uint8_t nonce[SHIM_SUITE_IV], const struct shim_key *key, uint64_t seq)
{
    uint64_t low; /* [RFC8446 5.3]: the number, in network order, on the IV's last eight bytes */
    memcpy(nonce, key->iv, SHIM_SUITE_IV);
    memcpy(&low, nonce + SHIM_SUITE_IV - 8, sizeof(low));
    low ^= htobe64(seq);
    memcpy(nonce + SHIM_SUITE_IV - 8, &low, sizeof(low));
}

static void
head_write(uint8_t *rec, size_t cipher_len)
{
    rec[0] = SHIM_REC_DATA;
    rec[1] = 3;
    rec[2] = 3;
    rec[3] = (uint8_t)(cipher_len >> 8);
    rec[4] = (uint8_t)cipher_len;
}

/* Encrypts content and type to rec + 5. */
static int
inner_seal(EVP_CIPHER_CTX *ctx, const uint8_t *in, size_t n, uint8_t type, uint8_t *rec)
{
    uint8_t *at = rec + SHIM_REC_HEAD;
    int l = 0;
    if (n <= COPY_MAX) {
        memmove(at, in, n);
        at[n] = type;
        return EVP_EncryptUpdate(ctx, at, &l, at, (int)n + 1) == 1;
    }
    return EVP_EncryptUpdate(ctx, at, &l, in, (int)n) == 1 &&
           EVP_EncryptUpdate(ctx, at + n, &l, &type, 1) == 1;
}

static int
record_encrypt(EVP_CIPHER_CTX *ctx, const uint8_t *nonce, const uint8_t *in, size_t n,
               uint8_t type, uint8_t *rec)
{
    uint8_t head[SHIM_REC_HEAD];
    uint8_t *tag = rec + SHIM_REC_HEAD + n + 1;
    int l = 0;
    head_write(head, n + 1 + TAG);
    if (EVP_EncryptInit_ex(ctx, NULL, NULL, NULL, nonce) != 1 ||
        EVP_EncryptUpdate(ctx, NULL, &l, head, sizeof(head)) != 1 ||
        !inner_seal(ctx, in, n, type, rec) || EVP_EncryptFinal_ex(ctx, tag, &l) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG, tag) != 1)
        return 0;
    memcpy(rec, head, sizeof(head));
    return 1;
}

/* Takes the next sequence number. Before the first byte of output: whoever goes on with this key
 * after we were killed in here must not use the nonce again. Stores of a dead process are all
 * visible; only the compiler could put them out of order. */
static void
nonce_take(uint8_t nonce[SHIM_SUITE_IV], struct shim_key *key)
{
    nonce_make(nonce, key, key->seq);
    key->seq++;
    atomic_signal_fence(memory_order_seq_cst);
}

static int
gcm_encrypt(struct shim_gcm *gcm, const uint8_t *nonce, const uint8_t *in, size_t n, uint8_t type,
            uint8_t *rec)
{
    uint8_t *at = rec + SHIM_REC_HEAD;
    struct shim_gcm_record r = {nonce, rec, SHIM_REC_HEAD};
    head_write(rec, n + 1 + TAG);
    return shim_gcm_seal(gcm, &r, in, n, type, at, at + n + 1);
}

/* The key for n bytes of content: use->gcm, or use->ctx for what shim_gcm does not do. */
static int
schedule_get(const struct shim_suite *s, const struct shim_key *key, int seal, size_t n,
             struct shim_cache_use *use)
{
    if (s->gcm_longest > 0 && n <= s->gcm_longest && shim_cache_get_gcm(s, key, seal, use))
        return 1;
    return shim_cache_get(s, key, seal, use);
}

__attribute__((hot)) size_t
shim_record_seal(struct shim_key *key, uint8_t type, const uint8_t *in, size_t n, uint8_t *out)
{
    uint8_t nonce[SHIM_SUITE_IV];
    struct shim_cache_use use;
    const struct shim_suite *s = shim_suite_find(key->suite);
    if (s == NULL || n > SHIM_REC_PLAIN_MAX || key->seq >= s->max ||
        !schedule_get(s, key, 1, n, &use))
        return 0;
    nonce_take(nonce, key);
    int ok = use.gcm != NULL ? gcm_encrypt(use.gcm, nonce, in, n, type, out)
                             : record_encrypt(use.ctx, nonce, in, n, type, out);
    shim_cache_put(&use);
    if (ok)
        return SHIM_REC_HEAD + n + 1 + TAG;
    shim_mem_wipe(out, SHIM_REC_HEAD + n + 1 + TAG);
    ERR_clear_error();
    return 0;
}

/* The shape of a record as far as it shows outside [RFC8446 5.2]. The version is "always 0x0303",
 * and as it is authenticated a peer that sends another cannot be meant. */
static int
is_record(const uint8_t *rec, size_t len)
{
    return len >= SHIM_REC_HEAD + 1 + TAG && len <= SHIM_REC_HEAD + INNER_MAX + TAG &&
           rec[0] == SHIM_REC_DATA && rec[1] == 3 && rec[2] == 3 &&
           (size_t)(rec[3] << 8 | rec[4]) == len - SHIM_REC_HEAD;
}

/* Decrypts `inner` bytes: all but the last to out, the last to *end. */
static int
inner_open(EVP_CIPHER_CTX *ctx, const uint8_t *in, size_t inner, uint8_t *out, uint8_t *end)
{
    int l = 0;
    return (inner == 1 || EVP_DecryptUpdate(ctx, out, &l, in, (int)inner - 1) == 1) &&
           EVP_DecryptUpdate(ctx, end, &l, in + inner - 1, 1) == 1;
}

static enum mesh_err
record_decrypt(EVP_CIPHER_CTX *ctx, const uint8_t *nonce, const uint8_t *rec, size_t inner,
               uint8_t *out, uint8_t *end)
{
    const uint8_t *in = rec + SHIM_REC_HEAD;
    uint8_t head[SHIM_REC_HEAD], tag[TAG], none[TAG];
    int l = 0;
    memcpy(head, rec, sizeof(head));
    memcpy(tag, in + inner, sizeof(tag));
    if (EVP_DecryptInit_ex(ctx, NULL, NULL, NULL, nonce) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG, tag) != 1 ||
        EVP_DecryptUpdate(ctx, NULL, &l, head, sizeof(head)) != 1 ||
        !inner_open(ctx, in, inner, out, end) || EVP_DecryptFinal_ex(ctx, none, &l) != 1)
        return MESH_E_BAD_MAC;
    return MESH_OK;
}

static enum mesh_err
gcm_decrypt(struct shim_gcm *gcm, const uint8_t *nonce, const uint8_t *rec, size_t inner,
            uint8_t *out, uint8_t *end)
{
    const uint8_t *in = rec + SHIM_REC_HEAD;
    struct shim_gcm_record r = {nonce, rec, SHIM_REC_HEAD};
    return shim_gcm_open(gcm, &r, in, inner, in + inner, out, end) ? MESH_OK : MESH_E_BAD_MAC;
}

/* Finds the type behind the padding [RFC8446 5.4]: content is out[0..*n) afterwards. Handshake
 * messages and alerts must not be empty. */
static enum mesh_err
inner_split(const uint8_t *out, uint8_t end, size_t *n, uint8_t *type)
{
    size_t at = *n;
    uint8_t t = end;
    while (t == 0 && at > 0)
        t = out[--at];
    if (t != SHIM_REC_DATA && ((t != SHIM_REC_HANDSHAKE && t != SHIM_REC_ALERT) || at == 0))
        return MESH_E_BAD_RECORD;
    *n = at;
    *type = t;
    return MESH_OK;
}

__attribute__((hot)) enum mesh_err
shim_record_open(struct shim_key *key, const uint8_t *rec, size_t len, uint8_t *out,
                 size_t *out_len, uint8_t *type)
{
    uint8_t nonce[SHIM_SUITE_IV], end = 0, t = 0;
    struct shim_cache_use use;
    uint64_t seq = key->seq;
    const struct shim_suite *s = shim_suite_find(key->suite);
    if (s == NULL || !is_record(rec, len))
        return MESH_E_BAD_RECORD;
    if (seq == UINT64_MAX)
        return MESH_E_KEY_LIMIT;
    size_t inner = len - SHIM_REC_HEAD - TAG, n = inner - 1;
    if (!schedule_get(s, key, 0, n, &use))
        return MESH_E_NO_MEMORY;
    unsigned lacks = shim_mem_lacks();
    nonce_make(nonce, key, seq);
    enum mesh_err e = use.gcm != NULL ? gcm_decrypt(use.gcm, nonce, rec, inner, out, &end)
                                      : record_decrypt(use.ctx, nonce, rec, inner, out, &end);
    shim_cache_put(&use);
    if (e != MESH_OK && shim_mem_lacks() != lacks)
        e = MESH_E_NO_MEMORY; /* not the peer's fault */
    if (e == MESH_OK)
        e = inner_split(out, end, &n, &t);
    if (e != MESH_OK) {
        shim_mem_wipe(out, inner - 1);
        ERR_clear_error();
        return e;
    }
    key->seq = seq + 1;
    *out_len = n;
    *type = t;
    return MESH_OK;
}

enum mesh_err
shim_record_key_update(struct shim_key *key)
{
    struct shim_key old = *key;
    enum mesh_err e = shim_suite_key_update(key);
    if (e == MESH_OK)
        shim_cache_drop(&old);
    else
        ERR_clear_error();
    shim_mem_wipe(&old, sizeof(old));
    return e;
}

__attribute__((hot)) int
shim_record_key_update_due(const struct shim_key *key)
{
    const struct shim_suite *s = shim_suite_find(key->suite);
    return s == NULL || key->seq >= s->due;
}
