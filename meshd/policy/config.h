/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_config: the configuration in force. One immutable object; a reload builds a new one and
 * swaps it in, so nobody keeps the pointer across a return to the event loop. Main thread only.
 */
#ifndef MESHD_POLICY_CONFIG_H
#define MESHD_POLICY_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/addr.h"
#include "mesh/err.h"
#include "mesh/names.h"
#include "mesh/snapshot.h"

struct meshd_diags;
struct meshd_peer;

#define MESHD_PATH_MAX 4096

#define MESHD_CONFIG_GLOB_MAX 256
#define MESHD_CONFIG_USER_MAX 64
#define MESHD_CONFIG_DNS_MAX  256
#define MESHD_CONFIG_RESOLVERS_MAX 8u
#define MESHD_CONFIG_UNSET    UINT8_MAX /* mode, strict_close: what is above holds */
#define MESHD_CONFIG_FILE_MAX 256
#define MESHD_LABEL_MAX       128
#define MESHD_CONFIG_ARG_MAX  1024
#define MESHD_EGRESS_HOSTS_MAX 1024u

/* Where it stands in the files: "meshd.conf:12". */
struct meshd_origin {
    char file[MESHD_CONFIG_FILE_MAX];
    uint32_t line;
};

enum meshd_access_filter { MESHD_ACCESS_ALL = 0, MESHD_ACCESS_ERRORS = 1 };

struct meshd_label_rule {
    char label[MESHD_LABEL_MAX]; /* "key=value" */
    struct meshd_origin at;
};

struct meshd_workload_rule {
    char service[MESH_SERVICE_MAX]; /* "": the rule names none */
    bool allow_requested_service;   /* LIBMESH_SERVICE is granted */
    char user[MESHD_CONFIG_USER_MAX]; /* conditions: "" or -1 when not set; user's id is .user_id */
    char exe[MESHD_CONFIG_GLOB_MAX];
    char unit[MESHD_CONFIG_GLOB_MAX];
    int64_t uid;
    int64_t user_id; /* -1: no such user on this host, the rule never matches */
    uint32_t weight; /* of listeners, as all below */
    char zone[MESH_SERVICE_MAX], region[MESH_SERVICE_MAX]; /* "": the host's */
    struct meshd_label_rule *labels;
    size_t label_count;
    struct meshd_origin at;
};

struct meshd_port_rule {
    uint16_t port;
    uint8_t mode;
    struct meshd_origin at;
};

struct meshd_host {
    char name[MESH_HOST_MAX]; /* lower case */
    uint16_t port;            /* 0: those of the endpoints */
};

struct meshd_host_rule {
    struct meshd_host host;
    struct meshd_origin at;
};

struct meshd_address_rule {
    struct mesh_addr addr;
    struct meshd_origin at;
};

struct meshd_endpoint_rule {
    struct mesh_addr addr;
    uint32_t weight;
    uint8_t priority;
    char zone[MESH_SERVICE_MAX], region[MESH_SERVICE_MAX];
    struct meshd_label_rule *labels;
    size_t label_count;
    struct meshd_origin at;
};

/* The endpoints that have all its labels. */
struct meshd_subset_rule {
    char name[MESH_SERVICE_MAX];
    struct meshd_label_rule *labels;
    size_t label_count;
    struct meshd_origin at;
};

enum meshd_subset_fallback { MESHD_NO_FALLBACK, MESHD_ANY_ENDPOINT, MESHD_DEFAULT_SUBSET };

struct meshd_target_rule {
    char service[MESH_SERVICE_MAX]; /* "": the service itself */
    char subset[MESH_SERVICE_MAX];  /* "": all */
    uint32_t weight;
    struct meshd_origin at;
};

/* The first `prefix` bits of ip. */
struct meshd_net {
    uint8_t ip[16], prefix;
    bool given;
};

