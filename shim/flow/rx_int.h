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
/* What is held of an incomplete record, and the plaintext that is still to be delivered; nothing in
 * other states. */
static inline struct shim_part
shim_rx_head(const struct shim_slot *s)
{
    return s->rx_state == SHIM_RX_PARTIAL
               ? shim_spill_part(s, SHIM_ONCE(s->rx_spill), 0, SHIM_ONCE(s->rx_len))
               : (struct shim_part){NULL, 0};
}
static inline struct shim_part
shim_rx_plain(const struct shim_slot *s)
{
    return s->rx_state == SHIM_RX_PLAIN ? shim_spill_part(s, SHIM_ONCE(s->rx_spill),
                                                          SHIM_ONCE(s->rx_off), SHIM_ONCE(s->rx_len))
                                        : (struct shim_part){NULL, 0};
}
/* The error that waits behind data which was still delivered, taken unless `later`; 0: none. */
static inline int
shim_rx_errno(struct shim_slot *s, bool later)
{
    int no = shim_slot_errno(SHIM_ONCE(s->rx_errno));
    if (no && !later) {
        s->rx_errno = 0;
    }
    return no;
}
/* Of the record whose plaintext is being delivered, what is still in the kernel. */
static inline size_t
shim_rx_last_byte(const struct shim_slot *s)
{
    return s->rx_state == SHIM_RX_PLAIN && !shim_slot_has(s, SHIM_SF_RX_WHOLE) ? 1 : 0;
}
/* One receive and what follows from it; *more when another round may find data. */
ssize_t shim_rx_round(int fd, struct shim_slot *s, struct shim_iov *room, uint8_t *buf, bool *more);
/* A decrypted record that is no data. */
__attribute__((cold)) enum mesh_err shim_rx_control(struct shim_slot *s, uint8_t type, const uint8_t *p, size_t n);
/* The kernel's end of the stream; `torn`: inside a record. 0 or -errno. */
__attribute__((cold)) ssize_t shim_rx_fin(int fd, struct shim_slot *s, bool torn);
/* The connection cannot go on: -errno for the program. */
__attribute__((cold)) ssize_t shim_rx_die(int fd, struct shim_slot *s, enum mesh_err e);
/* SO_RCVLOWAT in line with what is held. */
void shim_rx_lowat(int fd, struct shim_slot *s);
static inline void
shim_rx_set_lowat(int fd, struct shim_slot *s)
{
    if (s->rx_state == SHIM_RX_PARTIAL || SHIM_ONCE(s->rx_lowat) > 1) {
        shim_rx_lowat(fd, s);
    }
}

/* What is here of an incomplete record goes into the spill: for who takes it that nothing is here. Left in
 * the kernel it may hold all of the receive buffer, which is given back only with the last byte of what came
 * together, and the rest of the record would have no room [DESIGN D2]. Under rx_lock. */
void shim_rx_pull(int fd, struct shim_slot *s);

#endif
