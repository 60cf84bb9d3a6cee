/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_log: see log.h. One write() per line, so that lines of threads do not mix.
 */
#include "meshd/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const char *const names[] = {"error", "warn", "info", "debug"};
static enum meshd_level limit = MESHD_LOG_INFO;

void
meshd_log_set(enum meshd_level most)
{
    limit = most;
}

static size_t
put_time(char *out, size_t cap, enum meshd_level level)
{
    struct timespec ts = {0};
    struct tm tm = {0};
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(out, cap, "%Y-%m-%dT%H:%M:%S", &tm);
    int m = snprintf(out + n, cap - n, ".%03ldZ meshd %s: ", ts.tv_nsec / 1000000, names[level]);
    return n + (m > 0 ? (size_t)m : 0);
}

void
meshd_log(enum meshd_level level, const char *fmt, ...)
{
    if (level > limit) {
        return;
    }
    char line[1024];
    size_t n = put_time(line, 128, level);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
    va_end(ap);
    size_t end = n + (m > 0 ? (size_t)m : 0);
    if (end > sizeof(line) - 2) {
        end = sizeof(line) - 2;
    }
    for (size_t i = n; i < end; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) {
            line[i] = '?';
        }
    }
    line[end] = '\n';
    if (write(STDERR_FILENO, line, end + 1) < 0) {
        return; /* nowhere left to tell */
    }
}
