/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_health_state: see state.h. The thresholds are Envoy's, but for the beginning: there an endpoint is
 * unhealthy until its first success; here it is as good as healthy, or a meshd that is restarted would
 * take all endpoints away for a moment.
 */
#include "meshd/health/state.h"

#include <stdio.h>
#include <string.h>

void
meshd_health_state_init(struct meshd_health_state *s, const char *why, uint64_t now_ns)
{
    *s = (struct meshd_health_state){.info = {.is = MESHD_HEALTH_UNKNOWN, .since_ns = now_ns}};
    snprintf(s->info.reason, sizeof(s->info.reason), "%s", why);
}

static bool
become(struct meshd_health_state *s, enum meshd_health is, uint64_t now_ns)
{
    s->info.is = is;
    s->info.since_ns = now_ns;
    return true;
}

static bool
note_good(struct meshd_health_state *s, const struct meshd_health_rule *rule, uint64_t now_ns)
{
    s->info.successes++;
    s->bad = 0;
    s->good++;
    if (s->info.is == MESHD_HEALTH_UNKNOWN ||
        (s->info.is == MESHD_HEALTH_UNHEALTHY && s->good >= rule->healthy_threshold)) {
        return become(s, MESHD_HEALTH_HEALTHY, now_ns);
    }
    return false;
}

bool
meshd_health_state_note(struct meshd_health_state *s, const struct meshd_health_rule *rule,
                        const struct meshd_outcome *o, uint64_t now_ns)
{
    s->info.checked_ns = now_ns;
    if (o->verdict == MESHD_CHECK_GOOD) {
        return note_good(s, rule, now_ns);
    }
    s->info.failures++;
    s->good = 0;
    s->bad++;
    memcpy(s->info.reason, o->why, sizeof(s->info.reason));
    if (s->info.is != MESHD_HEALTH_UNHEALTHY &&
        (o->verdict == MESHD_CHECK_AT_ONCE || s->bad >= rule->unhealthy_threshold)) {
        return become(s, MESHD_HEALTH_UNHEALTHY, now_ns);
    }
    return false;
}
