/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_routes: see routes.h.
 */
#include "meshd/policy/routes.h"

#include <string.h>

#include "meshd/policy/config.h"
#include "meshd/policy/diag.h"

static bool
has_subset(const struct meshd_service_rule *s, const char *name)
{
    for (size_t i = 0; s && i < s->subset_count; i++) {
        if (strcmp(s->subsets[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

const struct meshd_service_rule *
meshd_config_redirected(const struct meshd_config *cfg, const char *service)
{
    const struct meshd_service_rule *s = meshd_config_service(cfg, service);
    for (size_t steps = 0; s && s->redirect[0] && steps < cfg->service_count; steps++) {
        s = meshd_config_service(cfg, s->redirect);
    }
    return s;
}

const char *
meshd_config_target(const struct meshd_config *cfg, const struct meshd_service_rule *s,
                    const struct meshd_target_rule *t)
{
    const char *name = t && t->service[0] ? t->service : s->name;
    const struct meshd_service_rule *to = meshd_config_redirected(cfg, name);
    return to ? to->name : name;
}

/* Registered services need no entry, so an unknown one may only be late. */
static void
check_target(const struct meshd_config *cfg, const struct meshd_service_rule *s, const char *where,
             const struct meshd_target_rule *t, struct meshd_diags *d)
{
    const char *name = t->service[0] ? t->service : s->name;
    const struct meshd_service_rule *to = meshd_config_redirected(cfg, name);
    if (!to) {
        meshd_diag_warn(d, t->at.file, t->at.line,
                        "%s: service '%s' is not configured; until such a one registers it has no endpoints",
                        where, name);
    } else if (t->subset[0] && !has_subset(to, t->subset)) {
        meshd_diag_error(d, t->at.file, t->at.line, "%s: service '%s' has no subset '%s'", where,
                         to->name, t->subset);
    }
}

static void
check_split(const struct meshd_config *cfg, const struct meshd_service_rule *s,
            const struct meshd_target_rule *t, size_t count, struct meshd_diags *d)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        check_target(cfg, s, "split", &t[i], d);
        sum += t[i].weight;
    }
    if (count > 0 && sum == 0) {
        meshd_diag_error(d, t->at.file, t->at.line,
                         "split: all weights are 0, so there is nowhere to go");
    }
}

static void
check_subsets(const struct meshd_service_rule *s, struct meshd_diags *d)
{
    for (size_t i = 0; i < s->subset_count; i++) {
        if (s->subsets[i].label_count == 0) {
            meshd_diag_error(d, s->subsets[i].at.file, s->subsets[i].at.line,
                             "subsets: '%s' has no labels to select by", s->subsets[i].name);
        }
    }
    if (s->subset_fallback == MESHD_DEFAULT_SUBSET && !has_subset(s, s->default_subset)) {
        meshd_diag_error(d, s->at.file, s->at.line,
                         "default_subset: service '%s' has no subset '%s', which subset_fallback needs", s->name,
                         s->default_subset);
    }
}

/* A ring is told of once, by its first service in the files. */
static void
check_redirect(const struct meshd_config *cfg, const struct meshd_service_rule *s, struct meshd_diags *d)
{
    const struct meshd_service_rule *at = s;
    for (size_t steps = 0; at && at->redirect[0] && steps < cfg->service_count; steps++) {
        at = meshd_config_service(cfg, at->redirect);
        if (at == s) {
            meshd_diag_error(d, s->at.file, s->at.line, "redirect: from service '%s' it leads back to it", s->name);
        }
        if (!at || at <= s) {
            return;
        }
    }
}

void
meshd_routes_check(const struct meshd_config *cfg, const struct meshd_service_rule *s,
                   struct meshd_diags *d)
{
    check_subsets(s, d);
    check_redirect(cfg, s, d);
    for (size_t i = 0; i < s->route_count; i++) {
        const struct meshd_route_rule *r = &s->routes[i];
        if (r->split_count == 0) {
            meshd_diag_error(d, r->at.file, r->at.line, "routes: this rule has no split, so it leads nowhere");
        }
        check_split(cfg, s, r->split, r->split_count, d);
    }
    check_split(cfg, s, s->split, s->split_count, d);
    for (size_t i = 0; i < s->failover_count; i++) {
        check_target(cfg, s, "failover", &s->failover[i], d);
    }
}
