/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_env: see env.h. A value that does not parse leaves the default and is reported by the log.
 */
#include "shim/core/env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    } else if (geteuid() != 0 && xdg && *xdg && access("/run/meshd/meshd.sock", F_OK) != 0) {
        snprintf(shim_env.run_dir, sizeof(shim_env.run_dir), "%s/meshd", xdg);
    } else {
        snprintf(shim_env.run_dir, sizeof(shim_env.run_dir), "/run/meshd");
    }
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
    log_setting(getenv("LIBMESH_LOG"));
    run_dir();
}
