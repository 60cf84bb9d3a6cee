/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_inspect: what a client is, by the first bytes it sends [RFC8446 5.1, 4.1.2]. A ClientHello that names the
 * server or the protocol it wants (server_name [RFC6066 3], ALPN [RFC7301]) is meant for the program: clients of
 * the mesh name neither (test_tls_hs, hello_has_what_we_mean).
 */
#ifndef SHIM_TLS_INSPECT_H
#define SHIM_TLS_INSPECT_H

#include "shim/tls/read.h"
#include "shim/tls/tls.h"

enum shim_client {
    SHIM_CLIENT_MORE,  /* to be told from `want` bytes */
    SHIM_CLIENT_PLAIN, /* no TLS */
    SHIM_CLIENT_MESH,
    SHIM_CLIENT_OWN,   /* TLS that the program speaks itself */
};

/* b[0..n), n at least 1. *want is at most SHIM_REC_MAX. What has been named is enough, whatever follows. Of a hello in
 * several records the first one tells; what is no hello at all is the mesh's to refuse. */
static inline enum shim_client
shim_inspect(const uint8_t *b, size_t n, size_t *want)
{
    enum { CLIENT_HELLO = 1, SERVER_NAME = 0, ALPN = 16 };
    *want = SHIM_REC_HEAD;
    if (b[0] != SHIM_REC_HANDSHAKE || (n > 1 && b[1] != 3))
        return SHIM_CLIENT_PLAIN;
    if (n < SHIM_REC_HEAD)
        return SHIM_CLIENT_MORE;
    size_t len = (size_t)b[3] << 8 | b[4];
    if (len > SHIM_REC_PLAIN_MAX)
        return SHIM_CLIENT_MESH;
    *want = SHIM_REC_HEAD + len;
    bool all = n >= *want;
    struct shim_read r = {b + SHIM_REC_HEAD, (all ? *want : n) - SHIM_REC_HEAD, false};
    bool hello = shim_read_number(&r, 1) == CLIENT_HELLO;
    (void)shim_read_bytes(&r, 3 + 2 + 32); /* its length, version, random */
    (void)shim_read_vector(&r, 1);         /* session */
    (void)shim_read_vector(&r, 2);         /* suites */
    (void)shim_read_vector(&r, 1);         /* compression */
    (void)shim_read_bytes(&r, 2);          /* the extensions' length */
    while (hello && shim_read_more(&r)) {
        uint32_t type = shim_read_number(&r, 2);
        if (!r.bad && (type == SERVER_NAME || type == ALPN))
            return SHIM_CLIENT_OWN;
        (void)shim_read_vector(&r, 2);
    }
    return all ? SHIM_CLIENT_MESH : SHIM_CLIENT_MORE;
}

#endif
