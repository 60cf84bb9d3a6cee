/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_nametab: the writer of the snapshot's names [mesh/names.h]. Inside registry/ only.
 */
#ifndef MESHD_REGISTRY_NAMETAB_H
#define MESHD_REGISTRY_NAMETAB_H

#include <stdint.h>

#include "mesh/names.h"

/* Adds them to the snapshot that is being made: links are made here, what else is in `names` is taken
 * over. Where an address has several names, the first one is what it is called. */
void meshd_nametab_write(const struct mesh_snap_name *names, uint32_t count, const char *domain);

#endif
