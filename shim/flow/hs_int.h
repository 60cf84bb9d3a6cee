/* SPDX-License-Identifier: Apache-2.0
 *
 * Between hs.c, which decides what a connection does next, and talk.c, which exchanges the records
 * of its handshake. All functions: under the work lock.
 */
#ifndef SHIM_FLOW_HS_INT_H
#define SHIM_FLOW_HS_INT_H

#include "shim/flow/work.h"

static inline struct shim_slot *
shim_hs_slot(const struct shim_work *w)
{
    return shim_slot_at(w->slot);
}

static inline bool
shim_hs_is_server(const struct shim_work *w)
{
    return shim_slot_has(shim_hs_slot(w), SHIM_SF_SERVER);
}

/* What the program may see of the connection is another now. */
void shim_hs_changed(const struct shim_work *w);

/* The connection is over; `no`, unless 0, overrides the table's errno. True, for the caller to
 * return: the phase has changed. */
bool shim_hs_fail(struct shim_work *w, enum mesh_err e, int no);

/* Goes on with the handshake as far as the socket allows; the caller holds the slot's rx_lock, or
 * nobody else knows the slot. True when the phase has changed: OPEN or FAILED. */
bool shim_hs_talk(struct shim_work *w);

#endif
