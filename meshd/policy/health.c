/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_policy_check_health: see health.h.
 */
#include "meshd/policy/health.h"

static void
check_command(const struct meshd_service_rule *s, struct meshd_diags *d)
{
    const struct meshd_health_rule *h = &s->health;
    const struct meshd_argument_rule *a = h->command;
    if (h->type == MESHD_HEALTH_COMMAND && h->command_count == 0) {
        meshd_diag_error(d, s->at.file, s->at.line,
                         "health_check: service '%s' is checked by a command, but there is no command",
                         s->name);
    } else if (h->command_count > 0 && a->text[0] != '/') {
        meshd_diag_error(d, a->at.file, a->at.line,
                         "health_check: command: \"%.64s\" is no absolute path", a->text);
    } else if (h->command_count > MESHD_HEALTH_ARGUMENTS) {
        meshd_diag_error(d, a->at.file, a->at.line, "health_check: command: more than %u strings",
                         MESHD_HEALTH_ARGUMENTS);
    }
}

static void
check_use(const char *key, const struct meshd_origin *at, bool used, struct meshd_diags *d)
{
    if (at && !used) {
        meshd_diag_warn(d, at->file, at->line, "health_check: %s is of no use with this type", key);
    }
}

/* TLS with an endpoint that speaks none can only fail. */
static void
check_mode(const struct meshd_config *cfg, const struct meshd_service_rule *s, struct meshd_diags *d)
{
    uint8_t mode = s->mode != MESHD_CONFIG_UNSET ? s->mode : cfg->mode;
    if (s->health.type == MESHD_HEALTH_TLS && mode == MESH_MODE_OFF && s->port_count == 0) {
        meshd_diag_error(d, s->at.file, s->at.line,
                         "health_check: service '%s' is checked by tls, but its mode is off", s->name);
    }
}

void
meshd_policy_check_health(const struct meshd_config *cfg, const struct meshd_service_rule *s,
                          struct meshd_diags *d)
{
    const struct meshd_health_rule *h = &s->health;
    bool http = h->type == MESHD_HEALTH_HTTP, command = h->type == MESHD_HEALTH_COMMAND;
    if (h->type == MESHD_CONFIG_UNSET) {
        return;
    }
    check_command(s, d);
    check_use("command", h->command_count ? &h->command->at : NULL, command, d);
    check_use("expected_status", h->expected_count ? &h->expected->at : NULL, http, d);
    check_use("retriable_status", h->retriable_count ? &h->retriable->at : NULL, http, d);
    check_mode(cfg, s, d);
}
