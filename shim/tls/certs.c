/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_certs: direct-mapped by the last byte of the encoding, which is the last one of the signature.
 */
#include "shim/tls/certs.h"

#include <stdatomic.h>
#include <string.h>

#include <openssl/asn1.h>
#include <openssl/crypto.h>
#include <openssl/x509v3.h>

struct entry {
    atomic_flag busy;
    X509 *cert; /* NULL: none */
    uint8_t *der;
    size_t len;
};

static struct entry table[SHIM_CERTS_ENTRIES];

X509 *__wrap_d2i_X509(X509 **a, const unsigned char **in, long len);

static struct entry *
entry_lock(uint8_t last)
{
    struct entry *e = &table[last % SHIM_CERTS_ENTRIES];
    return atomic_flag_test_and_set_explicit(&e->busy, memory_order_acquire) ? NULL : e;
}

static void
entry_unlock(struct entry *e)
{
    atomic_flag_clear_explicit(&e->busy, memory_order_release);
}

static void
entry_clear(struct entry *e)
{
    X509_free(e->cert);
    OPENSSL_free(e->der);
    e->cert = NULL;
    e->der = NULL;
    e->len = 0;
}

static X509 *
find(const uint8_t *der, size_t len)
{
    struct entry *e = len > 0 ? entry_lock(der[len - 1]) : NULL;
    X509 *x = NULL;
    if (e == NULL)
        return NULL;
    if (e->cert != NULL && e->len == len && memcmp(e->der, der, len) == 0 &&
        X509_up_ref(e->cert) == 1)
        x = e->cert;
    entry_unlock(e);
    return x;
}

/* Like d2i_X509: *a, if there is one, gives way. */
X509 *
__wrap_d2i_X509(X509 **a, const unsigned char **in, long len)
{
    X509 *x = len > 0 ? find(*in, (size_t)len) : NULL;
    if (x == NULL)
        return (X509 *)ASN1_item_d2i((ASN1_VALUE **)a, in, len, ASN1_ITEM_rptr(X509));
    *in += len;
    if (a != NULL) {
        X509_free(*a);
        *a = x;
    }
    return x;
}

static void
entry_set(struct entry *e, X509 *x)
{
    uint8_t *der = NULL;
    int len = i2d_X509(x, &der);
    if (len <= 0 || (unsigned)len > SHIM_CERTS_BYTES || X509_up_ref(x) != 1) {
        OPENSSL_free(der);
        return;
    }
    entry_clear(e);
    e->cert = x;
    e->der = der;
    e->len = (size_t)len;
}

void
shim_certs_keep(X509 *x)
{
    const ASN1_BIT_STRING *sig = NULL;
    X509_get0_signature(&sig, NULL, x);
    int n = sig != NULL ? ASN1_STRING_length(sig) : 0;
    struct entry *e = n > 0 ? entry_lock(ASN1_STRING_get0_data(sig)[n - 1]) : NULL;
    if (e == NULL)
        return;
    /* Reads the extensions, if nobody has: done once, under a lock that a fork must not find shut. */
    if (e->cert != x && X509_check_purpose(x, -1, 0) == 1)
        entry_set(e, x);
    entry_unlock(e);
}

void
shim_certs_fini(void)
{
    for (unsigned i = 0; i < SHIM_CERTS_ENTRIES; i++) {
        struct entry *e = entry_lock((uint8_t)i);
        if (e == NULL)
            continue;
        entry_clear(e);
        entry_unlock(e);
    }
}
