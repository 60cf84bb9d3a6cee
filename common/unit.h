/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_unit: the systemd unit of a process. Pure; any thread.
 */
#ifndef MESH_COMMON_UNIT_H
#define MESH_COMMON_UNIT_H

#include <stddef.h>

/* The systemd unit in the text of /proc/PID/cgroup, "" if none; below a user manager "user@UID/NAME". */
void mesh_unit_of(const char *cgroup, char *out, size_t cap);

#endif
