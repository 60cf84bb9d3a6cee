/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_log: see log.h.
 */
#include "shim/core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "shim/real.h"

void
shim_log_write(const char *level, const char *fmt, ...)
{
    char line[512];
    int saved = errno;
    int n = snprintf(line, sizeof(line), "libmesh[%d]: %s: ", sys_getpid(), level);
    va_list ap;
    va_start(ap, fmt);
    n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
    va_end(ap);
    if (n > (int)sizeof(line) - 2) {
        n = (int)sizeof(line) - 2;
    }
    line[n++] = '\n';
    int fd = STDERR_FILENO;
    if (shim_env.log_file[0]) {
        fd = (int)sys_call(SYS_openat, AT_FDCWD, shim_env.log_file,
                           O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    }
    if (fd >= 0) {
        (void)sys_call(SYS_write, fd, line, n, 0);
    }
    if (fd > STDERR_FILENO) {
        (void)sys_close(fd);
    }
    errno = saved;
}
