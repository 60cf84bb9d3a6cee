/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_show: what the status socket tells, as JSON; the keys are a contract: none is renamed or
 * removed. Times are seconds since 1970, spans are seconds, sizes are bytes. Inside ctl/ only. Main
 * thread only.
 */
#ifndef MESHD_CTL_SHOW_H
#define MESHD_CTL_SHOW_H

#include <jansson.h>
#include <stdint.h>

struct evbuffer;

#define MESHD_SCHEMA     1
#define MESHD_SHOW_MOST  10000u /* rows of a list; "truncated" says that there were more */

/* Uptime counts from here. */
void meshd_show_init(void);

/* {"schema": 1, ...}, the caller's reference; NULL when out of memory. */
typedef json_t *meshd_show_fn(void);
meshd_show_fn meshd_show_status, meshd_show_services, meshd_show_endpoints, meshd_show_workloads,
    meshd_show_connections, meshd_show_certs, meshd_show_stats;

/* The answer of meshd_show_status on one screen, of meshd_show_stats as a list; no empty lines. */
void meshd_show_status_text(struct evbuffer *out, const json_t *answer);
void meshd_show_stats_text(struct evbuffer *out, const json_t *answer);

/* A string of printable ASCII; other bytes become '?'. New reference or NULL. */
json_t *meshd_show_string(const char *s);
/* Nanoseconds as seconds, to the millisecond; null for 0. */
json_t *meshd_show_seconds(uint64_t ns);
const char *meshd_show_mode(unsigned mode);

#endif
