/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzes open(): hostile bytes as a record, and hostile plaintext in a record that is sealed well,
 * so that what lies behind the tag is reached, too. Whatever comes, the promises of the contract
 * hold. Input: suite, mode, then the bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "shim/tls/suite.h"
#include "shim/tls/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

/* Seals `inner` as it is, type and padding included. */
static size_t
seal_raw(const struct shim_key *k, const uint8_t *inner, size_t n, uint8_t *rec)
{
    const struct shim_suite *s = shim_suite_find(k->suite);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int l = 0;
    memcpy(rec, "\x17\x03\x03", 3);
    rec[3] = (uint8_t)((n + 16) >> 8);
    rec[4] = (uint8_t)(n + 16);
    MUST(ctx != NULL && EVP_EncryptInit_ex(ctx, s->cipher, NULL, k->key, k->iv) == 1 &&
         EVP_EncryptUpdate(ctx, NULL, &l, rec, 5) == 1 &&
         EVP_EncryptUpdate(ctx, rec + 5, &l, inner, (int)n) == 1 &&
         EVP_EncryptFinal_ex(ctx, rec + 5 + n, &l) == 1 &&
         EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, rec + 5 + n) == 1);
    EVP_CIPHER_CTX_free(ctx);
    return 5 + n + 16;
}

static void
open_both_ways(const struct shim_tls_ops *ops, const struct shim_key *key, const uint8_t *rec,
               size_t n, const uint8_t *inner)
{
    struct shim_key k = *key, j = *key;
    uint8_t *copy = malloc(n > 0 ? n : 1), *out = malloc(n > 22 ? n - 22 : 1), type = 0, type2 = 0;
    size_t len = 0, len2 = 0;
    MUST(copy != NULL && out != NULL);
    memcpy(copy, rec, n);
    enum mesh_err e = ops->open(&k, copy, n, out, &len, &type);
    MUST(ops->open(&j, copy, n, copy + (n < 5 ? 0 : 5), &len2, &type2) == e);
    MUST(memcmp(&k, &j, sizeof(k)) == 0 && len == len2 && type == type2);
    if (e == MESH_OK) {
        MUST(k.seq == key->seq + 1 && len <= n - 22 && type >= 21 && type <= 23);
        MUST(len == 0 || memcmp(out, copy + 5, len) == 0);
        MUST(inner == NULL || (memcmp(out, inner, len) == 0 && inner[len] == type));
    } else {
        MUST(memcmp(&k, key, sizeof(k)) == 0 && len == 0 && type == 0);
        MUST(e == MESH_E_BAD_RECORD || (inner == NULL && e == MESH_E_BAD_MAC));
    }
    free(copy);
    free(out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct shim_tls_ops *ops = shim_tls_engine(NULL);
    static const uint8_t secret[48] = {1, 2, 3};
    static uint8_t rec[5 + 17000 + 16];
    struct shim_key k = {0};
    if (size < 3 || size > 17000)
        return 0;
    uint16_t suite = (uint16_t)(0x1301 + data[0] % 3);
    MUST(ops != NULL && shim_suite_key_init(&k, suite, secret, suite == 0x1302 ? 48 : 32) ==
                            MESH_OK);
    const uint8_t *body = data + 2;
    size_t n = size - 2;
    switch (data[1] % 3) {
    case 0: /* as they are */
        open_both_ways(ops, &k, body, n, NULL);
        break;
    case 1: /* behind a header that fits */
        memcpy(rec, "\x17\x03\x03", 3);
        rec[3] = (uint8_t)(n >> 8);
        rec[4] = (uint8_t)n;
        memcpy(rec + 5, body, n);
        open_both_ways(ops, &k, rec, 5 + n, NULL);
        break;
    default: /* inside */
        open_both_ways(ops, &k, rec, seal_raw(&k, body, n, rec), body);
        break;
    }
    return 0;
}
