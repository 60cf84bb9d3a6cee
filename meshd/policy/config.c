/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_config: see config.h. Owns the configuration in force, and where it came from. Building one
 * has no side effects; putting it in force is a swap of one pointer that nothing can fail.
 */
#include "meshd/policy/config.h"

#include <errno.h>
#include <fnmatch.h>
#include <glob.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "meshd/base/log.h"
#include "meshd/base/peer.h"
#include "meshd/policy/diag.h"
#include "meshd/policy/egress.h"
#include "meshd/policy/hash.h"
#include "meshd/policy/health.h"
#include "meshd/policy/routes.h"
#include "meshd/policy/limits.h"
#include "meshd/policy/owners.h"
#include "meshd/policy/schema.h"
#include "meshd/policy/tree.h"
#include "meshd/policy/units.h"
#include "meshd/policy/users.h"

static struct meshd_config *current, *previous; /* previous: until the reload is settled */
static struct meshd_config_info info;
static char *source_file, *source_run_dir; /* of the first load, for a reload */

/* ---- files ---- */

static void
read_one(struct meshd_config *cfg, const char *file, struct meshd_diags *d, uint32_t *files)
{
    struct meshd_node *root = meshd_tree_read(file, d);
    if (root) {
        meshd_schema_apply(cfg, root, d);
        meshd_tree_free(root);
        (*files)++;
    }
}

void
meshd_config_drop_ins(const char *file, char *out, size_t room)
{
    static const char rest[] = "/conf.d/*.conf";
    char copy[MESHD_PATH_MAX];
    size_t len = 0;

    snprintf(copy, sizeof(copy), "%s", file);
    /* a directory's own name may hold pattern characters */
    for (const char *p = dirname(copy); *p && len + sizeof(rest) + 2 < room; p++) {
        if (strchr("*?[\\", *p)) {
            out[len++] = '\\';
        }
        out[len++] = *p;
    }
    snprintf(out + len, room - len, "%s", rest);
}

/* glob() sorts by the locale's order; the C locale is in force as meshd never calls setlocale. */
static void
read_drop_ins(struct meshd_config *cfg, const char *file, struct meshd_diags *d, uint32_t *files)
{
    char pattern[2 * MESHD_PATH_MAX];
    glob_t found = {0};

    meshd_config_drop_ins(file, pattern, sizeof(pattern));
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            read_one(cfg, found.gl_pathv[i], d, files);
        }
    }
    globfree(&found);
}

/* ---- what no single key can tell ---- */

static void
choose_dirs(struct meshd_config *cfg, const char *run_dir, struct meshd_diags *d)
{
    bool root = geteuid() == 0, usual = !run_dir && !cfg->run_dir[0];
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    int n = 0;

    if (run_dir) {
        n = snprintf(cfg->run_dir, sizeof(cfg->run_dir), "%s", run_dir);
    } else if (!usual) {
        n = (int)strlen(cfg->run_dir);
    } else if (root) {
        n = snprintf(cfg->run_dir, sizeof(cfg->run_dir), "/run/meshd");
    } else if (xdg && *xdg == '/') {
        n = snprintf(cfg->run_dir, sizeof(cfg->run_dir), "%s/meshd", xdg);
    } else {
        meshd_diag_error(d, NULL, 0, "no run directory: XDG_RUNTIME_DIR is not set; use --run-dir DIR");
    }
    if (n < 0 || (size_t)n >= sizeof(cfg->run_dir) - 16) {
        meshd_diag_error(d, NULL, 0, "the run directory's path is too long");
        return;
    }
    if (!cfg->state_dir[0] && root && usual) {
        snprintf(cfg->state_dir, sizeof(cfg->state_dir), "/var/lib/meshd");
    } else if (!cfg->state_dir[0]) {
        snprintf(cfg->state_dir, sizeof(cfg->state_dir), "%.*s/state", MESHD_PATH_MAX - 16,
                 cfg->run_dir);
    }
}

static int64_t
user_id(const struct meshd_config *cfg, const char *user, const char *where, const struct meshd_origin *at,
        struct meshd_diags *d)
{
    int64_t id = user[0] ? meshd_users_id(user, cfg->serial) : -1;
    if (user[0] && id < 0) {
        meshd_diag_warn(d, at->file, at->line, "%s: no user '%s' on this host; the rule never matches",
                        where, user);
    }
    return id;
}