struct meshd_route_rule {
    char name[MESH_SERVICE_MAX]; /* "": by its number */
    char source[MESH_SERVICE_MAX]; /* conditions: "", -1 and 0 when not set; user's id is .user_id */
    char user[MESHD_CONFIG_USER_MAX];
    char unit[MESH_SERVICE_MAX];
    int64_t uid;
    int64_t user_id; /* -1: no such user on this host, the rule never matches */
    uint16_t port;
    struct meshd_net address;
    struct meshd_target_rule *split;
    size_t split_count;
    struct meshd_origin at;
};

struct meshd_net_rule {
    struct meshd_net net; /* conditions; one of these two is given */
    char host[MESH_PATTERN_MAX]; /* a name, or "*." and a domain; lower case */
    uint16_t port; /* 0: all */
    struct meshd_origin at;
};

enum meshd_health_type {
    MESHD_HEALTH_TCP = 0,
    MESHD_HEALTH_TLS = 1,
    MESHD_HEALTH_HTTP = 2,
    MESHD_HEALTH_COMMAND = 3,
};

struct meshd_status_range {
    uint16_t from, to;
};

struct meshd_status_rule {
    struct meshd_status_range range;
    struct meshd_origin at;
};

struct meshd_argument_rule {
    char text[MESHD_CONFIG_ARG_MAX];
    struct meshd_origin at;
};

struct meshd_health_rule {
    uint8_t type; /* enum meshd_health_type, or MESHD_CONFIG_UNSET: nothing is checked */
    uint8_t interval_jitter_percent;
    uint16_t port; /* 0: the endpoint's */
    uint32_t interval_ms, timeout_ms, no_traffic_interval_ms;
    uint32_t unhealthy_threshold, healthy_threshold;
    char path[MESHD_CONFIG_GLOB_MAX];
    struct meshd_status_rule *expected; /* none: 200 */
    size_t expected_count;
    struct meshd_status_rule *retriable;
    size_t retriable_count;
    struct meshd_argument_rule *command;
    size_t command_count;
};

/* What becomes mesh_snap_live, and what only meshd needs of it. `enabled` of a group: 1 when it is there. */
struct meshd_live_rule {
    uint8_t outlier_enabled, budget_enabled, slow_start_enabled;
    bool check_unejects;
    uint8_t max_ejection_percent;
    uint32_t consecutive_5xx, interval_ms, base_ejection_ms, max_ejection_ms, jitter_ms;
    uint8_t enforcing_success_rate, enforcing_failure_percentage, failure_percentage_threshold;
    uint32_t success_rate_minimum_hosts, success_rate_request_volume, success_rate_stdev_factor;
    uint32_t failure_percentage_minimum_hosts, failure_percentage_request_volume;
    uint32_t max_connections, max_pending, max_retries, host_max_connections;
    uint8_t budget_percent, slow_start_percent;
    uint32_t budget_min_retries;
    uint32_t slow_start_ms, slow_start_aggression; /* thousandths */
};

enum meshd_dns_type { MESHD_DNS_A, MESHD_DNS_SRV };

struct meshd_dns_rule {
    char name[MESHD_CONFIG_DNS_MAX]; /* "": none */
    uint8_t type;                    /* enum meshd_dns_type */
    uint16_t port;
    uint32_t refresh_ms;
    struct meshd_address_rule *resolvers;
    size_t resolver_count; /* 0: the host's */
    char zone[MESH_SERVICE_MAX], region[MESH_SERVICE_MAX]; /* of its endpoints */
    struct meshd_label_rule *labels;
    size_t label_count;
};

struct meshd_hash_term_rule {
    uint8_t field; /* enum mesh_hash_field */
    bool terminal;
    struct meshd_origin at;
};

/* For ring_hash and maglev. */
struct meshd_hash_rule {
    uint32_t minimum_ring_size, maximum_ring_size;
    uint32_t table_size;
    uint32_t balance_factor; /* percent; 0: none */
    struct meshd_hash_term_rule *terms;
    size_t term_count;
};

