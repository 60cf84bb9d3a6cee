/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_access: see access.h.
 */
#include "meshd/stats/access.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meshd/base/file.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/policy/config.h"

#define BUFFER    (1u << 20)
#define REOPEN_NS UINT64_C(1000000000)
#define TELL_NS   UINT64_C(10000000000) /* lost lines are told so often at most */

static struct {
    char path[MESHD_PATH_MAX]; /* as configured; "" or "off": no log */
    uint8_t filter;
    int fd;
    bool is_file; /* regular: poll() says nothing of it */
    bool failing; /* told already */
    bool midst;   /* what was written last is not the end of a line */
    uint64_t tried_ns;
    char buf[BUFFER];
    size_t len;
    struct meshd_access_info count;
    uint64_t told, told_ns;
} log_ = {.fd = -1};

bool
meshd_access_on(void)
{
    return log_.path[0] && strcmp(log_.path, "off") != 0;
}

void
meshd_access_info(struct meshd_access_info *out)
{
    *out = log_.count;
    out->on = meshd_access_on();
    out->failing = log_.failing;
}

static void
close_file(void)
{
    if (log_.fd > STDERR_FILENO) {
        close(log_.fd);
    }
    log_.fd = -1;
}

static void
tell_failure(void)
{
    if (!log_.failing) {
        log_error("access log %s: %s; lines are dropped and counted until it works again", log_.path,
                  strerror(errno));
        log_.failing = true;
    }
}

static int
open_path(void)
{
    char dir[MESHD_PATH_MAX];
    snprintf(dir, sizeof(dir), "%s", log_.path);
    char *slash = strrchr(dir, '/');
    if (slash && slash > dir) {
        *slash = '\0';
        if (meshd_dir_make(dir, 0750) != MESH_OK) {
            return -1;
        }
    }
    /* A FIFO without a reader is ENXIO, not a wait. */
    return open(log_.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0640);
}

/* At most once a second. */
static bool
have_file(void)
{
    uint64_t now = meshd_now_ns();
    struct stat st;
    if (log_.fd >= 0) {
        return true;
    }
    if (log_.tried_ns && now - log_.tried_ns < REOPEN_NS) {
        return false;
    }
    log_.tried_ns = now;
    log_.fd = strcmp(log_.path, "stdout") == 0 ? STDOUT_FILENO : open_path();
    if (log_.fd < 0 || fstat(log_.fd, &st) != 0) {
        tell_failure();
        close_file();
        return false;
    }
    log_.is_file = S_ISREG(st.st_mode);
    return true;
}

/* Standard output is shared with others, who do not expect it to be non-blocking: a pipe or terminal that
 * is ready takes PIPE_BUF bytes without waiting [pipe(7)]. */
static ssize_t
write_some(const char *p, size_t n)
{
    struct pollfd pfd = {log_.fd, POLLOUT, 0};
    if (!log_.is_file) {
        n = n < PIPE_BUF ? n : PIPE_BUF;
        if (poll(&pfd, 1, 0) <= 0 || !(pfd.revents & POLLOUT)) {
            errno = pfd.revents ? EPIPE : EAGAIN;
            return -1;
        }
    }
    return write(log_.fd, p, n);
}

static void
tell_lost(void)
{
    uint64_t all = 0, now = meshd_now_ns();
    for (unsigned i = 0; i < MESHD_ACCESS_CAUSES; i++) {
        all += log_.count.lost[i];
    }
    if (all > log_.told && (log_.told_ns == 0 || now - log_.told_ns > TELL_NS)) {
        log_warn("access log: %llu lines lost (%llu overrun, %llu unlisted, %llu not written)",
                 (unsigned long long)(all - log_.told),
                 (unsigned long long)log_.count.lost[MESHD_ACCESS_OVERRUN],
                 (unsigned long long)log_.count.lost[MESHD_ACCESS_UNLISTED],
                 (unsigned long long)log_.count.lost[MESHD_ACCESS_WRITE]);
        log_.told = all;
        log_.told_ns = now;
    }
}

void
meshd_access_flush(void)
{
    size_t off = 0;
    while (off < log_.len && have_file()) {
        ssize_t n = write_some(log_.buf + off, log_.len - off);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            if (errno != EAGAIN && errno != ENOSPC && errno != EDQUOT) {
                tell_failure();
                close_file();
            } else if (errno != EAGAIN) {
                tell_failure();
            }
            break;
        }
        off += (size_t)n;
        log_.midst = off > 0 && log_.buf[off - 1] != '\n';
        if (log_.failing) {
            log_info("access log %s: goes on", log_.path);
            log_.failing = false;
        }
    }
    log_.len -= off;
    memmove(log_.buf, log_.buf + off, log_.len);
    tell_lost();
}

void
meshd_access_lost(uint32_t overrun, uint32_t unlisted)
{
    log_.count.lost[MESHD_ACCESS_OVERRUN] += overrun;
    log_.count.lost[MESHD_ACCESS_UNLISTED] += unlisted;
}

void
meshd_access_put(const struct meshd_conn *c, const struct meshd_page_info *info)
{
    if (log_.filter == MESHD_ACCESS_ERRORS &&
        mesh_flag_of(c->outbound, c->reason, c->how) == MESH_FLAG_NONE) {
        return;
    }
    if (BUFFER - log_.len < MESHD_ACCESS_LINE_MAX) {
        meshd_access_flush();
    }
    if (BUFFER - log_.len < MESHD_ACCESS_LINE_MAX) {
        log_.count.lost[MESHD_ACCESS_WRITE]++;
        return;
    }
    log_.len += meshd_access_line(c, info, log_.buf + log_.len);
    log_.count.lines++;
}

/* What is in the buffer goes to the file that it was meant for, if that takes it. */
static void
drop_file(void)
{
    meshd_access_flush();
    if (log_.len > 0 && log_.fd >= 0) {
        /* A line that was begun there ends there, in whatever state. */
        const char *end = memchr(log_.buf, '\n', log_.len);
        size_t first = end && log_.midst ? (size_t)(end - log_.buf) + 1 : 0;
        log_.count.lost[MESHD_ACCESS_WRITE] += first ? 1 : 0;
        log_.len -= first;
        memmove(log_.buf, log_.buf + first, log_.len);
    }
    log_.midst = false;
    close_file();
    log_.tried_ns = 0;
}

void
meshd_access_reopen(void)
{
    if (meshd_access_on()) {
        drop_file();
        (void)have_file();
    }
}

bool
meshd_access_configure(void)
{
    const struct meshd_config *cfg = meshd_config_current();
    bool was_on = meshd_access_on();
    if (!cfg) {
        return false;
    }
    if (strcmp(log_.path, cfg->access_log_path) != 0) {
        drop_file();
        snprintf(log_.path, sizeof(log_.path), "%s", cfg->access_log_path);
        log_.failing = false;
        log_.len = meshd_access_on() ? log_.len : 0;
    }
    log_.filter = cfg->access_log_filter;
    if (meshd_access_on()) {
        (void)have_file();
    }
    return !was_on && meshd_access_on();
}

void
meshd_access_fini(void)
{
    meshd_access_flush();
    close_file();
    memset(&log_, 0, sizeof(log_));
    log_.fd = -1;
}
