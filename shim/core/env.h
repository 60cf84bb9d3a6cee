/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_env: what the environment asks of us (names: libmesh(7)); read once, in the constructor.
 */
#ifndef SHIM_CORE_ENV_H
#define SHIM_CORE_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mesh/page.h"

enum shim_log_level { SHIM_LOG_OFF, SHIM_LOG_ERROR, SHIM_LOG_INFO, SHIM_LOG_DEBUG };

struct shim_env {
    bool on;            /* false: LIBMESH=off, or the constructor has not run */
    bool fallback_pass; /* LIBMESH_FALLBACK=pass */
    uint32_t wait_ms;   /* LIBMESH_WAIT, default 3 s */
    enum shim_log_level log;
    char run_dir[96]; /* a Unix socket's path has 108 bytes */
    char service[MESH_SERVICE_MAX];
    char log_file[256];
    bool deny_io_uring; /* LIBMESH_IO_URING=deny: in the kernel, for inline system calls too */
    bool exec_leave;    /* LIBMESH_EXEC=leave: what the program executes gets the environment it gave */
    char preload[1024]; /* LD_PRELOAD for what this program executes, our own path absolute; "" unknown */
};
extern struct shim_env shim_env;

void shim_env_init(void);
/* An entry of LD_PRELOAD that is this library, by its name. */
bool shim_env_is_self(const char *path, size_t len);

#endif
