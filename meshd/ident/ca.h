/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_ca: the embedded certificate authority: a root (10 years), an issuing certificate (90
 * days), X.509-SVID leafs. Keys lie in the state directory (0700/0600). Main thread only. With
 * ca_cert.c and ca_file.c the only place that includes OpenSSL headers, besides svid.c.
 */
#ifndef MESHD_IDENT_CA_H
#define MESHD_IDENT_CA_H

#include <stddef.h>
#include <stdint.h>

#include "mesh/err.h"
#include "mesh/page.h"

#define MESHD_SERIAL_TEXT 40 /* hexadecimal with its NUL */

enum meshd_cert_kind { MESHD_CERT_ROOT, MESHD_CERT_ISSUING, MESHD_CERT_LEAF };

struct meshd_cert {
    enum meshd_cert_kind kind;
    char service[MESH_SERVICE_MAX]; /* leafs only */
    char id[MESH_ID_MAX];
    char serial[MESHD_SERIAL_TEXT];
    uint64_t not_before, not_after, renew_at; /* seconds, CLOCK_REALTIME; renew_at: leafs, issuing */
    int32_t pid;                              /* leafs: who asked */
};

/* A leaf with its key, as a workload gets it. DER; see mesh_wire_cert_rep. */
struct meshd_svid {
    struct meshd_cert info;
    uint8_t *chain, *key, *bundle;
    size_t chain_len, key_len, bundle_len;
};

/* Loads the authority from state_dir, or makes it there on first start. MESH_E_CONFIG with a log
 * line that says which file is damaged and what to do; nothing is ever overwritten. */
enum mesh_err meshd_ca_init(const char *state_dir, const char *trust_domain) MESH_MUST_CHECK;
void meshd_ca_fini(void);

/* Issues a leaf; renews the issuing certificate first when it is due. *out is the caller's, to be
 * ended with meshd_svid_fini, which wipes the key. pid is for the list only. */
enum mesh_err meshd_ca_issue(const char *service, const char *id, uint32_t ttl_s, int32_t pid,
                             struct meshd_svid *out) MESH_MUST_CHECK;
void meshd_svid_fini(struct meshd_svid *svid);

/* The root and issuing certificate, then the newest leaf of each pid and id not yet expired (the last
 * 4096). Stops when visit returns non-zero. */
typedef int meshd_cert_visit(const struct meshd_cert *cert, void *arg);
void meshd_ca_visit(meshd_cert_visit *visit, void *arg);
/* Leafs issued since meshd started. */
uint64_t meshd_ca_issued(void);

#endif