static void
check_workloads(struct meshd_config *cfg, struct meshd_diags *d)
{
    for (size_t i = 0; i < cfg->workload_count; i++) {
        struct meshd_workload_rule *r = &cfg->workloads[i];
        bool all = !r->user[0] && r->uid < 0 && !r->exe[0] && !r->unit[0];
        r->user_id = user_id(cfg, r->user, "workloads", &r->at, d);
        if (all && d->errors == 0 && i + 1 < cfg->workload_count) {
            meshd_diag_warn(d, r->at.file, r->at.line,
                            "workloads: this rule has no condition, so the rule at %s:%u and later "
                            "ones never match",
                            r[1].at.file, r[1].at.line);
        }
    }
}

static void
check_id(const struct meshd_config *cfg, const char *service, const struct meshd_origin *at,
         struct meshd_diags *d)
{
    int n = snprintf(NULL, 0, "spiffe://%s/ns/%s/sa/%s", cfg->trust_domain, cfg->namespace_, service);
    if (n >= (int)MESH_ID_MAX) {
        meshd_diag_error(d, at->file, at->line, "the identity of service '%s' is longer than %u bytes",
                         service, MESH_ID_MAX - 1);
    }
}

static void
check_weights(const struct meshd_service_rule *s, struct meshd_diags *d)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < s->endpoint_count; i++) {
        sum += s->endpoints[i].weight;
    }
    if (s->endpoint_count > 0 && sum == 0) {
        meshd_diag_error(d, s->at.file, s->at.line,
                         "endpoints: all of service '%s' have weight 0, so none can be chosen", s->name);
    }
}

static void
check_live(const struct meshd_service_rule *s, struct meshd_diags *d)
{
    const struct meshd_live_rule *l = &s->live;
    if (l->outlier_enabled == 1 && l->max_ejection_ms < l->base_ejection_ms) {
        meshd_diag_error(d, s->at.file, s->at.line,
                         "outlier_detection: max_ejection_time of service '%s' is shorter than its "
                         "base_ejection_time", s->name);
    }
    if (l->max_connections && l->host_max_connections > l->max_connections) {
        meshd_diag_error(d, s->at.file, s->at.line,
                         "circuit_breaker: per_host_max_connections of service '%s' is more than its "
                         "max_connections", s->name);
    }
    if (l->max_connections && l->max_pending > l->max_connections) {
        meshd_diag_error(d, s->at.file, s->at.line,
                         "circuit_breaker: max_pending_connects of service '%s' is more than its "
                         "max_connections, which count them", s->name);
    }
}

static void
check_dns(const struct meshd_service_rule *s, struct meshd_diags *d)
{
    if (s->dns.name[0] && s->dns.type == MESHD_DNS_A && s->dns.port == 0) {
        meshd_diag_error(d, s->at.file, s->at.line, "dns: service '%s' has no port; type \"a\" needs one",
                         s->name);
    } else if (s->dns.name[0] && s->dns.type == MESHD_DNS_SRV && s->dns.port != 0) {
        meshd_diag_error(d, s->at.file, s->at.line,
                         "dns: service '%s' has a port; type \"srv\" takes it from the record", s->name);
    }
    if (s->dns.resolver_count > MESHD_CONFIG_RESOLVERS_MAX) {
        const struct meshd_origin *at = &s->dns.resolvers[MESHD_CONFIG_RESOLVERS_MAX].at;
        meshd_diag_error(d, at->file, at->line, "resolvers: more than %u", MESHD_CONFIG_RESOLVERS_MAX);
    }
}

static void
check_services(struct meshd_config *cfg, struct meshd_diags *d)
{
    meshd_owners_check(cfg, d);
    for (size_t i = 0; i < cfg->service_count; i++) {
        const struct meshd_service_rule *s = &cfg->services[i];
        for (size_t j = 0; j < s->route_count; j++) {
            s->routes[j].user_id = user_id(cfg, s->routes[j].user, "routes", &s->routes[j].at, d);
        }
        check_id(cfg, s->name, &s->at, d);
        check_weights(s, d);
        check_dns(s, d);
        meshd_routes_check(cfg, s, d);
        meshd_policy_check_health(cfg, s, d);
        check_live(s, d);
        meshd_config_check_limits(s, d);
        meshd_hash_check(s, d);
    }
    meshd_hash_check_room(cfg, d);
    for (size_t i = 0; i < cfg->workload_count; i++) {
        check_id(cfg, cfg->workloads[i].service, &cfg->workloads[i].at, d);
    }
}

