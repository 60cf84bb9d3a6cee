/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_health_state: what the outcomes of checks make of one endpoint. Pure functions. Inside health/
 * only.
 *
 *              success                 unhealthy_threshold failures in a row, or one unexpected status
 *   unknown ------------> healthy -------------------------------------------> unhealthy
 *      |                     ^                                                 |   ^
 *      |                     +-------- healthy_threshold successes in a row ---+   |
 *      +---------------------------------------------------------------------------+
 */
#ifndef MESHD_HEALTH_STATE_H
#define MESHD_HEALTH_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "meshd/health/health.h"
#include "meshd/policy/config.h"

enum meshd_verdict {
    MESHD_CHECK_GOOD,
    MESHD_CHECK_NETWORK, /* not connected, no or another answer, out of time: counts as one failure */
    MESHD_CHECK_FAILED,  /* answered, and badly: likewise */
    MESHD_CHECK_AT_ONCE, /* an unexpected status that is not retriable */
};

struct meshd_outcome {
    enum meshd_verdict verdict;
    char why[MESHD_HEALTH_REASON]; /* "" when good */
};

struct meshd_health_state {
    uint32_t good, bad; /* in a row */
    struct meshd_health_info info;
};

/* Unknown, with a reason ("": it is just about to be checked). now_ns: CLOCK_REALTIME. */
void meshd_health_state_init(struct meshd_health_state *s, const char *why, uint64_t now_ns);
/* True when the endpoint is healthy, or unhealthy, from now on, and was not before. */
bool meshd_health_state_note(struct meshd_health_state *s, const struct meshd_health_rule *rule,
                             const struct meshd_outcome *o, uint64_t now_ns);

#endif
