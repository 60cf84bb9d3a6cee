/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_ident_store: the authority's files in the state directory.
 *
 *   root.key     PKCS#8 PEM, 0600      root.crt     PEM, 0644
 *   issuing.pem  certificate and key in one file, so that a renewal replaces both at once, 0600
 *
 * A file that is there but unusable is reported, never replaced.
 */
#ifndef MESHD_IDENT_STORE_H
#define MESHD_IDENT_STORE_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "mesh/err.h"

struct meshd_authority {
    X509 *root, *issuing;
    EVP_PKEY *root_key, *issuing_key; /* root_key NULL: kept elsewhere, no renewal here */
};

/* Reads what is there; what is not stays NULL. MESH_E_CONFIG after a log line. */
enum mesh_err meshd_ident_store_load(const char *dir, struct meshd_authority *a) MESH_MUST_CHECK;
enum mesh_err meshd_ident_store_root(const char *dir,
                                     const struct meshd_authority *a) MESH_MUST_CHECK;
enum mesh_err meshd_ident_store_issuing(const char *dir, X509 *cert,
                                        EVP_PKEY *key) MESH_MUST_CHECK;
void meshd_authority_fini(struct meshd_authority *a);

#endif
