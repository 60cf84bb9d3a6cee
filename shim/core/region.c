/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_region: see region.h.
 *
 * The descriptor's number can be taken from us where we do not see it (closes inside libc, bare
 * system calls), so every use compares the file behind it with the one that was mapped.
 */
#include "shim/core/region.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "mesh/version.h"
#include "shim/core/fdtab.h"
#include "shim/core/room.h"
#include "shim/real.h"

#define HIGH_FD 700 /* out of the way of programs that count on low numbers */

struct shim_region *_Atomic shim_regions[SHIM_REGIONS];
_Atomic unsigned shim_region_last;
static _Atomic uint64_t inode[SHIM_REGIONS]; /* of the memfds; unique on a host while it runs */
static _Atomic int own_fd = -1;
static _Atomic int known; /* a process to which ids of processes in the own region mean what they say, or 0 */

struct shim_region *
shim_region(void)
{
    return shim_region_at(0);
}

unsigned
shim_region_index(const struct shim_slot *s)
{
    for (unsigned i = 1; i < SHIM_REGIONS; i++) {
        const struct shim_region *r = shim_region_at(i);
        if (r && s >= r->slot && s < r->slot + SHIM_SLOTS) {
            return i;
        }
    }
    return 0;
}

static void
build_name(char out[64])
{
    memset(out, 0, 64);
    snprintf(out, 64, "libmesh %s layout %u %zu %zu", MESH_VERSION, SHIM_SLOT_LAYOUT,
             sizeof(struct shim_region), sizeof(struct shim_slot));
}

static uint64_t
inode_of(int fd, uint64_t *size)
{
    struct stat st;
    if (fd < 0 || sys_call(SYS_fstat, fd, &st, 0, 0) != 0) {
        return 0;
    }
    if (size) {
        *size = (uint64_t)st.st_size;
    }
    return st.st_ino;
}

int
shim_region_fd(void)
{
    int fd = atomic_load(&own_fd);
    return fd >= 0 && inode_of(fd, NULL) == atomic_load(&inode[0]) ? fd : -1;
}

/* A file limit would make ftruncate raise SIGXFSZ in the program [setrlimit(2)]. The soft one rises for
 * the moment of the call; a file that is there and mapped knows no limit. */
static bool
make_room(int fd)
{
    struct rlimit l, up;
    if (sys_call(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, &l) != 0 || l.rlim_max < sizeof(struct shim_region)) {
        return false;
    }
    up = (struct rlimit){l.rlim_max, l.rlim_max};
    bool low = l.rlim_cur < sizeof(struct shim_region);
    if (low && sys_call(SYS_prlimit64, 0, RLIMIT_FSIZE, &up, 0) != 0) {
        return false;
    }
    long r = sys_call(SYS_ftruncate, fd, sizeof(struct shim_region), 0, 0);
    if (low) {
        (void)sys_call(SYS_prlimit64, 0, RLIMIT_FSIZE, &l, 0);
    }
    return r == 0;
}

static int
new_file(void)
{
    int fd = (int)sys_call(SYS_memfd_create, "libmesh", MFD_CLOEXEC | 8 /* MFD_NOEXEC_SEAL */, 0, 0);
    if (fd == -EINVAL) {
        fd = (int)sys_call(SYS_memfd_create, "libmesh", MFD_CLOEXEC | MFD_ALLOW_SEALING, 0, 0);
    }
    return fd;
}

static int
make_file(void)
{
    int fd = new_file();
    if (fd == -EMFILE && shim_room_make()) {
        fd = new_file();
        shim_room_end();
    }
    if (fd < 0) {
        return -1;
    }
    if (!make_room(fd)) {
        (void)sys_close(fd);
        return -1;
    }
    (void)sys_fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL); /* see stays_mapped */
    return fd;
}

/* The lowest free number from `from` on. That, or one below, if there is no such limit. */
static int
dup_from(int fd, long from)
{
    bool made = shim_room_make();
    int r = (int)sys_fcntl(fd, F_DUPFD_CLOEXEC, from);
    if (made) {
        shim_room_end();
    }
    return r;
}

/* Who lends us a region could cut it off behind our back, and an access would raise SIGBUS in the
 * program. Nor may it be a file of huge pages, which does so when there are none left; those have
 * another size. */
