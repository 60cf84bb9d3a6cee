/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_snapfile: see snapfile.h.
 *
 * Order of stores, for a reader on another processor [common/snap.c]:
 *   area.generation = 0        then a release fence, so that nothing of the new content is seen
 *   ... content ...            by somebody who still sees the old number before and after it
 *   area.generation = g + 1    release: content before it
 *   head.generation = g + 1    release: area before it
 */
#include "meshd/registry/snapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/snap.h"
#include "meshd/base/file.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"

#define BOOT_OFF 2048 /* in the head page, ours: the boot that the cookies are of */
#define BOOT_LEN 36

static char path[PATH_MAX];
static char boot[BOOT_LEN + 1];
static struct mesh_snap_head *head;
static size_t map_size;

static struct mesh_snap_area *area; /* being written */
static uint32_t services, endpoints;

static void
read_boot(void)
{
    memset(boot, 0, sizeof(boot));
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, boot, BOOT_LEN);
        (void)n; /* an empty one equals an empty one */
        close(fd);
    }
}

static void *
map(int fd, size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

static bool
is_usable(void *p, size_t size, uint32_t area_size)
{
    const struct mesh_snap s = {p, size};
    const struct mesh_snap_head *h = p;
    return mesh_snap_check(&s) == MESH_OK && h->area_size == area_size &&
           atomic_load(&h->generation) > 0 && memcmp((char *)p + BOOT_OFF, boot, BOOT_LEN) == 0;
}

static bool
open_old(uint32_t area_size)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return false;
    }
    void *p = NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size == map_size) {
        p = map(fd, map_size);
    }
    close(fd);
    if (p && is_usable(p, map_size, area_size)) {
        head = p;
        return true;
    }
    if (p) {
        munmap(p, map_size);
    }
    log_info("%s is of another time; made anew", path);
    return false;
}

static enum mesh_err
fill_new(uint32_t area_size)
{
    uint64_t epoch = 0;
    if (getrandom(&epoch, sizeof(epoch), 0) != (ssize_t)sizeof(epoch)) {
        return MESH_E_SYSTEM;
    }
    head->area_size = area_size;
    head->version = MESH_SNAP_VERSION;
    head->epoch = epoch;
    memcpy((char *)head + BOOT_OFF, boot, BOOT_LEN);
    head->magic = MESH_SNAP_MAGIC;
    return MESH_OK;
}

static enum mesh_err
make_new(uint32_t area_size)
{
    char tmp[PATH_MAX];
    enum mesh_err e = MESH_E_SYSTEM;
    if (snprintf(tmp, sizeof(tmp), "%s.new", path) >= (int)sizeof(tmp)) {
        return MESH_E_CONFIG;
    }
    unlink(tmp);
    int fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)map_size) != 0) {
        goto out;
    }
    head = map(fd, map_size);
    if (head) {
        e = fill_new(area_size);
    }
    if (e == MESH_OK && rename(tmp, path) != 0) {
        e = MESH_E_SYSTEM;
    }
out:
    if (e != MESH_OK) {
        log_error("%s: %s", path, strerror(errno));
        meshd_snapfile_close();
    }
    if (fd >= 0) {
        close(fd);
    }
    return e;
}

enum mesh_err
meshd_snapfile_open(const char *file, uint32_t area_size)
{
    if (snprintf(path, sizeof(path), "%s", file) >= (int)sizeof(path)) {
        return MESH_E_CONFIG;
    }
    map_size = MESH_SNAP_HEAD + 2 * (size_t)area_size;
    read_boot();
    return open_old(area_size) ? MESH_OK : make_new(area_size);
}

void
meshd_snapfile_close(void)
{
    if (head) {
        munmap(head, map_size);
    }
    head = NULL;
    area = NULL;
}

static struct mesh_snap_area *
area_of(uint64_t generation)
{
    return (void *)((char *)head + MESH_SNAP_HEAD + (generation & 1) * (size_t)head->area_size);
}

static bool
is_inside(uint32_t off, uint32_t count, size_t each)
{
    return off % 8 == 0 && off >= sizeof(struct mesh_snap_area) && off <= head->area_size &&
           (uint64_t)count * each <= head->area_size - off;
}

