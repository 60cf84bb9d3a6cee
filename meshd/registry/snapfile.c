/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_snapfile: see snapfile.h.
 *
 * Order of stores, for a reader on another processor [common/snap.c]:
 *   area.generation = 0        then a release fence, so that nothing of the new content is seen
 *   ... content ...            by somebody who still sees the old number before and after it
 *   area.generation = g + 1    release: content before it
 *   head.generation = g + 1    release: area before it
 *
 * What the file says is believed once, when it is opened and verified. From then on generation,
 * epoch and sizes are kept here, and the head is written anew at each commit: somebody with our
 * rights may damage the file, and meshd must neither follow it out of the mapping nor give up.
 *
 * Each commit also goes into a second file (snapcopy.h). From that a meshd that comes back to a damaged
 * snapshot mends it: the listeners are not lost, for most servers would not register them again before they make a
 * connection of their own. The pool's tables are made anew.
 */
#include "meshd/registry/snapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/snap_hash.h"
#include "meshd/base/file.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/registry/pool.h"
#include "meshd/registry/snapcopy.h"

#define BOOT_OFF 2048 /* in the head page, ours: the boot that the cookies are of */
#define BOOT_LEN 36

static char path[PATH_MAX];
static char boot[BOOT_LEN + 1];
static int file = -1; /* the mapped one, whatever `path` names meanwhile */
static struct mesh_snap_head *head;
static size_t map_size;
static uint32_t area_size;
static size_t pool_at; /* the pool goes from there to the end */
/* A number never stands for two contents: readers keep what they found under it [snap_cache.h]. The copy may be
 * older than what they saw last, so as many numbers as it could lack are left out after it; an even one, for the area
 * that is current is not to be written. */
#define MENDED_SKIP (UINT64_C(1) << 20)

static uint64_t epoch, generation;
static uint64_t skip; /* at the next commit */
static uint32_t last_id;

/* What the next area will hold. */
static struct mesh_snap_area draft;
static struct {
    uint8_t *at;
    uint32_t count, room; /* entries */
} rows[MESH_SNAP_TABLES];
static bool lacking; /* memory, for one of them */

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
is_usable(void *p)
{
    const struct mesh_snap s = {p, map_size, NULL};
    const struct mesh_snap_head *h = p;
    return mesh_snap_check(&s) == MESH_OK && h->area_size == area_size &&
           memcmp((char *)p + BOOT_OFF, boot, BOOT_LEN) == 0 && mesh_snap_verify(&s) == MESH_OK;
}

static bool
has_size(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size == map_size;
}

static struct mesh_snap_area *
area_of(uint64_t g)
{
    return (void *)((char *)head + MESH_SNAP_HEAD + (g & 1) * (size_t)area_size);
}

/* `fd` and its mapping become ours. */
static void
take(int fd, void *p)
{
    head = p;
    file = fd;
    epoch = head->epoch;
    generation = atomic_load(&head->generation);
    last_id = generation ? area_of(generation)->last_id : 0;
}

/* The last word, too, which shims look at to see whether the file was cut. */
static bool
has_ends(int fd, size_t n)
{
    return meshd_file_has_blocks(fd, 0, n) && meshd_file_has_blocks(fd, map_size - sizeof(uint32_t), sizeof(uint32_t));
}

/* Brings the content of the copy into the damaged file itself: it may be mapped. */
static bool
mend_from_copy(int fd)
{
    int copy = meshd_snapcopy_fd();
    void *to = NULL, *from = has_size(copy) ? map(copy, map_size) : NULL;
    if (from && is_usable(from) && ftruncate(fd, (off_t)map_size) == 0 && has_ends(fd, pool_at)) {
        to = map(fd, map_size);
    }
    if (to) {
        uint64_t g = atomic_load(&((struct mesh_snap_head *)from)->generation);
        size_t at = MESH_SNAP_HEAD + (g & 1) * (size_t)area_size;
        memcpy((char *)to + at, (char *)from + at, area_size);
        memcpy(to, from, MESH_SNAP_HEAD);
        take(fd, to);
        skip = MENDED_SKIP;
        log_warn("%s was damaged; mended from its copy", path);
    }
    if (from) {
        munmap(from, map_size);
    }
    return to != NULL;
}