/* ---- building ---- */

static int
by_name(const void *a, const void *b)
{
    const struct meshd_service_rule *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static bool
index_services(struct meshd_config *cfg)
{
    cfg->by_name = calloc(cfg->service_count + 1, sizeof(struct meshd_service_rule *));
    for (size_t i = 0; cfg->by_name && i < cfg->service_count; i++) {
        cfg->by_name[i] = &cfg->services[i];
    }
    if (cfg->by_name) {
        qsort(cfg->by_name, cfg->service_count, sizeof(struct meshd_service_rule *), by_name);
    }
    return cfg->by_name != NULL;
}

struct meshd_config *
meshd_config_build(const char *file, const char *run_dir, struct meshd_diags *d, uint32_t *files)
{
    static uint64_t serial;
    struct meshd_config *cfg = calloc(1, sizeof(*cfg));
    uint32_t count = 0;

    if (!cfg) {
        meshd_diag_error(d, NULL, 0, "out of memory");
        return NULL;
    }
    meshd_schema_defaults(cfg);
    cfg->serial = ++serial;
    if (file) {
        read_one(cfg, file, d, &count);
        read_drop_ins(cfg, file, d, &count);
    }
    choose_dirs(cfg, run_dir, d);
    check_workloads(cfg, d);
    if (!index_services(cfg)) {
        meshd_diag_error(d, NULL, 0, "out of memory");
        meshd_config_free(cfg);
        return NULL;
    }
    check_services(cfg, d);
    meshd_config_check_egress(cfg, d);
    if (d->errors > 0) {
        meshd_config_free(cfg);
        return NULL;
    }
    if (files) {
        *files = count;
    }
    return cfg;
}

void
meshd_config_free(struct meshd_config *cfg)
{
    if (cfg) {
        meshd_schema_fini(cfg);
        free(cfg->by_name);
        free(cfg);
    }
}

/* ---- loading ---- */

static void
log_diags(const struct meshd_diags *d)
{
    for (size_t i = 0; i < d->count; i++) {
        meshd_log(d->list[i].is_error ? MESHD_LOG_ERROR : MESHD_LOG_WARN, "%s", d->list[i].text);
    }
    if (d->dropped > 0) {
        log_error("and %zu more", d->dropped);
    }
}

static void
note_result(const struct meshd_config *cfg, const struct meshd_diags *d, uint32_t files)
{
    info.tried_s = (uint64_t)time(NULL);
    info.last_ok = cfg != NULL;
    info.errors = (uint32_t)d->errors;
    info.first_error[0] = '\0';
    for (size_t i = 0; i < d->count && !info.first_error[0]; i++) {
        if (d->list[i].is_error) {
            snprintf(info.first_error, sizeof(info.first_error), "%s", d->list[i].text);
        }
    }
    if (cfg) {
        info.loaded_s = info.tried_s;
        info.files = files;
    }
}

static enum mesh_err
load(const char *file, const char *run_dir)
{
    struct meshd_diags d = {0};
    uint32_t files = 0;
    struct meshd_config *cfg = meshd_config_build(file, run_dir, &d, &files);

    if (cfg && current) {
        meshd_schema_keep(cfg, current, &d);
    }
    log_diags(&d);
    note_result(cfg, &d, files);
    meshd_diags_fini(&d);
    if (!cfg) {
        return MESH_E_CONFIG;
    }
    /* nothing below can fail */
    meshd_config_free(previous);
    previous = current;
    current = cfg;
    meshd_log_set((enum meshd_level)cfg->log_level);
    return MESH_OK;
}

/* A reload is the same call as the first load; what was given then is kept for
 * meshd_config_reload. */
enum mesh_err
meshd_config_load(const char *file, const char *run_dir)
{
    char *f = file ? strdup(file) : NULL, *r = run_dir ? strdup(run_dir) : NULL;

    if ((file && !f) || (run_dir && !r)) {
        free(f);
        free(r);
        return MESH_E_NO_MEMORY;
    }
    free(source_file);
    free(source_run_dir);
    source_file = f;
    source_run_dir = r;
    snprintf(info.file, sizeof(info.file), "%s", f ? f : "");
    info.reloads += current != NULL;
    return load(f, r);
}

enum mesh_err
meshd_config_reload(void)
{
    info.reloads++;
    return load(source_file, source_run_dir);
}

void
meshd_config_settle(bool good)
{
    struct meshd_config *useless = good ? previous : current;
    if (!previous) {
        return;
    }
    current = good ? current : previous;
    previous = NULL;
    info.last_ok = good;
    if (!good) {
        info.errors = 1;
        snprintf(info.first_error, sizeof(info.first_error), "valid, but there is no room for it");
    }
    meshd_config_free(useless);
    meshd_log_set((enum meshd_level)current->log_level);
}

enum mesh_err
meshd_config_test(const char *file, const char *run_dir)
{
    struct meshd_diags d = {0};
    /* where it would run is not in question */
    struct meshd_config *cfg = meshd_config_build(file, run_dir ? run_dir : "/run/meshd", &d, NULL);
    bool ok = cfg != NULL;

    for (size_t i = 0; i < d.count; i++) {
        fprintf(stderr, "%s\n", d.list[i].text);
    }
    if (d.dropped > 0) {
        fprintf(stderr, "and %zu more\n", d.dropped);
    }
    if (ok) {
        printf("ok: %s\n", file ? file : "built-in defaults");
    } else {
        fprintf(stderr, "%zu error%s\n", d.errors, d.errors == 1 ? "" : "s");
    }
    meshd_config_free(cfg);
    meshd_diags_fini(&d);
    return ok ? MESH_OK : MESH_E_CONFIG;
}

const struct meshd_config *
meshd_config_current(void)
{
    return current;
}

void
meshd_config_info(struct meshd_config_info *out)
{
    *out = info;
}

/* ---- looking things up ---- */

static bool
rule_matches(const struct meshd_workload_rule *r, const struct meshd_peer *peer)
{
    return (!r->user[0] || r->user_id == (int64_t)peer->uid) &&
           (r->uid < 0 || r->uid == (int64_t)peer->uid) &&
           (!r->exe[0] || fnmatch(r->exe, peer->exe, FNM_PATHNAME) == 0) &&
           (!r->unit[0] || fnmatch(r->unit, peer->unit, FNM_PATHNAME) == 0);
}

const struct meshd_workload_rule *
meshd_config_match_workload(const struct meshd_config *cfg, const struct meshd_peer *peer)
{
    for (size_t i = 0; i < cfg->workload_count; i++) {
        if (rule_matches(&cfg->workloads[i], peer)) {
            return &cfg->workloads[i];
        }
    }
    return NULL;
}

static int
name_to_rule(const void *name, const void *rule)
{
    return strcmp(name, (*(const struct meshd_service_rule *const *)rule)->name);
}

const struct meshd_service_rule *
meshd_config_service(const struct meshd_config *cfg, const char *service)
{
    const struct meshd_service_rule **r =
        bsearch(service, cfg->by_name, cfg->service_count, sizeof(*cfg->by_name), name_to_rule);
    return r ? *r : NULL;
}

enum mesh_mode
meshd_config_mode(const struct meshd_config *cfg, const char *service, uint16_t port)
{
    return meshd_config_rule_mode(cfg, meshd_config_service(cfg, service), port);
}

enum mesh_mode
meshd_config_rule_mode(const struct meshd_config *cfg, const struct meshd_service_rule *s, uint16_t port)
{
    for (size_t i = 0; s && i < s->port_count; i++) {
        if (s->ports[i].port == port) {
            return (enum mesh_mode)s->ports[i].mode;
        }
    }
    return (enum mesh_mode)(s && s->mode != MESHD_CONFIG_UNSET ? s->mode : cfg->mode);
}

bool
meshd_config_addr(const char *text, struct mesh_addr *out)
{
    return meshd_units_addr(text, out);
}

bool
meshd_config_strict_close(const struct meshd_config *cfg, const char *service)
{
    const struct meshd_service_rule *s = meshd_config_service(cfg, service);
    return s && s->strict_close != MESHD_CONFIG_UNSET ? s->strict_close : cfg->strict_close;
}