struct meshd_fault_rule {
    uint8_t type; /* enum mesh_fault */
    uint16_t percentage; /* of MESH_FAULT_ALWAYS */
    uint16_t port;
    uint32_t delay_ms;
    uint64_t after_bytes, rate, max_bytes;
    char source[MESH_SERVICE_MAX];
    struct meshd_origin at;
};

/* Limits and faults of a service; 0: none. */
struct meshd_limits_rule {
    uint32_t max_tokens, tokens_per_fill, fill_interval_ms;
    uint32_t max_connections, max_connections_per_caller;
    bool shadow;
    uint64_t bandwidth, service_bandwidth;
    uint32_t idle_timeout_ms, max_age_ms;
    uint32_t keepalive_time_s, keepalive_interval_s, keepalive_probes, user_timeout_ms;
    struct meshd_fault_rule *faults;
    size_t fault_count;
};

struct meshd_service_rule {
    char name[MESH_SERVICE_MAX];
    uint8_t mode;         /* enum mesh_mode or MESHD_CONFIG_UNSET */
    uint8_t strict_close; /* 0, 1 or MESHD_CONFIG_UNSET */
    uint8_t load_balancer; /* enum mesh_lb */
    struct meshd_hash_rule hash;
    uint32_t connect_timeout_ms;
    uint8_t max_connect_attempts;
    struct meshd_port_rule *ports;
    size_t port_count;
    struct meshd_address_rule *addresses;
    size_t address_count;
    struct meshd_host_rule *hosts;
    size_t host_count;
    struct meshd_endpoint_rule *endpoints;
    size_t endpoint_count;
    struct meshd_dns_rule dns;
    uint8_t panic_threshold; /* percent */
    uint8_t subset_fallback; /* enum meshd_subset_fallback */
    char default_subset[MESH_SERVICE_MAX];
    char redirect[MESH_SERVICE_MAX];
    struct meshd_subset_rule *subsets;
    size_t subset_count;
    struct meshd_route_rule *routes;
    size_t route_count;
    struct meshd_target_rule *split;
    size_t split_count;
    struct meshd_target_rule *failover;
    size_t failover_count;
    struct meshd_health_rule health;
    struct meshd_live_rule live;
    struct meshd_limits_rule limits;
    struct meshd_origin at;
};

struct meshd_config {
    char trust_domain[MESH_ID_MAX];
    char namespace_[MESH_SERVICE_MAX];
    char run_dir[MESHD_PATH_MAX];
    char state_dir[MESHD_PATH_MAX];
    char virtual_domain[MESH_DOMAIN_MAX]; /* "": services have no names but their hosts */
    char admin_listen[MESHD_CONFIG_GLOB_MAX]; /* "ADDR:PORT", "unix:/PATH" or "off" */
    char access_log_path[MESHD_PATH_MAX]; /* absolute, "stdout" or "off" */
    uint8_t access_log_filter;            /* enum meshd_access_filter */
    uint32_t cert_ttl_s;
    uint32_t accept_grace_ms;
    uint32_t handshake_timeout_ms;
    uint32_t detect_timeout_ms;
    uint32_t linger_ms;
    uint8_t mode;                 /* enum mesh_mode, mesh-wide */
    uint8_t egress;               /* 0 allow_any, 1 registry_only */
    bool session_resumption;
    uint8_t kernel_tls;           /* enum mesh_kernel_tls */
    uint8_t log_level;            /* enum meshd_level */
    char zone[MESH_SERVICE_MAX], region[MESH_SERVICE_MAX]; /* where this host is; "" if unknown */
    struct meshd_net_rule *egress_allow;
    size_t egress_allow_count;
    bool strict_close;
    bool watch_config;
    bool allow_requested_service; /* for workloads that no rule matches */
    struct meshd_workload_rule *workloads; /* first match wins */
    size_t workload_count;
    struct meshd_service_rule *services; /* names are unique */
    size_t service_count;
    const struct meshd_service_rule **by_name; /* the same, sorted */
    uint64_t serial; /* no other one has it */
};

