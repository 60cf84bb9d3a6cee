/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_configured: see configured.h.
 */
#include "meshd/registry/configured.h"

#include "meshd/policy/config.h"
#include "meshd/registry/source.h"

static struct meshd_source source = {.rank = MESHD_RANK_CONFIG};

enum mesh_err
meshd_configured_load(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    for (size_t i = 0; i < cfg->service_count; i++) {
        const struct meshd_service_rule *r = &cfg->services[i];
        enum mesh_err e = meshd_source_stage(&source, r->name, r->endpoints, r->endpoint_count);
        if (e != MESH_OK) {
            meshd_source_abort(&source);
            return e;
        }
    }
    return meshd_source_commit(&source, true);
}
