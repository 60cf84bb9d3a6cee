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
#include "mesh/snapshot.h"

struct meshd_diags;
struct meshd_peer;

#define MESHD_PATH_MAX 4096

#define MESHD_CONFIG_GLOB_MAX 256
#define MESHD_CONFIG_USER_MAX 64
#define MESHD_CONFIG_UNSET    UINT8_MAX /* mode, strict_close: what is above holds */
#define MESHD_CONFIG_FILE_MAX 256

/* Where it stands in the files: "meshd.conf:12". */
struct meshd_origin {
    char file[MESHD_CONFIG_FILE_MAX];
    uint32_t line;
};

struct meshd_workload_rule {
    char service[MESH_SERVICE_MAX]; /* "": the rule names none */
    bool allow_requested_service;   /* LIBMESH_SERVICE is granted */
    char user[MESHD_CONFIG_USER_MAX]; /* conditions: "" or -1 when not set; user's id is .user_id */
    char exe[MESHD_CONFIG_GLOB_MAX];
    char unit[MESHD_CONFIG_GLOB_MAX];
    int64_t uid;
    int64_t user_id; /* -1: no such user on this host, the rule never matches */
    struct meshd_origin at;
};

struct meshd_port_rule {
    uint16_t port;
    uint8_t mode;
    struct meshd_origin at;
};

struct meshd_endpoint_rule {
    struct mesh_addr addr;
    struct meshd_origin at;
};

struct meshd_service_rule {
    char name[MESH_SERVICE_MAX];
    uint8_t mode;         /* enum mesh_mode or MESHD_CONFIG_UNSET */
    uint8_t strict_close; /* 0, 1 or MESHD_CONFIG_UNSET */
    struct meshd_port_rule *ports;
    size_t port_count;
    struct meshd_endpoint_rule *endpoints;
    size_t endpoint_count;
    struct meshd_origin at;
};

struct meshd_config {
    char trust_domain[MESH_ID_MAX];
    char namespace_[MESH_SERVICE_MAX];
    char run_dir[MESHD_PATH_MAX];
    char state_dir[MESHD_PATH_MAX];
    char admin_listen[MESHD_CONFIG_GLOB_MAX]; /* "ADDR:PORT", "unix:/PATH" or "off" */
    uint32_t cert_ttl_s;
    uint32_t accept_grace_ms;
    uint32_t handshake_timeout_ms;
    uint32_t detect_timeout_ms;
    uint32_t linger_ms;
    uint8_t mode;                 /* enum mesh_mode, mesh-wide */
    uint8_t egress;               /* 0 allow_any, 1 registry_only */
    uint8_t log_level;            /* enum meshd_level */
    bool strict_close;
    bool allow_requested_service; /* for workloads that no rule matches */
    struct meshd_workload_rule *workloads; /* first match wins */
    size_t workload_count;
    struct meshd_service_rule *services; /* names are unique */
    size_t service_count;
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

/* The service's rule, or NULL. Borrowed from cfg. */
const struct meshd_service_rule *meshd_config_service(const struct meshd_config *cfg,
                                                      const char *service);

/* FIN without close_notify is an error for this service. */
bool meshd_config_strict_close(const struct meshd_config *cfg, const char *service);

#endif
