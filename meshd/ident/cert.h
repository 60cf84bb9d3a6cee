/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_ident_cert: builds and checks the certificates of the embedded authority, nothing else: no
 * files, no state. Inside ident/ only, since it shows OpenSSL's types.
 */
#ifndef MESHD_IDENT_CERT_H
#define MESHD_IDENT_CERT_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

#include "meshd/ident/ca.h"

#define MESHD_ROOT_S      (INT64_C(3650) * 86400)
#define MESHD_ISSUING_S   (INT64_C(90) * 86400)
#define MESHD_BACKDATE_S  120

struct meshd_cert_spec {
    enum meshd_cert_kind kind;
    const char *uri; /* the one URI SAN */
    int64_t not_before, not_after; /* seconds since the epoch */
};

/* A fresh P-256 key; NULL on failure. */
EVP_PKEY *meshd_ident_key_new(void);

/* Signs a certificate for `subject` by `issuer_key`; issuer NULL: self-signed. NULL on failure. */
X509 *meshd_ident_cert_new(const struct meshd_cert_spec *spec, EVP_PKEY *subject, X509 *issuer,
                           EVP_PKEY *issuer_key);

/* The only URI SAN of x into out (MESH_ID_MAX). False when there is none, more than one, or it is
 * not plain text. */
bool meshd_ident_uri(const X509 *x, char *out);

/* Is x a leaf that follows the rules of X509-SVID? */
bool meshd_ident_is_svid(X509 *x, char *id);

/* Serial in hexadecimal, and the times. */
void meshd_ident_describe(const X509 *x, struct meshd_cert *out);

/* The latest OpenSSL error as text, for logs; clears the queue. */
const char *meshd_ident_why(void);

#endif