/* Reads `file` (NULL: built-in defaults) and makes it the current configuration; run_dir (may be
 * NULL) is the command line's. On failure it logs every error and the old one stays in force. */
enum mesh_err meshd_config_load(const char *file, const char *run_dir) MESH_MUST_CHECK;
/* The same without putting it in force, with all errors as "file:line: error: ..." on stderr and
 * one word of success on stdout: `meshd -t`. */
enum mesh_err meshd_config_test(const char *file, const char *run_dir) MESH_MUST_CHECK;
/* SIGHUP: loads again what was loaded first. Keys that need a restart keep their value, with a
 * warning. The caller publishes what follows from it. */
enum mesh_err meshd_config_reload(void) MESH_MUST_CHECK;
/* After a reload that succeeded: all that follows from it was done; or not, and the one before is in force again. */
void meshd_config_settle(bool good);

/* How the last load went; "" for the file when there is none. */
struct meshd_config_info {
    char file[MESHD_PATH_MAX];
    uint32_t files;             /* read, with conf.d */
    bool last_ok;
    uint64_t loaded_s, tried_s; /* CLOCK_REALTIME: of what is in force, of the last try */
    uint64_t reloads;           /* tries after the first */
    uint32_t errors;            /* of the last try */
    char first_error[512];
};
void meshd_config_info(struct meshd_config_info *out);

/* The pattern, for glob(3), of what is read besides `file`. */
void meshd_config_drop_ins(const char *file, char *out, size_t room);

/* Builds a configuration of `file` (may be NULL) and its conf.d without side effects. NULL when
 * there are errors, all of them in *d. Ended with meshd_config_free. */
struct meshd_config *meshd_config_build(const char *file, const char *run_dir,
                                        struct meshd_diags *d, uint32_t *files);
void meshd_config_free(struct meshd_config *cfg);

/* Never NULL after the first successful load. */
const struct meshd_config *meshd_config_current(void);

/* The first rule that matches `peer`, or NULL. Borrowed from cfg. */
const struct meshd_workload_rule *meshd_config_match_workload(const struct meshd_config *cfg,
                                                              const struct meshd_peer *peer);

/* Effective inbound mode: per port, else per service, else mesh-wide. Port 0: the service's. */
enum mesh_mode meshd_config_mode(const struct meshd_config *cfg, const char *service,
                                 uint16_t port);
/* The same of the service with this rule, or with none (NULL). */
enum mesh_mode meshd_config_rule_mode(const struct meshd_config *cfg, const struct meshd_service_rule *s,
                                      uint16_t port);

/* The service's rule, or NULL. Borrowed from cfg. */
const struct meshd_service_rule *meshd_config_service(const struct meshd_config *cfg,
                                                      const char *service);

/* Where a connection that is sent to the service really goes: `redirect` followed; NULL: it is not configured. */
const struct meshd_service_rule *meshd_config_redirected(const struct meshd_config *cfg, const char *service);
/* The name of the service that t of s's rules means, its redirects followed; t NULL: s itself. Borrowed from cfg. */
const char *meshd_config_target(const struct meshd_config *cfg, const struct meshd_service_rule *s,
                                const struct meshd_target_rule *t);

/* "10.0.0.1:80" or "[fd00::1]:80"; false if it is none. */
bool meshd_config_addr(const char *text, struct mesh_addr *out);

/* Can a service of this name be reached by it alone: one label, no address, not this host itself? */
bool meshd_config_is_label(const char *service);

/* FIN without close_notify is an error for this service. */
bool meshd_config_strict_close(const struct meshd_config *cfg, const char *service);

#endif