static bool
open_old(void)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        goto none;
    }
    void *p = has_size(fd) ? map(fd, map_size) : NULL;
    if (p && is_usable(p)) {
        take(fd, p);
        return true;
    }
    if (p) {
        munmap(p, map_size);
    }
    if (mend_from_copy(fd)) {
        return true;
    }
    log_info("%s is damaged or of another time; made anew", path);
none:
    if (fd >= 0) {
        close(fd);
    }
    return false;
}

static void
fill_head(void)
{
    head->area_size = area_size;
    head->version = MESH_SNAP_VERSION;
    head->epoch = epoch;
    memcpy((char *)head + BOOT_OFF, boot, BOOT_LEN);
    head->magic = MESH_SNAP_MAGIC;
}

static enum mesh_err
make_new(void)
{
    char tmp[PATH_MAX];
    enum mesh_err e = MESH_E_SYSTEM;
    if (snprintf(tmp, sizeof(tmp), "%s.new", path) >= (int)sizeof(tmp)) {
        return MESH_E_CONFIG;
    }
    unlink(tmp);
    file = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    generation = skip = 0;
    if (file >= 0 && ftruncate(file, (off_t)map_size) == 0 && has_ends(file, MESH_SNAP_HEAD) &&
        getrandom(&epoch, sizeof(epoch), 0) == (ssize_t)sizeof(epoch)) {
        head = map(file, map_size);
    }
    if (head) {
        fill_head();
        e = rename(tmp, path) == 0 ? MESH_OK : MESH_E_SYSTEM;
    }
    if (e != MESH_OK) {
        log_error("%s: %s", path, strerror(errno));
        meshd_snapfile_close();
    }
    return e;
}

/* What tiers of the area in force refer to: readers do, until the next one is. */
static void
reserve_tables(void)
{
    const struct mesh_snap_area *a = area_of(generation);
    const struct mesh_snap_table *tiers = &a->table[MESH_SNAP_TIERS];
    for (uint32_t i = 0; generation > 0 && i < tiers->count; i++) {
        struct mesh_snap_tier t;
        memcpy(&t, (const char *)a + tiers->off + i * sizeof(t), sizeof(t));
        if (t.table.count && t.table.first < (map_size - pool_at) / MESH_SNAP_UNIT) {
            meshd_pool_reserve(t.table.first, mesh_snap_hash_size(MESH_LB_RING_HASH, t.table.count), generation);
        }
    }
}

enum mesh_err
meshd_snapfile_open(const char *name, uint32_t each)
{
    if (snprintf(path, sizeof(path), "%s", name) >= (int)sizeof(path)) {
        return MESH_E_CONFIG;
    }
    area_size = each;
    pool_at = MESH_SNAP_POOL(area_size);
    map_size = MESH_SNAP_SIZE(area_size);
    meshd_pool_open(map_size - pool_at);
    read_boot();
    last_id = 0;
    meshd_snapcopy_open(path);
    if (!open_old()) {
        return make_new();
    }
    reserve_tables();
    return MESH_OK;
}

void
meshd_snapfile_close(void)
{
    if (head) {
        munmap(head, map_size);
    }
    if (file >= 0) {
        close(file);
    }
    meshd_snapcopy_close();
    file = -1;
    head = NULL;
    meshd_pool_close();
    for (unsigned t = 0; t < MESH_SNAP_TABLES; t++) {
        free(rows[t].at);
        rows[t].at = NULL;
        rows[t].count = rows[t].room = 0;
    }
}

bool
meshd_snapfile_is_whole(void)
{
    bool whole = has_size(file) && head->epoch == epoch &&
                 atomic_load(&head->generation) == generation && is_usable(head);
    if (!whole) {
        meshd_pool_forget();
    }
    return whole && meshd_pool_is_whole((const uint8_t *)head + pool_at);
}

static bool
has_pool_blocks(size_t at, size_t n, void *arg)
{
    (void)arg;
    return meshd_file_has_blocks(file, pool_at + at, n);
}

