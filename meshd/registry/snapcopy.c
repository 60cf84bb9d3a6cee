/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_snapcopy: see snapcopy.h. Nothing in it is looked at without its sums, so it may be half written; the last
 * commit before this one is overwritten only two later.
 */
#include "meshd/registry/snapcopy.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mesh/snapshot.h"
#include "meshd/base/log.h"

static char name[PATH_MAX];
static int file = -1;
static bool lacks; /* what was committed last */

static bool
is_open(void)
{
    if (file < 0 && name[0]) {
        file = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
    return file >= 0;
}

void
meshd_snapcopy_open(const char *path)
{
    if (snprintf(name, sizeof(name), "%s.copy", path) >= (int)sizeof(name)) {
        name[0] = '\0';
    }
    lacks = false;
    (void)is_open();
}

void
meshd_snapcopy_close(void)
{
    if (file >= 0) {
        close(file);
    }
    file = -1;
}

int
meshd_snapcopy_fd(void)
{
    return file;
}

static bool
write_part(const void *from, size_t n, size_t at)
{
    while (n > 0) {
        ssize_t r = pwrite(file, from, n, (off_t)at);
        if (r <= 0) {
            return false;
        }
        from = (const char *)from + r;
        at += (size_t)r;
        n -= (size_t)r;
    }
    return true;
}

void
meshd_snapcopy_write(const void *head, size_t size, const void *area, size_t used)
{
    size_t at = (size_t)((const char *)area - (const char *)head);
    bool good = is_open() && ftruncate(file, (off_t)size) == 0 && write_part(area, used, at) &&
                write_part(head, MESH_SNAP_HEAD, 0);
    if (!good && !lacks) {
        log_warn("%s: %s; it is tried again with each change", name, strerror(errno));
    } else if (good && lacks) {
        log_info("%s is whole again", name);
    }
    lacks = !good;
}