void
meshd_snapfile_visit(meshd_snapfile_visit_fn *visit, void *arg)
{
    uint64_t g = atomic_load(&head->generation);
    const struct mesh_snap_area *a = area_of(g);
    struct mesh_snap_endpoint e;
    struct mesh_snap_service s;
    if (g == 0 || a->generation != g || !is_inside(a->services_off, a->services, sizeof(s)) ||
        !is_inside(a->endpoints_off, a->endpoints, sizeof(e))) {
        return;
    }
    for (uint32_t i = 0; i < a->endpoints; i++) {
        memcpy(&e, (const char *)a + a->endpoints_off + i * sizeof(e), sizeof(e));
        if (e.service < a->services) {
            memcpy(&s, (const char *)a + a->services_off + e.service * sizeof(s), sizeof(s));
            s.name[sizeof(s.name) - 1] = '\0';
            s.id[sizeof(s.id) - 1] = '\0';
            visit(&e, &s, arg);
        }
    }
}

bool
meshd_snapfile_has_room(uint64_t n_services, uint64_t n_endpoints)
{
    return n_services * sizeof(struct mesh_snap_service) +
               n_endpoints * sizeof(struct mesh_snap_endpoint) <=
           head->area_size - sizeof(struct mesh_snap_area);
}

enum mesh_err
meshd_snapfile_begin(uint32_t n_services, uint32_t n_endpoints)
{
    if (!meshd_snapfile_has_room(n_services, n_endpoints)) {
        return MESH_E_NO_MEMORY;
    }
    area = area_of(atomic_load(&head->generation) + 1);
    __atomic_store_n(&area->generation, 0, __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_release);
    area->services_off = sizeof(*area);
    area->services = n_services;
    area->endpoints_off =
        area->services_off + n_services * (uint32_t)sizeof(struct mesh_snap_service);
    area->endpoints = n_endpoints;
    for (uint32_t i = 0; i < MESH_SNAP_BUCKETS; i++) {
        area->bucket[i] = MESH_SNAP_NONE;
    }
    services = endpoints = 0;
    return MESH_OK;
}

void
meshd_snapfile_service(const struct mesh_snap_service *s)
{
    if (services < area->services) {
        memcpy((char *)area + area->services_off + services++ * sizeof(*s), s, sizeof(*s));
    }
}

void
meshd_snapfile_endpoint(const struct mesh_snap_endpoint *e)
{
    struct mesh_snap_endpoint copy = *e;
    uint32_t *bucket = &area->bucket[e->port % MESH_SNAP_BUCKETS];
    if (endpoints >= area->endpoints) {
        return;
    }
    copy.next = *bucket;
    *bucket = endpoints;
    memcpy((char *)area + area->endpoints_off + endpoints++ * sizeof(copy), &copy, sizeof(copy));
}

void
meshd_snapfile_commit(const struct mesh_snap_settings *set, const char *trust_domain)
{
    uint64_t next = atomic_load(&head->generation) + 1;
    area->services = services;
    area->endpoints = endpoints;
    area->settings = *set;
    memset(area->trust_domain, 0, sizeof(area->trust_domain));
    snprintf(area->trust_domain, sizeof(area->trust_domain), "%s", trust_domain);
    __atomic_store_n(&area->generation, next, __ATOMIC_RELEASE);
    atomic_store_explicit(&head->generation, next, memory_order_release);
    area = NULL;
}

struct mesh_snap
meshd_snapfile_view(void)
{
    return (struct mesh_snap){head, map_size};
}

void
meshd_snapfile_beat(void)
{
    atomic_store_explicit(&head->alive_ns, meshd_now_ns(), memory_order_relaxed);
}

int
meshd_snapfile_fd(void)
{
    return open(path, O_RDONLY | O_CLOEXEC);
}

uint64_t
meshd_snapfile_generation(void)
{
    return atomic_load(&head->generation);
}

uint64_t
meshd_snapfile_epoch(void)
{
    return head->epoch;
}