/* Nothing is touched beyond the end of the file, nor where it cannot grow: that would be a SIGBUS. */
static enum mesh_err
make_room(const struct mesh_snap_area *a, size_t used)
{
    size_t at = (size_t)((const char *)a - (const char *)head);
    /* In place: the processes that have it mapped see it whole again, too. */
    if ((!has_size(file) && ftruncate(file, (off_t)map_size) != 0) || !meshd_file_has_blocks(file, 0, MESH_SNAP_HEAD) ||
        !meshd_file_has_blocks(file, at, used) || !meshd_pool_each_new(has_pool_blocks, NULL)) {
        log_error("%s: %s", path, strerror(errno));
        return MESH_E_SYSTEM;
    }
    return MESH_OK;
}

/* The file was verified when it was opened. */
void
meshd_snapfile_visit(meshd_snapfile_visit_fn *visit, void *arg)
{
    const struct mesh_snap_area *a = area_of(generation);
    const struct mesh_snap_table *services = &a->table[MESH_SNAP_SERVICES];
    const struct mesh_snap_table *endpoints = &a->table[MESH_SNAP_ENDPOINTS];
    struct mesh_snap_endpoint e;
    struct mesh_snap_service s;
    for (uint32_t i = 0; generation > 0 && i < endpoints->count; i++) {
        memcpy(&e, (const char *)a + endpoints->off + i * sizeof(e), sizeof(e));
        if (e.service < services->count) {
            memcpy(&s, (const char *)a + services->off + e.service * sizeof(s), sizeof(s));
            s.name[sizeof(s.name) - 1] = '\0';
            s.id[sizeof(s.id) - 1] = '\0';
            visit(&e, &s, arg);
        }
    }
}

/* An endpoint is a member of its service as a whole, and most are of nothing else. */
bool
meshd_snapfile_has_room(uint64_t n_services, uint64_t n_endpoints)
{
    const size_t each = sizeof(struct mesh_snap_endpoint) + sizeof(struct mesh_snap_member);
    const size_t every = sizeof(struct mesh_snap_service) + sizeof(struct mesh_snap_group) +
                         sizeof(struct mesh_snap_tier);
    return n_services * every + n_endpoints * each <= area_size - sizeof(struct mesh_snap_area);
}

uint32_t
meshd_snapfile_last_id(void)
{
    return last_id;
}

void
meshd_snapfile_set_last_id(uint32_t id)
{
    last_id = id;
}

void
meshd_snapfile_begin(void)
{
    lacking = false;
    memset(&draft, 0, sizeof(draft));
    meshd_pool_begin(generation + 1 + skip);
    for (uint32_t i = 0; i < MESH_SNAP_BUCKETS; i++) {
        draft.bucket[i].first = draft.bucket[i].cookie = MESH_SNAP_NONE;
    }
    for (unsigned t = 0; t < MESH_SNAP_TABLES; t++) {
        rows[t].count = 0;
    }
}

uint32_t
meshd_snapfile_count(enum mesh_snap_tables t)
{
    return rows[t].count;
}

uint32_t
meshd_snapfile_add(enum mesh_snap_tables t, const void *entry)
{
    const size_t each = mesh_snap_entry_size(t);
    if (rows[t].count == rows[t].room) {
        const uint32_t most = (uint32_t)(area_size / each) + 1; /* which commit finds to be too many */
        uint32_t room = rows[t].room ? 2 * rows[t].room : 64;
        room = room < most ? room : most;
        uint8_t *more = room > rows[t].count ? realloc(rows[t].at, room * each) : NULL;
        if (!more) {
            lacking = true;
            return MESH_SNAP_NONE;
        }
        rows[t].at = more;
        rows[t].room = room;
    }
    memcpy(rows[t].at + rows[t].count * each, entry, each);
    return rows[t].count++;
}

void
meshd_snapfile_get(enum mesh_snap_tables t, uint32_t i, void *entry)
{
    memcpy(entry, rows[t].at + i * mesh_snap_entry_size(t), mesh_snap_entry_size(t));
}

void
meshd_snapfile_put(enum mesh_snap_tables t, uint32_t i, const void *entry)
{
    memcpy(rows[t].at + i * mesh_snap_entry_size(t), entry, mesh_snap_entry_size(t));
}

