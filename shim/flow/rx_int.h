/* SPDX-License-Identifier: Apache-2.0
 *
 * Between rx.c and peek.c only.
 */
#ifndef SHIM_FLOW_RX_INT_H
#define SHIM_FLOW_RX_INT_H

#include "shim/core/slot.h"
#include "shim/flow/iov.h"
#include "shim/tls/tls.h"

struct shim_key *shim_rx_key(struct shim_slot *s);
/* Length of the record that starts at p, header included; 0 when it cannot be one. */
size_t shim_rx_record_len(const uint8_t *p);
/* One receive and what follows from it; *more when another round may find data. */
ssize_t shim_rx_round(int fd, struct shim_slot *s, struct shim_iov *room, uint8_t *buf, bool *more);
/* SO_RCVLOWAT in line with what is held. */
void shim_rx_set_lowat(int fd, struct shim_slot *s);

#endif
