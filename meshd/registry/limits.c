/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_limits: see limits.h. A process that was killed leaves its connections counted; the pages know
 * which there are. Main thread only.
 */
#include "meshd/registry/limits.h"

#include <string.h>

#include "common/limits.h"
#include "meshd/registry/snapfile.h"
#include "meshd/stats/stats.h"

static uint32_t known[MESH_LIMITS], excess[MESH_LIMITS]; /* of this round, of the last one */

static uint64_t
bytes_of(const struct meshd_fault_rule *f)
{
    return f->type == MESH_FAULT_RESET       ? f->after_bytes
           : f->type == MESH_FAULT_SLOW_READ ? f->rate
                                             : f->max_bytes;
}

uint32_t
meshd_limits_write(const struct meshd_service_rule *rule)
{
    const struct meshd_limits_rule *l = rule ? &rule->limits : NULL;
    if (!l || (l->fault_count == 0 && l->max_tokens == 0 && l->max_connections == 0 &&
               l->max_connections_per_caller == 0 && l->bandwidth == 0 && l->service_bandwidth == 0 && l->keepalive_time_s == 0 &&
               l->user_timeout_ms == 0 && l->idle_timeout_ms == 0 && l->max_age_ms == 0)) {
        return 0;
    }
    struct mesh_snap_limits out = {
        .service = mesh_limit_hash(rule->name),
        .max_tokens = l->max_tokens,
        .tokens_per_fill = l->tokens_per_fill,
        .fill_interval_ms = l->fill_interval_ms,
        .max_connections = l->max_connections,
        .max_connections_per_caller = l->max_connections_per_caller,
        .shadow = l->shadow,
        .bandwidth = l->bandwidth,
        .service_bandwidth = l->service_bandwidth,
        .idle_timeout_ms = l->idle_timeout_ms,
        .max_age_ms = l->max_age_ms,
        .keepalive_time_s = l->keepalive_time_s,
        .keepalive_interval_s = l->keepalive_interval_s,
        .keepalive_probes = l->keepalive_probes,
        .user_timeout_ms = l->user_timeout_ms,
        .faults = (uint8_t)(l->fault_count < MESH_FAULTS ? l->fault_count : MESH_FAULTS),
    };
    for (unsigned i = 0; i < out.faults; i++) {
        const struct meshd_fault_rule *f = &l->faults[i];
        out.fault[i] = (struct mesh_snap_fault){
            .source = f->source[0] ? mesh_limit_hash(f->source) : 0,
            .bytes = bytes_of(f),
            .delay_ms = f->delay_ms,
            .port = f->port,
            .percentage = f->percentage,
            .type = f->type,
        };
    }
    uint32_t i = meshd_snapfile_add(MESH_SNAP_LIMITS, &out);
    return i == MESH_SNAP_NONE ? 0 : i + 1;
}

static void
count_one(struct mesh_limit *table, const char *service, const char *caller)
{
    uint32_t i = mesh_limit_find(table, mesh_limit_key(service, caller));
    known[i % MESH_LIMITS] += i < MESH_LIMITS;
}

static int
count(const struct meshd_conn *c, void *arg)
{
    if (!c->outbound && !c->plaintext && c->peer_id[0]) {
        count_one(arg, c->service, c->peer_id);
        count_one(arg, c->service, "");
        count_one(arg, c->service, MESH_LIMIT_ACCEPTED);
    } else if (c->outbound && c->destination[0]) {
        count_one(arg, c->destination, MESH_LIMIT_OPENED);
    }
    return 0;
}

static bool
is_any_active(struct mesh_limit *table)
{
    bool any = false;
    for (uint32_t i = 0; i < MESH_LIMITS && !any; i++) {
        any = atomic_load_explicit(&table[i].active, memory_order_relaxed) > 0;
    }
    return any;
}

void
meshd_limits_correct(struct mesh_limit *table)
{
    if (!is_any_active(table)) {
        memset(excess, 0, sizeof(excess));
        return; /* the usual: nobody has limits, and no page need be read */
    }
    memset(known, 0, sizeof(known));
    meshd_stats_visit_active(count, table);
    for (uint32_t i = 0; i < MESH_LIMITS; i++) {
        uint32_t n = atomic_load_explicit(&table[i].active, memory_order_relaxed);
        uint32_t more = n > known[i] ? n - known[i] : 0;
        uint32_t lasting = more < excess[i] ? more : excess[i];
        excess[i] = more - lasting;
        if (lasting) {
            (void)atomic_compare_exchange_strong(&table[i].active, &n, n - lasting);
        }
    }
}

uint32_t
meshd_limits_count(struct mesh_limit *table, const char *service, const char *caller)
{
    uint32_t i = mesh_limit_find(table, mesh_limit_key(service, caller));
    return i < MESH_LIMITS ? atomic_load_explicit(&table[i].active, memory_order_relaxed) : 0;
}
