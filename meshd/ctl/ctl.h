/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_ctl: the status socket, <run_dir>/status.sock: what people, scripts and meshctl ask. One text
 * command a line, read-only, for every local user. Main thread only.
 */
#ifndef MESHD_CTL_CTL_H
#define MESHD_CTL_CTL_H

#include <stdint.h>

#include "mesh/err.h"

/* Opens the socket; a stale file of that name is replaced (the caller holds the run directory's
 * lock). */
enum mesh_err meshd_ctl_init(const char *run_dir) MESH_MUST_CHECK;
/* Hangs up on everybody and removes the file. */
void meshd_ctl_fini(void);
uint32_t meshd_ctl_clients(void);

#endif
