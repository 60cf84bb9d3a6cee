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
    uint64_t page_id, mark;
    char service[MESH_SERVICE_MAX]; /* own side: whose certificate it shows, if another holds it now */
    char id[MESH_ID_MAX];
    enum mesh_page_state state; /* HANDSHAKE, OPEN or CLOSED */
    bool outbound, plaintext;
    uint16_t cipher;
    struct mesh_addr local, peer;
    pid_t pid;
    uint64_t netns, cookie, opened_ns, closed_ns, tx_bytes, rx_bytes;
    uint64_t before_tx, before_rx; /* that another image of the process counted */
    enum mesh_err reason;
    uint32_t handshake_us;
    uint32_t endpoint; /* outbound to a service: the endpoint's id + 1, else 0 */
    bool uncounted;    /* and it counts there no more */
    uint32_t how;      /* enum mesh_how */
    uint32_t connect_us;
    uint16_t attempts; /* with the one that this is; 0: there was none */
    uint16_t os_errno;
    uint16_t edge; /* of its page, index + 1 */
    uint64_t number;            /* in which turn it ended on its page */
    struct mesh_addr asked;     /* outbound: the address that the program named */
    uint64_t asked_service, route; /* meshd_stats_word knows them; 0: none */
    char destination[MESH_SERVICE_MAX]; /* outbound: the service's name, "" when unknown */
    char peer_id[MESH_ID_MAX];
    char peer_service[MESH_SERVICE_MAX]; /* as its identity says, "" when it says nothing */
};

struct meshd_total {
    char service[MESH_SERVICE_MAX];
    struct meshd_counters counters;
};

/* Names that pages say by their hash (mesh_limit_hash): whoever gives one out makes it known. Very many are not kept. */
void meshd_stats_learn(const char *text);
const char *meshd_stats_word(uint64_t hash); /* NULL: not known; else for good */

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
/* The other processes of peer's tree that are alive, by what they wrote on a page: one that root, of user
 * uid, has, or that is peer's own if it is that user. False when they cannot be known, as in a pid
 * namespace of their own, or when peer is on no such page. */
typedef int meshd_pid_visit(pid_t pid, uint64_t left, void *arg); /* left: as there */
bool meshd_stats_visit_tree(const struct meshd_peer *peer, pid_t root, uid_t uid,
                            meshd_pid_visit *visit, void *arg);
/* A process is dead: if nobody else holds its page it is folded into the totals. */
void meshd_stats_gone(pid_t pid, uint64_t starttime);
/* Is there an outbound connection from this local address in some page, or was one in its handshake when its process was
 * killed, since then? Loopback addresses hold within netns. */
bool meshd_stats_is_client(uint64_t netns, const struct mesh_addr *local, uint64_t since_ns);
/* Is there one from netns to this port, at an address that ends so (4 bytes), that has no local address yet and
 * was begun since then (CLOCK_REALTIME)? Whoever has a page can say so: the answer may only delay. */
bool meshd_stats_is_coming(uint64_t netns, const uint8_t *tail, uint16_t port, uint64_t since_ns);

/* How many of the attached process trees may still be choosing an endpoint by a snapshot before
 * `generation`. `current`: the published one. 0 once is 0 for ever for this generation. */
uint32_t meshd_stats_deciding(uint64_t generation, uint64_t current);

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

/* Connections by both sides. Our side is service and id, the source if outbound. */
struct meshd_series_key {
    uint8_t outbound, plaintext;
    char service[MESH_SERVICE_MAX];
    char id[MESH_ID_MAX];
    char destination[MESH_SERVICE_MAX]; /* outbound: the service's name, or "unknown"; else "" */
    char peer_id[MESH_ID_MAX];          /* "unknown": not authenticated */
};
/* As in struct mesh_page_edge. */
struct meshd_series_values {
    uint64_t opened, tx_bytes, rx_bytes, attempts, retries, connect_sum_us, handshake_sum_us;
    uint64_t closed[MESH_PAGE_FLAGS], failed[MESH_PAGE_FLAGS];
    uint64_t connect[MESH_PAGE_LATENCIES], handshake[MESH_PAGE_LATENCIES];
};
/* Of dead and living processes, ordered; those that changed in the last ten minutes or have an open
 * connection. Values do not fall while a series is shown. Stops when visit returns non-zero. */
typedef int meshd_series_visit_fn(const struct meshd_series_key *k, const struct meshd_series_values *v,
                                  void *arg);
void meshd_stats_visit_series(meshd_series_visit_fn *visit, void *arg);
/* The service of a SPIFFE ID, "" when it names none. out: MESH_SERVICE_MAX bytes. */
void meshd_stats_service_of(const char *id, char *out);

/* The access log. Causes for which a line is lost: more connections ended than fit a page between two looks;
 * there never was room on the page; the file did not take it. */
enum meshd_access_cause { MESHD_ACCESS_OVERRUN, MESHD_ACCESS_UNLISTED, MESHD_ACCESS_WRITE, MESHD_ACCESS_CAUSES };
struct meshd_access_info {
    uint64_t lines, lost[MESHD_ACCESS_CAUSES];
    bool on, failing;
};
void meshd_access_info(struct meshd_access_info *out);
/* Opens the file anew: it was renamed. */
void meshd_access_reopen(void);
/* A new configuration is in force. */
void meshd_stats_reload(void);

/* The metric's name without prefix and suffix ("connections_opened_out"), its help text, and
 * whether it is a gauge. */
const char *meshd_stats_name(enum mesh_stat s);
const char *meshd_stats_text(enum mesh_stat s);
bool meshd_stats_is_gauge(enum mesh_stat s);

#endif
