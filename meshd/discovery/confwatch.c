/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_confwatch: see confwatch.h.
 *
 *   idle --event--> QUIET_MS --another print--> QUIET_MS --the same--> reload
 *    ^                  |                        ^    |
 *    +--as it was-------+                        +----+ yet another
 *
 * A print is a sum over name, device, inode, size and times of all files that a reload would read. A
 * broken configuration is tried once, and again when it changes.
 */
#include "meshd/discovery/confwatch.h"

#include <errno.h>
#include <event2/event.h>
#include <glob.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/policy/config.h"

#define QUIET_MS    200u
#define BACKSTOP_MS 30000u /* where there are no events: network filesystems, no watches left */

#define EVENTS                                                                                     \
    (IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB |            \
     IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

static meshd_confwatch_reload *reload;
static int fd = -1;
static struct event *ready, *quiet;
static struct meshd_timer *backstop;
static uint64_t loaded, seen; /* prints: of what was read last, of the last look */

/* ---- prints ---- */

static uint64_t
mix(uint64_t h, const void *p, size_t n)
{
    const uint8_t *b = p;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ b[i]) * UINT64_C(1099511628211); /* FNV-1a */
    }
    return h;
}

static uint64_t
print_file(uint64_t h, const char *path)
{
    struct stat st;
    h = mix(h, path, strlen(path) + 1);
    if (stat(path, &st) != 0) {
        return mix(h, &errno, sizeof(errno));
    }
    const uint64_t what[] = {(uint64_t)st.st_dev, (uint64_t)st.st_ino, (uint64_t)st.st_size,
                             (uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec,
                             (uint64_t)st.st_ctim.tv_sec, (uint64_t)st.st_ctim.tv_nsec};
    return mix(h, what, sizeof(what));
}

static uint64_t
take_print(void)
{
    uint64_t h = UINT64_C(14695981039346656037);
    glob_t found = {0};
    char pattern[2 * MESHD_PATH_MAX];
    struct meshd_config_info info;
    meshd_config_info(&info);
    h = print_file(h, info.file);
    meshd_config_drop_ins(info.file, pattern, sizeof(pattern));
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            h = print_file(h, found.gl_pathv[i]);
        }
    }
    globfree(&found);
    return h;
}

/* ---- watching ---- */

static bool
add(const char *dir)
{
    return fd >= 0 && inotify_add_watch(fd, dir, EVENTS) >= 0;
}

/* Again at each look: a directory may have come, or another one of the same name. A watch on the one that
 * is watched already is the same watch. */
static void
add_all(void)
{
    char copy[MESHD_PATH_MAX], sub[MESHD_PATH_MAX + 16];
    struct meshd_config_info info;
    meshd_config_info(&info);
    snprintf(copy, sizeof(copy), "%s", info.file);
    const char *dir = dirname(copy);
    static bool said;
    if (!add(dir) && fd >= 0 && !said) {
        log_warn("watch_config: %s: %s; it is looked at every %u s", dir, strerror(errno),
                 BACKSTOP_MS / 1000);
        said = true;
    }
    snprintf(sub, sizeof(sub), "%s/conf.d", dir);
    (void)add(sub); /* it need not exist */
    char *real = realpath(info.file, NULL);
    if (real) {
        (void)add(dirname(real)); /* where the link leads */
    }
    free(real);
}

/* However many events there are: not more often than every QUIET_MS. */
static void
look_soon(void)
{
    const struct timeval tv = {0, QUIET_MS * 1000};
    if (!event_pending(quiet, EV_TIMEOUT, NULL) && event_add(quiet, &tv) != 0) {
        log_error("watch_config: out of memory");
    }
}

/* At rest when nothing has changed since the last look. */
static void
on_quiet(evutil_socket_t f, short what, void *arg)
{
    (void)f;
    (void)what;
    (void)arg;
    if (!meshd_config_current()->watch_config) {
        return;
    }
    uint64_t before = seen;
    add_all();
    seen = take_print();
    if (seen != loaded && seen == before) {
        log_info("the configuration's files have changed");
        reload();
    } else if (seen != loaded) {
        look_soon();
    }
}

/* Which file it is does not matter. */
static void
on_event(evutil_socket_t f, short what, void *arg)
{
    char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    (void)what;
    (void)arg;
    while (read(f, buf, sizeof(buf)) > 0) {
    }
    look_soon();
}

static void
on_backstop(void *arg)
{
    (void)arg;
    look_soon();
}

void
meshd_confwatch_note(void)
{
    if (quiet) {
        loaded = seen = take_print();
        event_del(quiet);
    }
}

enum mesh_err
meshd_confwatch_init(meshd_confwatch_reload *fn)
{
    struct meshd_config_info info;
    meshd_config_info(&info);
    if (!info.file[0]) {
        return MESH_OK;
    }
    reload = fn;
    quiet = event_new(meshd_loop(), -1, 0, on_quiet, NULL);
    backstop = meshd_timer_new(BACKSTOP_MS, on_backstop, NULL);
    fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0) {
        log_warn("watch_config: %s; it is looked at every %u s", strerror(errno), BACKSTOP_MS / 1000);
    }
    ready = fd >= 0 ? event_new(meshd_loop(), fd, EV_READ | EV_PERSIST, on_event, NULL) : NULL;
    if (!quiet || !backstop || (fd >= 0 && (!ready || event_add(ready, NULL) != 0))) {
        return MESH_E_NO_MEMORY;
    }
    loaded = seen = take_print();
    add_all();
    return MESH_OK;
}

void
meshd_confwatch_fini(void)
{
    meshd_timer_free(backstop);
    if (ready) {
        event_free(ready);
    }
    if (quiet) {
        event_free(quiet);
    }
    if (fd >= 0) {
        close(fd);
    }
    ready = quiet = NULL;
    backstop = NULL;
    fd = -1;
}
