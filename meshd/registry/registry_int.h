/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the three rooms of the registry: enlist.c, where a process's word adds a listener, check.c, where the
 * kernel's word takes it away, and registry.c, which publishes.
 */
#ifndef MESHD_REGISTRY_REGISTRY_INT_H
#define MESHD_REGISTRY_REGISTRY_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "meshd/registry/netlink.h"
#include "meshd/registry/registry.h"

extern struct meshd_registry_info meshd_registry_counts; /* registered, withdrawn, overflowed */

/* What the kernel lists, for one round of checks; in the order of cookies. */
struct meshd_verdict {
    struct meshd_listening *at; /* malloc'ed, the caller's */
    size_t n;
    bool known;
};

/* port 0: all. */
struct meshd_verdict meshd_verdict_ask(uint64_t netns, uid_t uid, uint16_t port);
const struct meshd_listening *meshd_verdict_find(const struct meshd_verdict *v, uint64_t cookie);

/* The kernel is asked about every listener; what changed is published. */
void meshd_check_all(void);
/* What netlink tells, see there. */
void meshd_check_destroyed(uint64_t netns, uid_t uid, bool trusted, uint64_t cookie);
void meshd_check_told(bool lost);

#endif
