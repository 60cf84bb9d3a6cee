/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_configured: the source that is the configuration itself. Inside registry/ only.
 */
#ifndef MESHD_REGISTRY_CONFIGURED_H
#define MESHD_REGISTRY_CONFIGURED_H

#include "mesh/err.h"

/* Takes the current configuration's endpoints; the old ones stay on MESH_E_NO_MEMORY. */
enum mesh_err meshd_configured_load(void) MESH_MUST_CHECK;

#endif
