/* SPDX-License-Identifier: Apache-2.0
 *
 * Between ktls.c and ktls_data.c only.
 */
#ifndef SHIM_FLOW_KTLS_INT_H
#define SHIM_FLOW_KTLS_INT_H

#include "shim/core/slot.h"
#include "shim/tls/tls.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

struct shim_key *shim_ktls_tx_key(struct shim_slot *s);
/* Gives the kernel a key; direction: TLS_TX or TLS_RX. 0 or -errno. */
int shim_ktls_install(int fd, int direction, const struct shim_key *key);

#endif
