/* SPDX-License-Identifier: Apache-2.0
 *
 * tls_pki: certificates for tests and benchmarks, made on the spot. Aborts when OpenSSL fails.
 */
#ifndef TESTS_TLS_PKI_H
#define TESTS_TLS_PKI_H

#include <openssl/x509.h>

#include "shim/tls/tls.h"

#define PKI_TD     "mesh.local"
#define PKI_WEB    "spiffe://mesh.local/ns/default/sa/web"
#define PKI_ORDERS "spiffe://mesh.local/ns/default/sa/orders"

/* OpenSSL with all that it has: the engine's own context has less (shim/tls/provider.c). For certificates and peers of
 * the tests' own. */
OSSL_LIB_CTX *pki_openssl(void);

struct pki_cert {
    X509 *x;
    EVP_PKEY *key;
};

/* What a certificate says; strings as in x509v3_config(5), NULL leaves the extension out. */
struct pki_spec {
    const char *name; /* common name */
    const char *san, *basic, *usage, *extended, *constraints;
    long from_s, until_s; /* from now; both 0: from a minute ago to an hour ahead */
    const char *curve;    /* "P-256" when NULL; "rsa1024" and "rsa2048" are known, too */
};

struct pki_cert pki_new(const struct pki_spec *spec, const struct pki_cert *issuer);
struct pki_cert pki_root(const char *name);
struct pki_cert pki_leaf(const char *san, const struct pki_cert *issuer);
void pki_free(struct pki_cert *c);

/* One heap block for the DER of all; freed by pki_identity_free. */
struct pki_identity {
    struct shim_identity id;
    uint8_t *chain, *key, *bundle;
};

/* Chain: leaf and then `mid` if not NULL; bundle: `root`, empty if NULL. */
void pki_identity(struct pki_identity *out, const struct pki_cert *leaf,
                  const struct pki_cert *mid, const struct pki_cert *root);
void pki_identity_free(struct pki_identity *p);

#endif