static bool
stays_mapped(int fd)
{
    long seals = sys_fcntl(fd, F_GET_SEALS, 0);
    return seals >= 0 && seals & F_SEAL_SHRINK;
}
_Static_assert(sizeof(struct shim_region) % (64 << 10) != 0, "no number of huge pages");

/* A program with a small limit must not lose a number to us: ours lies beyond its limit, which rises
 * for the moment of the call. Where that is not allowed it is the last that is free, until the program
 * wants it (shim_region_give_up). */
static int
dup_high(int fd)
{
    struct rlimit l;
    int r = (int)sys_fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
    if (r != -EINVAL && r != -EMFILE) {
        return r;
    }
    if (sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &l) != 0) {
        return -1;
    }
    if (l.rlim_max >= HIGH_FD + 64) {
        return dup_from(fd, l.rlim_cur > HIGH_FD ? (long)l.rlim_cur : HIGH_FD);
    }
    r = -1;
    for (long n = (long)l.rlim_max - 1; r < 0 && n > 2; n--) {
        r = dup_from(fd, n);
    }
    return r;
}

static void
keep_fd(int fd)
{
    int up = dup_high(fd);
    if (up >= 0 && shim_fdtab_set(up, SHIM_FD_PRIVATE, 0)) {
        atomic_store(&inode[0], inode_of(up, NULL));
        atomic_store(&own_fd, up);
    } else if (up >= 0) {
        (void)sys_close(up); /* beyond the table: nothing would keep the program from it */
    }
}

/* Most of the region is never used, but after mlockall(MCL_FUTURE) all of a new mapping becomes real at
 * once, and counts against RLIMIT_MEMLOCK. One page does not hurt; unlocked and then grown it is as
 * without. What is used of it stays locked, if that is allowed [mlock2(2)]. */
static void *
map_lazily(int fd)
{
    long page = (long)getauxval(AT_PAGESZ), all = (long)sizeof(struct shim_region);
    void *p = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED) {
        return NULL;
    }
    bool locked = sys_call(SYS_msync, p, page, MS_INVALIDATE, 0) == -EBUSY; /* says so [msync(2)] */
    if (locked) {
        (void)sys_call(SYS_munlock, p, page, 0, 0);
    }
    long q = sys_call(SYS_mremap, p, page, all, MREMAP_MAYMOVE);
    if (q < 0 && q > -4096) {
        munmap(p, (size_t)page);
        return NULL;
    }
    if (locked) {
        (void)sys_call(SYS_mlock2, q, all, MLOCK_ONFAULT, 0);
    }
    return (void *)q;
}

static struct shim_region *
map(int fd)
{
    void *p = fd < 0 ? mmap(NULL, sizeof(struct shim_region), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_NORESERVE | MAP_ANONYMOUS, -1, 0)
                     : map_lazily(fd);
    if (p == NULL || p == MAP_FAILED) {
        return NULL;
    }
    (void)madvise(p, sizeof(struct shim_region), MADV_DONTDUMP); /* keys stay out of core files */
    return p;
}

/* The namespace of this process's ids, 0 where /proc does not tell. */
static uint64_t
pid_ns(void)
{
    struct stat st;
    return sys_call6(SYS_newfstatat, AT_FDCWD, (long)"/proc/self/ns/pid", (long)&st, 0, 0, 0) == 0
               ? st.st_ino
               : 0;
}

bool
shim_region_pids_visible(void)
{
    const struct shim_region *r = shim_region();
    return r && r->pid_ns != 0 && pid_ns() == r->pid_ns;
}

bool
shim_region_forked(void)
{
    int parent = atomic_load(&known);
    bool same = (parent && sys_call(SYS_getppid, 0, 0, 0, 0) == parent) || shim_region_pids_visible();
    atomic_store(&known, same ? sys_getpid() : 0);
    return same;
}

bool
shim_region_init(void)
{
    if (shim_region()) {
        return true;
    }
    int fd = make_file();
    struct shim_region *p = map(fd), *none = NULL;
    if (p) {
        build_name(p->build);
        p->pid_ns = pid_ns();
        atomic_store(&known, p->pid_ns ? sys_getpid() : 0);
        if (!atomic_compare_exchange_strong(&shim_regions[0], &none, p)) {
            munmap(p, sizeof(*p)); /* another thread was first */
        } else if (fd >= 0) {
            keep_fd(fd);
        }
    }
    if (fd >= 0) {
        (void)sys_close(fd);
    }
    return p != NULL;
}

