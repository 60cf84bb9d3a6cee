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
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "meshd/base/log.h"
#include "meshd/base/peer.h"
#include "meshd/policy/diag.h"
#include "meshd/policy/schema.h"
#include "meshd/policy/tree.h"

static struct meshd_config *current;
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

/* glob() sorts by the locale's order; the C locale is in force as meshd never calls setlocale. */
static void
read_drop_ins(struct meshd_config *cfg, const char *file, struct meshd_diags *d, uint32_t *files)
{
    char pattern[2 * MESHD_PATH_MAX], copy[MESHD_PATH_MAX];
    glob_t found = {0};

    snprintf(copy, sizeof(copy), "%s", file);
    /* a directory's own name may hold pattern characters */
    size_t len = 0;
    for (const char *p = dirname(copy); *p && len < sizeof(pattern) - 16; p++) {
        if (strchr("*?[\\", *p)) {
            pattern[len++] = '\\';
        }
        pattern[len++] = *p;
    }
    snprintf(pattern + len, sizeof(pattern) - len, "/conf.d/*.conf");
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

static void
resolve_user(struct meshd_workload_rule *r, struct meshd_diags *d)
{
    const struct passwd *pw = r->user[0] ? getpwnam(r->user) : NULL;
    r->user_id = pw ? (int64_t)pw->pw_uid : -1;
    if (r->user[0] && !pw) {
        meshd_diag_warn(d, r->at.file, r->at.line,
                        "workloads: no user '%s' on this host; the rule never matches", r->user);
    }
}

static void
check_workloads(struct meshd_config *cfg, struct meshd_diags *d)
{
    for (size_t i = 0; i < cfg->workload_count; i++) {
        struct meshd_workload_rule *r = &cfg->workloads[i];
        bool all = !r->user[0] && r->uid < 0 && !r->exe[0] && !r->unit[0];
        resolve_user(r, d);
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

/* Which service a connection to an address means must be clear. */
static void
check_endpoint(const struct meshd_config *cfg, const struct meshd_service_rule *s,
               const struct meshd_endpoint_rule *e, struct meshd_diags *d)
{
    char text[MESH_ADDR_TEXT];
    for (const struct meshd_service_rule *o = cfg->services; o < s; o++) {
        for (size_t i = 0; i < o->endpoint_count; i++) {
            const struct meshd_endpoint_rule *other = &o->endpoints[i];
            if (mesh_addr_eq(&other->addr, &e->addr)) {
                meshd_diag_error(d, e->at.file, e->at.line,
                                 "endpoints: %s is already an endpoint of service '%s' at %s:%u",
                                 mesh_addr_text(&e->addr, text), o->name, other->at.file,
                                 other->at.line);
                return;
            }
        }
    }
}

static void
check_services(const struct meshd_config *cfg, struct meshd_diags *d)
{
    for (size_t i = 0; i < cfg->service_count; i++) {
        const struct meshd_service_rule *s = &cfg->services[i];
        check_id(cfg, s->name, &s->at, d);
        for (size_t j = 0; j < s->endpoint_count; j++) {
            check_endpoint(cfg, s, &s->endpoints[j], d);
        }
    }
    for (size_t i = 0; i < cfg->workload_count; i++) {
        check_id(cfg, cfg->workloads[i].service, &cfg->workloads[i].at, d);
    }
}

/* ---- building ---- */

struct meshd_config *
meshd_config_build(const char *file, const char *run_dir, struct meshd_diags *d, uint32_t *files)
{
    struct meshd_config *cfg = calloc(1, sizeof(*cfg));
    uint32_t count = 0;

    if (!cfg) {
        meshd_diag_error(d, NULL, 0, "out of memory");
        return NULL;
    }
    meshd_schema_defaults(cfg);
    if (file) {
        read_one(cfg, file, d, &count);
        read_drop_ins(cfg, file, d, &count);
    }
    choose_dirs(cfg, run_dir, d);
    check_workloads(cfg, d);
    check_services(cfg, d);
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
    struct meshd_config *old = current;
    current = cfg;
    meshd_config_free(old);
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
           (!r->unit[0] || fnmatch(r->unit, peer->unit, 0) == 0);
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

const struct meshd_service_rule *
meshd_config_service(const struct meshd_config *cfg, const char *service)
{
    for (size_t i = 0; i < cfg->service_count; i++) {
        if (strcmp(cfg->services[i].name, service) == 0) {
            return &cfg->services[i];
        }
    }
    return NULL;
}

enum mesh_mode
meshd_config_mode(const struct meshd_config *cfg, const char *service, uint16_t port)
{
    const struct meshd_service_rule *s = meshd_config_service(cfg, service);

    for (size_t i = 0; s && i < s->port_count; i++) {
        if (s->ports[i].port == port) {
            return (enum mesh_mode)s->ports[i].mode;
        }
    }
    return (enum mesh_mode)(s && s->mode != MESHD_CONFIG_UNSET ? s->mode : cfg->mode);
}

bool
meshd_config_strict_close(const struct meshd_config *cfg, const char *service)
{
    const struct meshd_service_rule *s = meshd_config_service(cfg, service);
    return s && s->strict_close != MESHD_CONFIG_UNSET ? s->strict_close : cfg->strict_close;
}
