/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_proc: tells when processes die: by pidfd, else by looking at /proc twice a second.
 */
#ifndef MESHD_BASE_PROC_H
#define MESHD_BASE_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "mesh/err.h"

/* (pid, starttime) is gone. */
typedef void meshd_proc_gone(pid_t pid, uint64_t starttime);
enum mesh_err meshd_proc_init(meshd_proc_gone *gone) MESH_MUST_CHECK;
void meshd_proc_fini(void);

/* Watches a process until it is gone; watching it again is fine. When it is already dead, `gone`
 * is called from the event loop soon. MESH_E_NO_MEMORY. */
enum mesh_err meshd_proc_watch(pid_t pid, uint64_t starttime) MESH_MUST_CHECK;

/* Field 22 of /proc/PID/stat; 0 when there is no such process or it is a zombie. */
uint64_t meshd_proc_starttime(pid_t pid);
bool meshd_proc_is_alive(pid_t pid, uint64_t starttime);

#endif
