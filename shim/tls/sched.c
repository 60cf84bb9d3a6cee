/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_sched: see sched.h.
 */
#include "shim/tls/sched.h"

#include <string.h>

#include "shim/tls/mem.h"
#include "shim/tls/suite.h"

static const uint8_t zeros[SHIM_SCHED_HASH];

static const struct shim_suite *
suite(void)
{
    return shim_suite_find(SHIM_SCHED_SUITE);
}

static bool
expand(const uint8_t *secret, const char *label, const uint8_t *context, uint8_t *out)
{
    return shim_suite_expand(suite(), secret, label, context, out, SHIM_SCHED_HASH) == MESH_OK;
}

/* HKDF-Extract [RFC5869 2.2]. */
static bool
extract(const uint8_t *salt, const uint8_t *in, uint8_t *out)
{
    return shim_suite_hmac(suite(), salt, in, SHIM_SCHED_HASH, out) == MESH_OK;
}

static bool
hash_of_nothing(uint8_t hash[SHIM_SCHED_HASH])
{
    return EVP_Digest("", 0, hash, NULL, suite()->md, NULL) == 1;
}

bool
shim_sched_init(struct shim_sched *s, const uint8_t *psk)
{
    s->transcript = EVP_MD_CTX_new();
    return s->transcript != NULL && EVP_DigestInit_ex2(s->transcript, suite()->md, NULL) == 1 &&
           extract(zeros, psk, s->secret);
}

void
shim_sched_fini(struct shim_sched *s)
{
    EVP_MD_CTX_free(s->transcript);
    s->transcript = NULL;
    shim_mem_wipe(s->secret, sizeof(s->secret));
}

bool
shim_sched_add(struct shim_sched *s, const uint8_t *message, size_t n)
{
    return EVP_DigestUpdate(s->transcript, message, n) == 1;
}

bool
shim_sched_hash(const struct shim_sched *s, uint8_t hash[SHIM_SCHED_HASH])
{
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    bool ok = copy != NULL && EVP_MD_CTX_copy_ex(copy, s->transcript) == 1 &&
              EVP_DigestFinal_ex(copy, hash, NULL) == 1;
    EVP_MD_CTX_free(copy);
    return ok;
}

bool
shim_sched_next(struct shim_sched *s, const uint8_t *shared)
{
    uint8_t hash[SHIM_SCHED_HASH], salt[SHIM_SCHED_HASH];
    bool ok = hash_of_nothing(hash) && expand(s->secret, "derived", hash, salt) &&
              extract(salt, shared != NULL ? shared : zeros, s->secret);
    shim_mem_wipe(salt, sizeof(salt));
    return ok;
}

bool
shim_sched_derive(const struct shim_sched *s, const char *label, uint8_t out[SHIM_SCHED_HASH])
{
    uint8_t hash[SHIM_SCHED_HASH];
    return shim_sched_hash(s, hash) && expand(s->secret, label, hash, out);
}

bool
shim_sched_verify_data(const uint8_t *secret, const uint8_t *hash, uint8_t out[SHIM_SCHED_HASH])
{
    uint8_t key[SHIM_SCHED_HASH];
    bool ok = expand(secret, "finished", NULL, key) &&
              shim_suite_hmac(suite(), key, hash, SHIM_SCHED_HASH, out) == MESH_OK;
    shim_mem_wipe(key, sizeof(key));
    return ok;
}

bool
shim_sched_binder(const struct shim_sched *s, const uint8_t *hash, uint8_t out[SHIM_SCHED_HASH])
{
    uint8_t nothing[SHIM_SCHED_HASH], secret[SHIM_SCHED_HASH];
    bool ok = hash_of_nothing(nothing) && expand(s->secret, "ext binder", nothing, secret) &&
              shim_sched_verify_data(secret, hash, out);
    shim_mem_wipe(secret, sizeof(secret));
    return ok;
}