/* The region behind fd, mapped; NULL if it is none of this build's. */
static struct shim_region *
map_existing(int fd, uint64_t *ino)
{
    char mine[64];
    uint64_t size = 0;
    *ino = inode_of(fd, &size);
    if (*ino == 0 || size != sizeof(struct shim_region)) {
        return NULL;
    }
    struct shim_region *p = map(fd);
    build_name(mine);
    if (p && memcmp(p->build, mine, sizeof(mine)) != 0) {
        munmap(p, sizeof(*p));
        p = NULL;
    }
    return p;
}

bool
shim_region_adopt(int fd)
{
    uint64_t ino;
    struct shim_region *p = shim_region() ? NULL : map_existing(fd, &ino);
    if (!p) {
        return false;
    }
    atomic_store(&known, p->pid_ns != 0 && p->pid_ns == pid_ns() ? sys_getpid() : 0);
    atomic_store(&shim_regions[0], p);
    keep_fd(fd);
    return true;
}

/* A thread may sleep on a connection of it that another closed. Others' threads count, too: their names say nothing here. */
static bool
is_quiet(const struct shim_region *r)
{
    for (unsigned w = 0; w < SHIM_SLOTS / 64; w++) {
        for (uint64_t v = atomic_load(&r->slot_bits[w]); v; v &= v - 1) {
            const struct shim_slot *s = &r->slot[w * 64 + (unsigned)__builtin_ctzll(v)];
            if (atomic_load(&s->rx_lock.owner) || atomic_load(&s->tx_lock.owner) || atomic_load(&s->rx_sleepers)) {
                return false;
            }
        }
    }
    return true;
}

/* What is replaced stays mapped until the next is: a thread may have come by its address in this moment. */
static bool
take_place(unsigned i, struct shim_region *now, struct shim_region *next, uint64_t ino)
{
    static struct shim_region *_Atomic replaced;
    if (!atomic_compare_exchange_strong(&shim_regions[i], &now, next)) {
        return false;
    }
    atomic_store(&inode[i], ino);
    unsigned last = atomic_load(&shim_region_last);
    while (last < i && !atomic_compare_exchange_weak(&shim_region_last, &last, i)) {
    }
    struct shim_region *old = now ? atomic_exchange(&replaced, now) : NULL;
    if (old) {
        munmap(old, sizeof(*old));
    }
    return true;
}

bool
shim_region_join(int fd, uint32_t busy)
{
    uint64_t ino;
    struct shim_region *p = stays_mapped(fd) ? map_existing(fd, &ino) : NULL;
    for (unsigned i = 0; p && i < SHIM_REGIONS; i++) {
        if (atomic_load(&inode[i]) == ino && shim_region_at(i)) {
            munmap(p, sizeof(*p)); /* we have it */
            return true;
        }
    }
    for (unsigned i = 1; p && i < SHIM_REGIONS; i++) {
        if (take_place(i, NULL, p, ino)) {
            return true;
        }
    }
    for (unsigned i = 1; p && i < SHIM_REGIONS; i++) {
        struct shim_region *r = shim_region_at(i);
        if (!(busy >> i & 1) && is_quiet(r) && take_place(i, r, p, ino)) {
            return true;
        }
    }
    if (p) {
        munmap(p, sizeof(*p));
    }
    return false;
}

void
shim_region_yield(int fd)
{
    if (atomic_load(&own_fd) == fd && shim_region_fd() == fd) {
        (void)shim_fdtab_set(fd, SHIM_FD_NONE, 0);
        keep_fd(fd);
    }
}

bool
shim_region_give_up(void)
{
    int fd = shim_region_fd();
    struct rlimit l;
    if (fd < 0 || sys_call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &l) != 0 || (rlim_t)fd >= l.rlim_cur ||
        !shim_fdtab_may_write() || !atomic_compare_exchange_strong(&own_fd, &fd, -1)) {
        return false;
    }
    (void)shim_fdtab_set(fd, SHIM_FD_NONE, 0);
    (void)sys_close(fd);
    return true;
}
