/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_early: plaintext that the program wrote before TLS was up [DESIGN D11]. It waits in the connection's item of work
 * and goes before anything else, encrypted, or as it is to a client that is none of the mesh. Of what a fork copied, whoever
 * is the first to send sends it, and once. All functions: under the work lock.
 */
#ifndef SHIM_FLOW_EARLY_H
#define SHIM_FLOW_EARLY_H

#include <sys/uio.h>

#include "shim/flow/iov.h"
#include "shim/flow/work.h"

/* Takes what there is room for: bytes, 0 when the buffer is full. The cursor stays. */
size_t shim_early_put(struct shim_work *w, const struct shim_iov *data);
/* Sending begins, under tx_lock but for plaintext: while early_off < early_len the next part (up to the urgent byte, that
 * one, or the rest), and how much of it went. */
void shim_early_begin(struct shim_work *w);
struct iovec shim_early_part(const struct shim_work *w, bool *urgent);
void shim_early_went(struct shim_work *w, size_t n);
/* It goes nowhere any more, for errno `no`. */
void shim_early_failed(struct shim_work *w, int no);

#endif
