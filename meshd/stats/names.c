/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_stats, the part that knows what the counters are called: all from mesh/stat.def.
 */
#include "meshd/stats/stats.h"

static const struct {
    const char *name, *text, *type;
} stats[MESH_STAT_COUNT] = {
#define STAT(id, metric, kind, help) [MESH_STAT_##id] = {#metric, help, #kind},
#include "mesh/stat.def"
#undef STAT
};

const char *
meshd_stats_name(enum mesh_stat s)
{
    return (unsigned)s < MESH_STAT_COUNT ? stats[s].name : "unknown";
}

const char *
meshd_stats_text(enum mesh_stat s)
{
    return (unsigned)s < MESH_STAT_COUNT ? stats[s].text : "";
}

bool
meshd_stats_is_gauge(enum mesh_stat s)
{
    return (unsigned)s < MESH_STAT_COUNT && stats[s].type[0] == 'G';
}
