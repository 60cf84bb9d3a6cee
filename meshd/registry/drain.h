/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_drain: orders to give endpoints no new connections. An order names a service or an address and
 * holds until it is taken back, for endpoints that register later too; it outlives meshd, in a file of
 * the run directory. Inside registry/ only.
 */
#ifndef MESHD_REGISTRY_DRAIN_H
#define MESHD_REGISTRY_DRAIN_H

#include "meshd/registry/registry.h"

/* Reads the orders of an earlier meshd; a damaged file is put aside. */
void meshd_drain_init(const char *run_dir);
void meshd_drain_fini(void);

/* Does some order cover it? */
bool meshd_drain_has(const struct meshd_endpoint *e);

#endif
