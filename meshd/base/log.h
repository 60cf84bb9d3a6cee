/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_log: one line a message to stderr, with time and level. Control characters in the text are
 * replaced, since much of it comes from others. Any thread.
 */
#ifndef MESHD_BASE_LOG_H
#define MESHD_BASE_LOG_H

enum meshd_level { MESHD_LOG_ERROR, MESHD_LOG_WARN, MESHD_LOG_INFO, MESHD_LOG_DEBUG };

void meshd_log_set(enum meshd_level most);
void meshd_log(enum meshd_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) meshd_log(MESHD_LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  meshd_log(MESHD_LOG_WARN, __VA_ARGS__)
#define log_info(...)  meshd_log(MESHD_LOG_INFO, __VA_ARGS__)
#define log_debug(...) meshd_log(MESHD_LOG_DEBUG, __VA_ARGS__)

#endif
