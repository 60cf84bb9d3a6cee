/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_config_check_limits: see limits.h. A fault that lacks what its type needs is none; one that has what only
 * another type knows is perhaps not what somebody meant.
 */
#include "meshd/policy/limits.h"

static const struct {
    enum mesh_fault type;
    const char *name, *key;
    bool needed;
} wants[] = {
    {MESH_FAULT_DELAY, "delay", "delay", true},
    {MESH_FAULT_RESET, "reset", "after_bytes", false},
    {MESH_FAULT_SLOW_READ, "slow_read", "rate", true},
    {MESH_FAULT_SHORT_WRITE, "short_write", "max_bytes", true},
};
#define WANTS (sizeof(wants) / sizeof(wants[0]))

static bool
has(const struct meshd_fault_rule *f, enum mesh_fault owner)
{
    return owner == MESH_FAULT_DELAY       ? f->delay_ms > 0
           : owner == MESH_FAULT_RESET     ? f->after_bytes > 0
           : owner == MESH_FAULT_SLOW_READ ? f->rate > 0
                                           : f->max_bytes > 0;
}

static void
check_fault(const struct meshd_fault_rule *f, struct meshd_diags *d)
{
    for (unsigned i = 0; i < WANTS; i++) {
        bool its_own = f->type == wants[i].type;
        if (its_own && wants[i].needed && !has(f, wants[i].type)) {
            meshd_diag_error(d, f->at.file, f->at.line, "faults: type %s needs %s", wants[i].name,
                             wants[i].key);
        } else if (!its_own && has(f, wants[i].type)) {
            meshd_diag_warn(d, f->at.file, f->at.line, "faults: %s belongs to type %s; it does nothing here",
                            wants[i].key, wants[i].name);
        }
    }
}

void
meshd_config_check_limits(const struct meshd_service_rule *s, struct meshd_diags *d)
{
    const struct meshd_limits_rule *l = &s->limits;
    for (size_t i = 0; i < l->fault_count; i++) {
        check_fault(&l->faults[i], d);
    }
    if (l->fault_count > MESH_FAULTS) {
        const struct meshd_origin *at = &l->faults[MESH_FAULTS].at;
        meshd_diag_error(d, at->file, at->line, "faults: service '%s' has more than %u", s->name, MESH_FAULTS);
    }
    if (l->keepalive_time_s == 0 && (l->keepalive_interval_s || l->keepalive_probes)) {
        meshd_diag_error(d, s->at.file, s->at.line, "tcp_keepalive: service '%s' has no time", s->name);
    }
    if (l->max_tokens == 0 && (l->tokens_per_fill != 1 || l->fill_interval_ms != 1000)) {
        meshd_diag_error(d, s->at.file, s->at.line, "connection_rate: service '%s' has no max_tokens", s->name);
    }
}
