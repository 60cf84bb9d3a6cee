/* SPDX-License-Identifier: Apache-2.0
 *
 * calibrate: what OpenSSL's ciphers and keys take, by EVP on contexts that are ready.
 */
#include "bench/calibrate/calibrate.h"

#include <stdio.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/evp.h>

struct aead {
    EVP_CIPHER_CTX *enc, *dec;
    int n;
    unsigned char plain[16400], sealed[16400], tag[16], iv[12], head[5];
};

static bool
seal(void *arg, unsigned times)
{
    struct aead *a = arg;
    int l = 0;
    while (times-- > 0) {
        if (!EVP_EncryptInit_ex(a->enc, NULL, NULL, NULL, a->iv) || !EVP_EncryptUpdate(a->enc, NULL, &l, a->head, 5) ||
            !EVP_EncryptUpdate(a->enc, a->sealed, &l, a->plain, a->n) || !EVP_EncryptFinal_ex(a->enc, a->sealed, &l) ||
            !EVP_CIPHER_CTX_ctrl(a->enc, EVP_CTRL_AEAD_GET_TAG, 16, a->tag)) {
            return false;
        }
    }
    return true;
}

static bool
unseal(void *arg, unsigned times)
{
    struct aead *a = arg;
    int l = 0;
    while (times-- > 0) {
        if (!EVP_DecryptInit_ex(a->dec, NULL, NULL, NULL, a->iv) ||
            !EVP_CIPHER_CTX_ctrl(a->dec, EVP_CTRL_AEAD_SET_TAG, 16, a->tag) ||
            !EVP_DecryptUpdate(a->dec, NULL, &l, a->head, 5) ||
            !EVP_DecryptUpdate(a->dec, a->plain, &l, a->sealed, a->n) || !EVP_DecryptFinal_ex(a->dec, a->plain, &l)) {
            return false;
        }
    }
    return true;
}

static void
aead(const char *cipher, const EVP_CIPHER *evp)
{
    static const int sizes[] = {16, 64, 256, 1350, 16384};
    static const unsigned char key[32] = {1};
    static struct aead a;
    char name[64];
    a.enc = EVP_CIPHER_CTX_new();
    a.dec = EVP_CIPHER_CTX_new();
    if (EVP_EncryptInit_ex(a.enc, evp, NULL, key, a.iv) && EVP_DecryptInit_ex(a.dec, evp, NULL, key, a.iv)) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            a.n = sizes[i];
            snprintf(name, sizeof(name), "%s seal %d", cipher, a.n);
            measure(name, CLOCK_CPU, 1, seal, &a);
            snprintf(name, sizeof(name), "%s open %d", cipher, a.n);
            measure(name, CLOCK_CPU, 1, unseal, &a);
        }
    }
    EVP_CIPHER_CTX_free(a.enc);
    EVP_CIPHER_CTX_free(a.dec);
}

struct keys {
    EVP_PKEY *x25519, *p256;
    unsigned char sig[128];
    size_t sig_len;
};

static bool
x25519_make(void *arg, unsigned times)
{
    (void)arg;
    while (times-- > 0) {
        EVP_PKEY *k = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
        if (k == NULL) {
            return false;
        }
        EVP_PKEY_free(k);
    }
    return true;
}

static bool
x25519_derive(void *arg, unsigned times)
{
    struct keys *k = arg;
    unsigned char secret[32];
    size_t n = sizeof(secret);
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(k->x25519, NULL);
    bool ok = c != NULL && EVP_PKEY_derive_init(c) == 1 && EVP_PKEY_derive_set_peer(c, k->x25519) == 1;
    while (ok && times-- > 0) {
        ok = EVP_PKEY_derive(c, secret, &n) == 1;
    }
    EVP_PKEY_CTX_free(c);
    return ok;
}

static const unsigned char digest[32] = {1, 2, 3};

static bool
p256_sign(void *arg, unsigned times)
{
    struct keys *k = arg;
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(k->p256, NULL);
    bool ok = c != NULL && EVP_PKEY_sign_init(c) == 1;
    while (ok && times-- > 0) {
        k->sig_len = sizeof(k->sig);
        ok = EVP_PKEY_sign(c, k->sig, &k->sig_len, digest, sizeof(digest)) == 1;
    }
    EVP_PKEY_CTX_free(c);
    return ok;
}

static bool
p256_verify(void *arg, unsigned times)
{
    struct keys *k = arg;
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(k->p256, NULL);
    bool ok = c != NULL && EVP_PKEY_verify_init(c) == 1;
    while (ok && times-- > 0) {
        ok = EVP_PKEY_verify(c, k->sig, k->sig_len, digest, sizeof(digest)) == 1;
    }
    EVP_PKEY_CTX_free(c);
    return ok;
}

void
calibrate_crypto(void)
{
    struct keys k = {.x25519 = EVP_PKEY_Q_keygen(NULL, NULL, "X25519"), .p256 = EVP_EC_gen("P-256")};
    aead("aes-128-gcm", EVP_aes_128_gcm());
    aead("chacha20-poly1305", EVP_chacha20_poly1305());
    measure("x25519 new key", CLOCK_CPU, 1, x25519_make, NULL);
    measure("x25519 derive", CLOCK_CPU, 1, x25519_derive, &k);
    measure("p-256 sign", CLOCK_CPU, 1, p256_sign, &k);
    measure("p-256 verify", CLOCK_CPU, 1, p256_verify, &k);
    EVP_PKEY_free(k.x25519);
    EVP_PKEY_free(k.p256);
}
