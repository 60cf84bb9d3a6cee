/* SPDX-License-Identifier: Apache-2.0
 *
 * OpenSSL's default provider with what the mesh uses, and no more. Whoever asks it for one cipher gets all of them
 * made, and a key is tried with each decoder that there is: with two hundred algorithms that was most of what a
 * program's first connection took, and of the memory that it keeps. The linker leads the provider's own entry
 * here (--wrap); what is not listed below does not exist in the engine, whose context is OpenSSL's default one. Other
 * contexts, of tests, have everything.
 */
#include <string.h>

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>

#define MOST 24u /* of one operation */

OSSL_provider_init_fn __real_ossl_default_provider_init, __wrap_ossl_default_provider_init;

static struct operation {
    int id;
    const char *names; /* the first name of each, between blanks */
    OSSL_ALGORITHM have[MOST + 1];
} operations[] = {
    /* SHAKE: Ed448's, of authorities. SHA1: fingerprints and the names of issuers. MD5: SSL_CTX_new wants it. */
    {OSSL_OP_DIGEST, " SHA2-224 SHA2-256 SHA2-384 SHA2-512 SHAKE-256 SHA1 MD5 MD5-SHA1 ", {{0}}},
    {OSSL_OP_CIPHER, " AES-128-GCM AES-256-GCM ChaCha20-Poly1305 AES-256-CTR AES-256-ECB ", {{0}}}, /* CTR, ECB: random numbers */
    {OSSL_OP_MAC, " HMAC ", {{0}}},
    {OSSL_OP_KDF, " HKDF TLS13-KDF ", {{0}}},
    {OSSL_OP_RAND, " CTR-DRBG SEED-SRC ", {{0}}},
    {OSSL_OP_KEYMGMT, " EC X25519 ED25519 ED448 RSA RSA-PSS HMAC ", {{0}}},
    {OSSL_OP_KEYEXCH, " X25519 ECDH ", {{0}}},
    {OSSL_OP_SIGNATURE, " ECDSA ED25519 ED448 RSA HMAC ", {{0}}},
    {OSSL_OP_DECODER, " EC ED25519 ED448 RSA RSA-PSS DER ", {{0}}},
};

#define OPERATIONS (sizeof(operations) / sizeof(operations[0]))

static int
is_listed(const char *names, const char *all)
{
    size_t n = strcspn(all, ":");
    for (const char *p = names; (p = strchr(p, ' ')) != NULL && p[1] != '\0'; p++) {
        if (strncmp(p + 1, all, n) == 0 && p[1 + n] == ' ')
            return 1;
    }
    return 0;
}

static int
choose(struct operation *op, const OSSL_ALGORITHM *from)
{
    unsigned n = 0;
    for (; from != NULL && from->algorithm_names != NULL; from++) {
        if (!is_listed(op->names, from->algorithm_names))
            continue;
        if (n == MOST)
            return 0;
        op->have[n++] = *from;
    }
    return n > 0;
}

static const OSSL_ALGORITHM *
query(void *provider, int id, int *no_cache)
{
    (void)provider;
    *no_cache = 0;
    for (size_t i = 0; i < OPERATIONS; i++) {
        if (operations[i].id == id)
            return operations[i].have;
    }
    return NULL;
}

static int
is_engine(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in)
{
    for (; in->function_id != 0; in++) {
        if (in->function_id == OSSL_FUNC_CORE_GET_LIBCTX)
            return (OSSL_LIB_CTX *)(void *)OSSL_FUNC_core_get_libctx(in)(handle) == OSSL_LIB_CTX_get0_global_default();
    }
    return 0;
}

/* The provider's functions, but for the one that is asked what there is. */
static int
replace_query(const OSSL_DISPATCH **functions, void *provider)
{
    static OSSL_DISPATCH own[16];
    OSSL_FUNC_provider_query_operation_fn *ask = NULL;
    int no_cache = 0;
    for (size_t n = 0; (*functions)[n].function_id != 0; n++) {
        if (n + 1 >= sizeof(own) / sizeof(own[0]))
            return 0;
        own[n] = (*functions)[n];
        if (own[n].function_id == OSSL_FUNC_PROVIDER_QUERY_OPERATION) {
            ask = OSSL_FUNC_provider_query_operation(&own[n]);
            own[n].function = (void (*)(void))query;
        }
    }
    for (size_t i = 0; ask != NULL && i < OPERATIONS; i++) {
        if (!choose(&operations[i], ask(provider, operations[i].id, &no_cache)))
            return 0;
    }
    *functions = own;
    return ask != NULL;
}

/* For the engine's context once in a process: it is never let go. */
int
__wrap_ossl_default_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out,
                                  void **provider)
{
    return __real_ossl_default_provider_init(handle, in, out, provider) == 1 &&
           (!is_engine(handle, in) || replace_query(out, *provider));
}
