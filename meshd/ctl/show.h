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
/* Forgets what top counted. */
void meshd_show_fini(void);

/* {"schema": 1, ...}, the caller's reference; NULL when out of memory. */
typedef json_t *meshd_show_fn(void);
meshd_show_fn meshd_show_status, meshd_show_services, meshd_show_endpoints, meshd_show_workloads,
    meshd_show_connections, meshd_show_certs, meshd_show_stats, meshd_show_edges, meshd_show_check;

/* Keys for a connection's row and for the answer of `stats`: how it ended, how they did. */
struct meshd_conn;
void meshd_show_end(json_t *row, const struct meshd_conn *c);
void meshd_show_flags(json_t *stats);

/* The answer of meshd_show_status on one screen, of meshd_show_stats as a list; no empty lines. */
void meshd_show_status_text(struct evbuffer *out, const json_t *answer);
void meshd_show_stats_text(struct evbuffer *out, const json_t *answer);
void meshd_show_stat_text(struct evbuffer *out, const json_t *answer);
void meshd_show_check_text(struct evbuffer *out, const json_t *answer);

/* A command that takes a word or two, "" if none was given; sock: the asker's. NULL: `why` says what is wrong,
 * or is empty without memory. */
struct meshd_question {
    int sock;
    const char *arg, *arg2;
};
typedef json_t *meshd_answer_fn(const struct meshd_question *q, char *why, size_t cap);
meshd_answer_fn meshd_show_stat, meshd_show_top, meshd_order_drain, meshd_order_undrain,
    meshd_order_draining, meshd_show_why;
void meshd_show_why_text(struct evbuffer *out, const json_t *answer);
void meshd_order_drain_text(struct evbuffer *out, const json_t *answer);
void meshd_order_undrain_text(struct evbuffer *out, const json_t *answer);

/* A string of printable ASCII; other bytes become '?'. New reference or NULL. */
json_t *meshd_show_string(const char *s);
/* Nanoseconds as seconds, to the millisecond; null for 0. */
json_t *meshd_show_seconds(uint64_t ns);
const char *meshd_show_mode(unsigned mode);
const char *meshd_show_load_balancer(unsigned lb);

#endif
