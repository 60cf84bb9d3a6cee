/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_resolver: one round of questions to DNS for one service: its SRV records, if that is its type, and
 * the A and AAAA records of each target, all at once. With c-ares on the event loop; resolver.c is the
 * only file that includes its headers. Main thread only.
 */
#ifndef MESHD_DISCOVERY_RESOLVER_H
#define MESHD_DISCOVERY_RESOLVER_H

#include "meshd/discovery/answer.h"

struct meshd_round;

enum mesh_err meshd_resolver_init(void) MESH_MUST_CHECK;
void meshd_resolver_fini(void);

/* Called once, from the event loop, never from within meshd_round_new. The reply is borrowed; `why`
 * says what failed first, or is "". The round may be freed here. */
typedef void meshd_round_done(const struct meshd_reply *r, const char *why, void *arg);

/* Asks. The rule is read here only. NULL when it cannot be started (memory, descriptors, a resolv.conf
 * that cannot be read). */
struct meshd_round *meshd_round_new(const struct meshd_dns_rule *rule, meshd_round_done *done,
                                    void *arg);
/* Ends it, done or not; takes NULL. */
void meshd_round_free(struct meshd_round *r);

#endif
