/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_unit: see unit.h.
 */
#include "common/unit.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool
has_suffix(const char *s, size_t n, const char *suffix)
{
    size_t m = strlen(suffix);
    return n > m && memcmp(s + n - m, suffix, m) == 0;
}

/* Walks one cgroup path. The first .service or .scope below slices is the unit; below
 * user@UID.service everything is that user's word, and is keyed as such. */
static void
unit_of_path(const char *path, size_t len, char *out, size_t cap)
{
    const char *end = path + len, *user = NULL;
    int user_len = 0;
    for (const char *p = path; p < end;) {
        const char *slash = memchr(p, '/', (size_t)(end - p));
        size_t n = (size_t)((slash ? slash : end) - p);
        bool unit = has_suffix(p, n, ".service") || has_suffix(p, n, ".scope");
        if (unit && !user && n > 5 && memcmp(p, "user@", 5) == 0) {
            user = p;
            user_len = (int)(n - strlen(".service"));
        } else if (unit && user) {
            snprintf(out, cap, "%.*s/%.*s", user_len, user, (int)n, p);
            return;
        } else if (unit) {
            snprintf(out, cap, "%.*s", (int)n, p);
            return;
        }
        p = slash ? slash + 1 : end;
    }
    if (user) {
        snprintf(out, cap, "%.*s", user_len, user);
    }
}

/* The unified hierarchy's line is "0::PATH"; systemd's own of version 1 is "N:name=systemd:PATH". */
void
mesh_unit_of(const char *cgroup, char *out, size_t cap)
{
    out[0] = '\0';
    for (const char *line = cgroup; *line && !out[0];) {
        const char *eol = strchrnul(line, '\n');
        const char *path = NULL;
        if (strncmp(line, "0::", 3) == 0) {
            path = line + 3;
        } else {
            const char *colon = memchr(line, ':', (size_t)(eol - line));
            if (colon && strncmp(colon, ":name=systemd:", 14) == 0) {
                path = colon + 14;
            }
        }
        if (path) {
            unit_of_path(path, (size_t)(eol - path), out, cap);
        }
        line = *eol ? eol + 1 : eol;
    }
}
