/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_env: see env.h. A value that does not parse leaves the default and is reported by the log.
 */
#include "shim/core/env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shim/real.h"

struct shim_env shim_env;

/* "3", "3s" or "250ms". */
static uint32_t
duration_ms(const char *s, uint32_t dflt)
{
    char *end = NULL;
    double v = s ? strtod(s, &end) : -1;
    if (!s || end == s || v < 0 || v > 86400) {
        return dflt;
    }
    if (strcmp(end, "ms") == 0) {
        return (uint32_t)v;
    }
    return *end == '\0' || strcmp(end, "s") == 0 ? (uint32_t)(v * 1000) : dflt;
}

/* "debug", "file:PATH" or "debug,file:PATH"; a file alone means info. */
static void
log_setting(const char *s)
{
    static const char *const names[] = {"off", "error", "info", "debug"};
    if (!s) {
        return;
    }
    const char *file = strstr(s, "file:");
    if (file) {
        snprintf(shim_env.log_file, sizeof(shim_env.log_file), "%s", file + 5);
        shim_env.log = SHIM_LOG_INFO;
    }
    for (unsigned i = 0; i < 4; i++) {
        size_t n = strlen(names[i]);
        if (strncmp(s, names[i], n) == 0 && (s[n] == '\0' || s[n] == ',')) {
            shim_env.log = (enum shim_log_level)i;
        }
    }
}

static void
run_dir(void)
{
    const char *dir = getenv("LIBMESH_RUN_DIR");
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    if (dir && *dir) {
        snprintf(shim_env.run_dir, sizeof(shim_env.run_dir), "%s", dir);
    } else if (sys_call(SYS_geteuid, 0, 0, 0, 0) != 0 && /* not fakeroot's */
                xdg && *xdg && access("/run/meshd/meshd.sock", F_OK) != 0) {
        snprintf(shim_env.run_dir, sizeof(shim_env.run_dir), "%s/meshd", xdg);
    } else {
        snprintf(shim_env.run_dir, sizeof(shim_env.run_dir), "/run/meshd");
    }
}

static const char *own_name = ""; /* what our file is called */

static const char *
base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Appends to the list; false when it is full. */
static bool
append(const char *dir, const char *path, size_t len)
{
    size_t n = strlen(shim_env.preload), room = sizeof(shim_env.preload) - n;
    int r = snprintf(shim_env.preload + n, room, "%s%s%s%.*s", n ? ":" : "", dir, *dir ? "/" : "", (int)len, path);
    return r > 0 && (size_t)r < room;
}

/* ld.so separates by colons and spaces [ld.so(8)]. A relative path would mean another file once the
 * program changes its directory. Ours is in the list once: also where it was not, because we were loaded
 * by /etc/ld.so.preload or in the program's own list. */
static void
preload(void)
{
    const char *self = shim_real_self(), *all = getenv("LD_PRELOAD");
    bool listed = false, fits = true;
    char dir[512] = "";
    shim_env.preload[0] = '\0';
    own_name = base(self);
    if (self[0] != '/' && !getcwd(dir, sizeof(dir))) {
        return;
    }
    while (all && *all && fits) {
        size_t len = strcspn(all, ": ");
        bool ours = shim_env_is_self(all, len);
        if (len && !ours) {
            fits = append("", all, len);
        } else if (len && !listed) {
            fits = append(dir, self, strlen(self));
        }
        listed = listed || ours;
        all += len + (all[len] != '\0');
    }
    if (fits && !listed) {
        fits = append(dir, self, strlen(self));
    }
    if (!fits) { /* too long to repeat: ours alone */
        shim_env.preload[0] = '\0';
        (void)append(dir, self, strlen(self));
    }
}

/* By the name that it is installed under, or the one that this copy of it has. */
bool
shim_env_is_self(const char *path, size_t len)
{
    const char *const names[] = {"libmesh.so", own_name};
    for (unsigned i = 0; i < 2; i++) {
        size_t n = strlen(names[i]);
        if (n && len >= n && memcmp(path + len - n, names[i], n) == 0 && (len == n || path[len - n - 1] == '/')) {
            return true;
        }
    }
    return false;
}

void
shim_env_init(void)
{
    const char *sw = getenv("LIBMESH");
    const char *fb = getenv("LIBMESH_FALLBACK");
    const char *svc = getenv("LIBMESH_SERVICE");
    shim_env.on = !(sw && strcmp(sw, "off") == 0);
    if (!shim_env.on) {
        return;
    }
    shim_env.fallback_pass = fb && strcmp(fb, "pass") == 0;
    shim_env.wait_ms = duration_ms(getenv("LIBMESH_WAIT"), 3000);
    if (svc) {
        snprintf(shim_env.service, sizeof(shim_env.service), "%s", svc);
    }
    const char *ex = getenv("LIBMESH_EXEC");
    shim_env.exec_leave = ex && strcmp(ex, "leave") == 0;
    const char *ring = getenv("LIBMESH_IO_URING");
    shim_env.deny_io_uring = ring && strcmp(ring, "deny") == 0;
    log_setting(getenv("LIBMESH_LOG"));
    run_dir();
    preload();
}
