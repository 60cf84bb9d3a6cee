/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_log: a line to stderr or a file, off unless LIBMESH_LOG asks for it. One write() a line, no
 * allocation, no stdio; keeps errno. shim_log_always is for D7's one line, and ignores the level.
 */
#ifndef SHIM_CORE_LOG_H
#define SHIM_CORE_LOG_H

#include "shim/core/env.h"

void shim_log_write(const char *level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define shim_log_error(...) \
    (shim_env.log >= SHIM_LOG_ERROR ? shim_log_write("error", __VA_ARGS__) : (void)0)
#define shim_log_info(...) \
    (shim_env.log >= SHIM_LOG_INFO ? shim_log_write("info", __VA_ARGS__) : (void)0)
#define shim_log_debug(...) \
    (shim_env.log >= SHIM_LOG_DEBUG ? shim_log_write("debug", __VA_ARGS__) : (void)0)
#define shim_log_always(...) shim_log_write("error", __VA_ARGS__)

#endif
