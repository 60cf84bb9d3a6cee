/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_certs: certificates of verified peers, parsed. OpenSSL 3.0 takes 0.1 ms to parse one (it looks
 * for a decoder of the public key among all that there are), more than to verify its signature.
 *
 * The engine is linked with --wrap=d2i_X509: who parses bytes that are here, gets another reference to what
 * they were parsed to before. That says nothing about trust: every handshake verifies its peer.
 *
 * Any thread; no call waits: an entry in use counts as absent.
 */
#ifndef SHIM_TLS_CERTS_H
#define SHIM_TLS_CERTS_H

#include <openssl/x509.h>

#define SHIM_CERTS_ENTRIES 64u   /* a power of two */
#define SHIM_CERTS_BYTES   4096u /* longer ones are parsed each time */

/* Keeps a reference to `x`, which was verified: what strangers send takes no room. */
void shim_certs_keep(X509 *x);

/* Forgets all (for tests). */
void shim_certs_fini(void);

#endif
