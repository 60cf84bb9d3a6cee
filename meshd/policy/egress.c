/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_config_check_egress: see egress.h.
 */
#include "meshd/policy/egress.h"

#include "meshd/policy/host.h"

void
meshd_config_check_egress(const struct meshd_config *cfg, struct meshd_diags *d)
{
    size_t hosts = 0;
    bool read = d->errors == 0; /* a value that was refused is none that is missing */
    for (size_t i = 0; i < cfg->egress_allow_count; i++) {
        const struct meshd_net_rule *r = &cfg->egress_allow[i];
        if (read && !r->net.given && !r->host[0]) {
            meshd_diag_error(d, r->at.file, r->at.line, "egress_allow: this item has no cidr and no host");
        }
        if (meshd_host_is_under(r->host, cfg->virtual_domain)) {
            meshd_diag_error(d, r->at.file, r->at.line,
                             "egress_allow: %s lies under virtual_domain, where only services have names", r->host);
        }
        if (r->host[0] && ++hosts == MESHD_EGRESS_HOSTS_MAX + 1) {
            meshd_diag_error(d, r->at.file, r->at.line, "egress_allow: more than %u hosts", MESHD_EGRESS_HOSTS_MAX);
        }
    }
}
