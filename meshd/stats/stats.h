/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_stats: statistics pages of attached processes, and what remains of them after death. All
 * values handed out are sanitised copies: strings are NUL-terminated printable ASCII, enums are in
 * range, gauges are not negative. Main thread only.
 */
#ifndef MESHD_STATS_STATS_H
#define MESHD_STATS_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/addr.h"
#include "mesh/err.h"
#include "mesh/page.h"

#define MESHD_STATS_RECENT 512u /* recently closed connections kept of dead processes */

struct meshd_counters {
    uint64_t stat[MESH_STAT_COUNT];
    uint64_t err[MESH_ERR_COUNT];
    uint64_t handshake_us[MESH_PAGE_BUCKETS];
    uint64_t connect_us[MESH_PAGE_BUCKETS];
};

struct meshd_workload {
    uint64_t page_id;
    pid_t pid; /* the process that attached */
    uid_t uid;
    gid_t gid;
    uint32_t processes; /* alive that use the page, at least 1 */
    uint64_t starttime, netns;
    uint64_t attached_ns; /* CLOCK_REALTIME */
    char service[MESH_SERVICE_MAX];
    char id[MESH_ID_MAX];
    char exe[256];
    char unit[128];
    uint32_t conns_full;
    bool pids_full;
    struct meshd_counters counters;
};

struct meshd_conn {
    uint64_t page_id;
    char service[MESH_SERVICE_MAX]; /* own side */
    char id[MESH_ID_MAX];
    enum mesh_page_state state; /* HANDSHAKE, OPEN or CLOSED */
    bool outbound, plaintext;
    uint16_t cipher;
    struct mesh_addr local, peer;
    pid_t pid;
    uint64_t netns, cookie, opened_ns, closed_ns, tx_bytes, rx_bytes;
    enum mesh_err reason;
    uint32_t handshake_us;
    char peer_id[MESH_ID_MAX];
    char peer_service[MESH_SERVICE_MAX];
};

struct meshd_total {
    char service[MESH_SERVICE_MAX];
    struct meshd_counters counters;
};

/* Takes over the pages and totals in run_dir (made when missing). */
enum mesh_err meshd_stats_init(const char *run_dir) MESH_MUST_CHECK;
/* Writes the totals; pages stay for the next meshd. */
void meshd_stats_fini(void);

/* The page of `peer`: the one it has (same process, same identity), or a new one. *fd is a
 * descriptor for it, the caller's. MESH_E_NO_MEMORY: too many processes. */
struct meshd_peer;
struct meshd_identity;
enum mesh_err meshd_stats_attach(const struct meshd_peer *peer, const struct meshd_identity *id,
                                 uint64_t netns, uint64_t *page_id, int *fd) MESH_MUST_CHECK;
/* The service as which the process, or the one it was forked from, has attached; "" when it has
 * not. out: MESH_SERVICE_MAX bytes. */
void meshd_stats_wish(const struct meshd_peer *peer, char *out);
/* A process is dead: if nobody else holds its page it is folded into the totals. */
void meshd_stats_gone(pid_t pid, uint64_t starttime);
/* Is there an outbound connection from this local address in a page of netns? */
bool meshd_stats_is_client(uint64_t netns, const struct mesh_addr *local);

/* Each stops when visit returns non-zero. */
typedef int meshd_workload_visit(const struct meshd_workload *w, void *arg);
typedef int meshd_conn_visit(const struct meshd_conn *c, void *arg);
typedef int meshd_total_visit(const struct meshd_total *t, void *arg);
void meshd_stats_visit_workloads(meshd_workload_visit *visit, void *arg);
/* Connections in handshake or open, of live processes. */
void meshd_stats_visit_active(meshd_conn_visit *visit, void *arg);
/* Recently closed ones: still in live pages, then the ring of dead processes' (newest first). */
void meshd_stats_visit_closed(meshd_conn_visit *visit, void *arg);
/* Per service: dead processes of all times (kept over restarts) plus live pages. Gauges count live
 * pages only. Ordered by name. */
void meshd_stats_visit_totals(meshd_total_visit *visit, void *arg);
/* The same over all services. */
void meshd_stats_sum(struct meshd_counters *out);
uint32_t meshd_stats_attached(void);

/* The metric's name without prefix and suffix ("connections_opened_out"), its help text, and
 * whether it is a gauge. */
const char *meshd_stats_name(enum mesh_stat s);
const char *meshd_stats_text(enum mesh_stat s);
bool meshd_stats_is_gauge(enum mesh_stat s);

#endif
