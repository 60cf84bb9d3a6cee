/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_record: the record layer after the handshake [RFC8446 5]; the functions of shim_tls_ops
 * of the same names.
 */
#ifndef SHIM_TLS_RECORD_H
#define SHIM_TLS_RECORD_H

#include "shim/tls/tls.h"

size_t shim_record_seal(struct shim_key *key, uint8_t type, const uint8_t *in, size_t n,
                        uint8_t *out);
enum mesh_err shim_record_open(struct shim_key *key, const uint8_t *rec, size_t len, uint8_t *out,
                               size_t *out_len, uint8_t *type);
enum mesh_err shim_record_key_update(struct shim_key *key);
int shim_record_key_update_due(const struct shim_key *key);

#endif
