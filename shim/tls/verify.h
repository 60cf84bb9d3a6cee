/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_verify: is the peer's certificate an X.509-SVID of our trust domain [X509-SVID 2-5]?
 */
#ifndef SHIM_TLS_VERIFY_H
#define SHIM_TLS_VERIFY_H

#include <openssl/x509.h>

/* For SSL_CTX_set_cert_verify_callback; `ctx` is the struct shim_ctx. Reports the verdict and the
 * peer's ID to the handshake, and leaves in `store` the error that gives the right alert. */
int shim_verify_on_peer(X509_STORE_CTX *store, void *ctx);

#endif