uint32_t
meshd_snapfile_endpoint(const struct mesh_snap_endpoint *e)
{
    static const uint8_t any[16];
    struct mesh_snap_endpoint copy = *e;
    struct mesh_snap_bucket *b =
        &draft.bucket[mesh_snap_bucket(e->flags & MESH_EP_ANY ? any : e->addr, e->port)];
    struct mesh_snap_bucket *c = &draft.bucket[mesh_snap_cookie_bucket(e->cookie)];
    copy.next = b->first;
    copy.next_cookie = e->cookie ? c->cookie : MESH_SNAP_NONE;
    uint32_t i = meshd_snapfile_add(MESH_SNAP_ENDPOINTS, &copy);
    if (i != MESH_SNAP_NONE) {
        b->first = i;
        c->cookie = e->cookie ? i : c->cookie;
    }
    return i;
}

static uint32_t
sum_of(uint32_t index, const void *p, size_t size)
{
    return mesh_snap_sum(draft.generation, index, p, size - sizeof(uint32_t));
}

/* Each row with its sum to its place; false: they do not fit. */
static bool
lay_out(size_t *used)
{
    size_t end = sizeof(draft);
    for (unsigned t = 0; t < MESH_SNAP_TABLES; t++) {
        const size_t each = mesh_snap_entry_size(t);
        draft.table[t] = (struct mesh_snap_table){(uint32_t)end, rows[t].count};
        for (uint32_t i = 0; i < rows[t].count; i++) {
            uint8_t *row = rows[t].at + i * each;
            uint32_t check = sum_of(i, row, each);
            memcpy(row + each - sizeof(check), &check, sizeof(check));
        }
        end += (rows[t].count * each + 7) / 8 * 8;
        if (end > area_size) {
            return false;
        }
    }
    *used = end;
    return true;
}

static void
seal_front(const struct mesh_snap_settings *set)
{
    const size_t front = offsetof(struct mesh_snap_area, table);
    draft.settings = *set;
    draft.last_id = last_id;
    draft.check = sum_of(MESH_SNAP_NONE, (char *)&draft + front,
                         offsetof(struct mesh_snap_area, bucket) - front);
    for (uint32_t i = 0; i < MESH_SNAP_BUCKETS; i++) {
        draft.bucket[i].check = sum_of(i, &draft.bucket[i], sizeof(draft.bucket[i]));
    }
}

enum mesh_err
meshd_snapfile_commit(const struct mesh_snap_settings *set)
{
    const size_t front = offsetof(struct mesh_snap_area, table);
    size_t used = 0;
    draft.generation = generation + 1 + skip;
    if (lacking || !lay_out(&used)) {
        return MESH_E_NO_MEMORY;
    }
    struct mesh_snap_area *area = area_of(draft.generation);
    enum mesh_err e = make_room(area, used);
    if (e != MESH_OK) {
        return e;
    }
    seal_front(set);
    __atomic_store_n(&area->generation, 0, __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_release);
    meshd_pool_write((uint8_t *)head + pool_at);
    memcpy((char *)area + front, (char *)&draft + front, sizeof(draft) - front);
    for (unsigned t = 0; t < MESH_SNAP_TABLES; t++) {
        if (rows[t].count) {
            memcpy((char *)area + draft.table[t].off, rows[t].at, rows[t].count * mesh_snap_entry_size(t));
        }
    }
    fill_head();
    generation = draft.generation;
    skip = 0;
    __atomic_store_n(&area->generation, generation, __ATOMIC_RELEASE);
    atomic_store_explicit(&head->generation, generation, memory_order_release);
    meshd_snapcopy_write(head, map_size, area, used);
    return MESH_OK;
}

struct mesh_snap
meshd_snapfile_view(void)
{
    return has_size(file) ? (struct mesh_snap){head, map_size, NULL} : (struct mesh_snap){NULL, 0, NULL};
}

void
meshd_snapfile_beat(void)
{
    if (has_size(file)) {
        atomic_store_explicit(&head->alive_ns, meshd_now_ns(), memory_order_relaxed);
    }
}

int
meshd_snapfile_fd(void)
{
    char self[32];
    snprintf(self, sizeof(self), "/proc/self/fd/%d", file);
    int fd = open(self, O_RDONLY | O_CLOEXEC);
    return fd >= 0 ? fd : open(path, O_RDONLY | O_CLOEXEC);
}

uint64_t
meshd_snapfile_generation(void)
{
    return generation;
}

uint64_t
meshd_snapfile_epoch(void)
{
    return epoch;
}
