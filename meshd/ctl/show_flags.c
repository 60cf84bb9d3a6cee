/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_show: how connections ended; see show.h. Keys of other answers, not an answer of their own.
 */
#include "meshd/ctl/show.h"
#include "meshd/stats/stats.h"

static int
add_flags(const struct meshd_series_key *k, const struct meshd_series_values *v, void *arg)
{
    uint64_t *sum = arg;
    (void)k;
    for (unsigned i = 0; i < MESH_FLAG_COUNT; i++) {
        sum[i] += v->closed[i] + v->failed[i];
    }
    return 0;
}

void
meshd_show_flags(json_t *stats)
{
    static const char *const causes[MESHD_ACCESS_CAUSES] = {
        [MESHD_ACCESS_OVERRUN] = "lost_overrun",
        [MESHD_ACCESS_UNLISTED] = "lost_unlisted",
        [MESHD_ACCESS_WRITE] = "lost_write",
    };
    uint64_t sum[MESH_FLAG_COUNT] = {0};
    struct meshd_access_info a;
    json_t *flags = json_object();
    meshd_access_info(&a);
    meshd_stats_visit_series(add_flags, sum);
    for (unsigned i = MESH_FLAG_NONE + 1; i < MESH_FLAG_COUNT; i++) {
        if (sum[i]) {
            json_object_set_new(flags, mesh_flag_code((enum mesh_flag)i),
                                json_integer((json_int_t)sum[i]));
        }
    }
    json_t *log = json_pack("{s:b, s:b, s:I}", "on", a.on, "failing", a.failing, "lines",
                            (json_int_t)a.lines);
    for (unsigned i = 0; i < MESHD_ACCESS_CAUSES; i++) {
        json_object_set_new(log, causes[i], json_integer((json_int_t)a.lost[i]));
    }
    json_object_set_new(stats, "response_flags", flags);
    json_object_set_new(stats, "access_log", log);
}

void
meshd_show_end(json_t *row, const struct meshd_conn *c)
{
    enum mesh_flag f = c->state == MESH_CONN_CLOSED ? mesh_flag_of(c->outbound, c->reason, c->how)
                                                    : MESH_FLAG_NONE;
    char asked[MESH_ADDR_TEXT];
    json_t *more = json_pack(
        "{s:s, s:s?, s:s, s:s, s:I, s:f}", "response_flags", mesh_flag_code(f), "response_flags_text",
        f != MESH_FLAG_NONE ? mesh_flag_text(f) : NULL, "destination_service",
        c->outbound ? c->destination : c->service, "asked_addr",
        c->outbound && c->asked.port ? mesh_addr_text(&c->asked, asked) : "", "attempts",
        (json_int_t)c->attempts, "connect_seconds", (double)c->connect_us / 1e6);
    if (row && more) {
        json_object_update(row, more);
    }
    json_decref(more);
}
