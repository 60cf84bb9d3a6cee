/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_resume: tickets of earlier handshakes (shim/tls/ticket.h), where all processes of this tree find them.
 */
#ifndef SHIM_FLOW_RESUME_H
#define SHIM_FLOW_RESUME_H

#include "shim/flow/work.h"

/* For shim_tls_ops.tickets. */
bool shim_resume_find(const uint8_t id[32], struct shim_ticket *out);

/* Client, before its first step: offers the ticket of this destination, if there is one of use. */
void shim_resume_offer(struct shim_work *w);
/* The handshake has succeeded: its ticket is kept, and counted how it was made. */
void shim_resume_done(const struct shim_work *w, bool server, const struct shim_hs_result *res);

#endif
