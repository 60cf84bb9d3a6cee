/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_link: see link.h.
 *
 * Attach happens once for a process tree: a child of fork inherits the mappings. The snapshot's
 * alive_ns is meshd's heartbeat; when it stands still for STALE_NS a process tries to attach again
 * at its next connect or listen, at most once a second. While meshd is away the old snapshot
 * serves. A restarted meshd goes on with the same files, so nothing changes for us; with another
 * epoch it is another registry, and our listeners are registered anew.
 *
 * A snapshot that is damaged or cut short is as good as a stale one. Only meshd's own user could cut
 * the file, but then a look beyond its end would be a SIGBUS in the program: before each use the
 * kernel is asked whether the last word of the mapping can be read, in which case all can.
 */
#include "shim/link/link.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/snap_cache.h"
#include "mesh/live.h"
#include "shim/core/env.h"
#include "shim/core/live.h"
#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/link/link_int.h"
#include "shim/link/wire.h"
#include "shim/real.h"

#define STALE_NS    UINT64_C(3000000000)
#define RETRY_NS    UINT64_C(1000000000)
#define CALL_MS     2000
#define PEER_MS     500
#define LIVE_MS     200 /* one can do without */

static struct shim_private lock;
static struct mesh_snap_cache found; /* in the snapshot */
static const void *_Atomic snap_map;
static _Atomic size_t snap_size;
static _Atomic uint64_t netns_cookie;
static _Atomic uint64_t next_try_ns;
static _Atomic enum mesh_err last_err; /* of the first attach, until next_try_ns */
static _Atomic bool damaged; /* a look-up said so */
static struct file {
    dev_t dev;
    ino_t ino;
} snap_file, page_file; /* that are mapped; under lock */
static struct mesh_wire_attach_rep me; /* under lock; strings terminated */
static _Atomic bool complained;

static uint64_t
cookie_of(int fd)
{
    uint64_t v = 0;
    socklen_t len = sizeof(v);
    return sys_getsockopt(fd, SOL_SOCKET, 71 /* SO_NETNS_COOKIE */, &v, &len) == 0 ? v : 0;
}

uint64_t
shim_link_netns(int of)
{
    uint64_t v = of >= 0 ? cookie_of(of) : atomic_load(&netns_cookie);
    if (v) {
        return v;
    }
    int fd = (int)sys_call(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, 0);
    if (fd >= 0) {
        v = cookie_of(fd);
        (void)sys_close(fd);
    }
    atomic_store(&netns_cookie, v);
    return v;
}

/* A futex call that wakes and moves nobody only compares a word, and knows EFAULT where we would
 * get a signal. Any other answer means that the word could be read, or that nobody may ask. */
static bool
is_cut_short(const void *map, size_t size)
{
    const char *last = (const char *)map + size - sizeof(uint32_t);
    return sys_call6(SYS_futex, (long)(uintptr_t)last, FUTEX_CMP_REQUEUE_PRIVATE, 0, 0,
                     (long)(uintptr_t)last, 0) == -EFAULT;
}

struct mesh_snap
shim_link_snapshot(void)
{
    struct mesh_snap s = {atomic_load_explicit(&snap_map, memory_order_acquire), 0, &found};
    s.size = s.map ? atomic_load(&snap_size) : 0;
    if (s.map && is_cut_short(s.map, s.size)) {
        return (struct mesh_snap){NULL, 0, NULL};
    }
    return s;
}

void
shim_link_damaged(void)
{
    atomic_store(&damaged, true);
}

const char *
shim_link_id(void)
{
    return me.id;
}

static enum mesh_err
map_fd(int fd, int prot, size_t want, struct stat *st, void **out)
{
    if (sys_call(SYS_fstat, fd, st, 0, 0) != 0 || (size_t)st->st_size < want) {
        return MESH_E_SNAPSHOT;
    }
    void *p = mmap(NULL, (size_t)st->st_size, prot, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        return MESH_E_NO_MEMORY;
    }
    *out = p;
    return MESH_OK;
}

static bool
is_mapped(int fd, const struct file *f)
{
    struct stat st;
    return f->ino && sys_call(SYS_fstat, fd, &st, 0, 0) == 0 && st.st_ino == f->ino &&
           st.st_dev == f->dev;
}

/* The old mapping is left in place: a reader in another thread may be inside it. */
static enum mesh_err
adopt_snapshot(int fd)
{
    struct stat st;
    void *p = NULL;
    if (is_mapped(fd, &snap_file)) {
        struct mesh_snap s = shim_link_snapshot();
        return mesh_snap_check(&s);
    }
    enum mesh_err e = map_fd(fd, PROT_READ, MESH_SNAP_HEAD, &st, &p);
    if (e != MESH_OK) {
        return e;
    }
    struct mesh_snap s = {p, (size_t)st.st_size, NULL};
    e = is_cut_short(s.map, s.size) ? MESH_E_SNAPSHOT : mesh_snap_check(&s);
    if (e != MESH_OK) {
        munmap(p, s.size);
        return e;
    }
    snap_file = (struct file){st.st_dev, st.st_ino};
    atomic_store(&snap_size, s.size);
    atomic_store_explicit(&snap_map, s.map, memory_order_release);
    return MESH_OK;
}

static enum mesh_err
adopt_page(int fd)
{
    struct stat st;
    void *p = NULL;
    if (is_mapped(fd, &page_file)) {
        return MESH_OK;
    }
    enum mesh_err e = map_fd(fd, PROT_READ | PROT_WRITE, MESH_PAGE_SIZE, &st, &p);
    if (e != MESH_OK) {
        return e;
    }
    const struct mesh_page *page = p;
    if (page->magic != MESH_PAGE_MAGIC || page->version != MESH_PAGE_VERSION) {
        munmap(p, (size_t)st.st_size);
        return MESH_E_SNAPSHOT;
    }
    page_file = (struct file){st.st_dev, st.st_ino};
    shim_stat_page(p);
    return MESH_OK;
}

static enum mesh_err
attach_once(void)
{
    struct mesh_wire_attach_req req = {.netns = shim_link_netns(-1)};
    struct mesh_wire_attach_rep rep;
    memcpy(req.service, shim_env.service, sizeof(req.service));
    struct shim_wire_call c = {.type = MESH_WIRE_ATTACH, .req = &req, .req_len = sizeof(req),
                               .send_fd = -1, .rep = &rep, .rep_cap = sizeof(rep)};
    enum mesh_err e = shim_wire_call(&c, CALL_MS);
    if (e != MESH_OK) {
        return e;
    }
    if (c.rep_len != sizeof(rep) || c.fd[0] < 0 || c.fd[1] < 0) {
        e = MESH_E_PROTOCOL;
    } else {
        e = adopt_page(c.fd[1]); /* first: what goes wrong with the other one is counted there */
        e = e == MESH_OK ? adopt_snapshot(c.fd[0]) : e;
    }
    for (int i = 0; i < 2; i++) {
        if (c.fd[i] >= 0) {
            (void)sys_close(c.fd[i]);
        }
    }
    if (e == MESH_OK) {
        rep.id[sizeof(rep.id) - 1] = '\0';
        me = rep;
        atomic_store(&damaged, false);
        shim_log_info("attached to meshd in %s as %s", shim_env.run_dir, me.id);
    }
    return e;
}

/* Also when nothing is mapped, or what is mapped makes no sense. */
static bool
is_stale(void)
{
    struct mesh_snap s = shim_link_snapshot();
    if (atomic_load(&damaged) || mesh_snap_check(&s) != MESH_OK) {
        return true;
    }
    uint64_t alive = atomic_load(&((const struct mesh_snap_head *)s.map)->alive_ns);
    uint64_t now = shim_now();
    return now > alive ? now - alive > STALE_NS : alive - now > STALE_NS;
}

/* Once in the process's life, loud or not: what keeps it out of the mesh. */
static void
complain(enum mesh_err e)
{
    if (!atomic_exchange(&complained, true)) {
        shim_log_always("%s (%s in %s)%s", mesh_err_text(e), mesh_err_reason(e), shim_env.run_dir,
                        shim_env.fallback_pass ? "; passing through" : "");
    }
}

static bool
is_attached(void)
{
    return atomic_load_explicit(&snap_map, memory_order_acquire) != NULL;
}

/* meshd may still come; one that lives mends a damaged snapshot within a second. */
static enum mesh_err
first_attach(void)
{
    uint64_t deadline = shim_now() + (uint64_t)shim_env.wait_ms * 1000000;
    enum mesh_err e;
    while (((e = attach_once()) == MESH_E_NO_MESHD || e == MESH_E_SNAPSHOT) &&
           shim_now() < deadline) {
        shim_private_leave(&lock); /* what is pending comes through */
        (void)sys_poll(NULL, 0, 20);
        (void)shim_private_enter(&lock); /* cannot fail: it is not ours */
        if (is_attached()) {
            return MESH_OK; /* by another thread */
        }
    }
    if (e != MESH_OK && e != MESH_E_NO_FD && e != MESH_E_NO_MEMORY) { /* those pass quickly */
        atomic_store(&last_err, e);
        atomic_store(&next_try_ns, shim_now() + RETRY_NS);
        complain(e);
    }
    return e;
}

bool
shim_link_wait(enum mesh_err e, uint64_t *until)
{
    static _Atomic bool in_vain;
    uint64_t now = shim_now();
    if (e != MESH_E_NO_MESHD) {
        atomic_store(&in_vain, false);
        return false;
    }
    if (*until == 0) {
        *until = now + (atomic_load(&in_vain) ? 0 : (uint64_t)shim_env.wait_ms * 1000000);
    }
    if (now >= *until) {
        atomic_store(&in_vain, true);
        complain(e);
        return false;
    }
    (void)sys_poll(NULL, 0, 20);
    return true;
}

enum mesh_err
shim_link_try(void)
{
    enum mesh_err e = MESH_OK;
    if (shim_link_snapshot().size == 0 && shim_private_enter(&lock)) {
        e = shim_link_snapshot().size == 0 ? attach_once() : MESH_OK;
        shim_private_leave(&lock);
    }
    return e;
}

enum mesh_err
shim_link_ready(void)
{
    bool have = is_attached();
    if (have && !is_stale()) {
        return MESH_OK;
    }
    uint64_t now = shim_now();
    if (now < atomic_load(&next_try_ns)) {
        return have ? MESH_OK : atomic_load(&last_err);
    }
    if (!shim_private_enter(&lock)) {
        return have ? MESH_OK : MESH_E_NO_MESHD;
    }
    enum mesh_err e = MESH_OK;
    bool again = false;
    if (!is_attached()) {
        e = first_attach();
    } else if (is_stale() && shim_now() >= atomic_load(&next_try_ns)) {
        uint64_t epoch = me.epoch;
        atomic_store(&next_try_ns, shim_now() + RETRY_NS);
        again = attach_once() == MESH_OK && me.epoch != epoch;
    }
    shim_private_leave(&lock);
    if (again) {
        shim_link_listen_again();
    }
    return e;
}

enum mesh_err
shim_link_cert(struct shim_link_cert *out)
{
    struct shim_wire_call c = {.type = MESH_WIRE_CERT, .send_fd = -1, .rep = out,
                               .rep_cap = sizeof(*out)};
    enum mesh_err e = shim_wire_call(&c, CALL_MS);
    if (e != MESH_OK) {
        return e;
    }
    struct mesh_wire_cert_rep *r = &out->rep;
    uint64_t sum = (uint64_t)r->chain_len + r->key_len + r->bundle_len;
    if (c.rep_len < sizeof(*r) || sum != c.rep_len - sizeof(*r)) {
        return MESH_E_PROTOCOL;
    }
    r->id[sizeof(r->id) - 1] = '\0';
    r->trust_domain[sizeof(r->trust_domain) - 1] = '\0';
    return MESH_OK;
}

enum mesh_err
shim_link_peer_known(int fd, const struct mesh_addr *a, const struct mesh_addr *to, uint32_t *known)
{
    struct mesh_wire_peer_req req = {.netns = shim_link_netns(fd), .port = a->port, .to = to->port};
    struct mesh_wire_peer_rep rep = {0};
    uint64_t began = shim_now();
    memcpy(req.addr, a->ip, 16);
    memcpy(req.to_tail, to->ip + 12, sizeof(req.to_tail));
    struct shim_wire_call c = {.type = MESH_WIRE_PEER, .req = &req, .req_len = sizeof(req),
                               .send_fd = -1, .rep = &rep, .rep_cap = sizeof(rep)};
    static _Atomic uint64_t deaf_until; /* each asks for one of perhaps hundreds of clients, and holds the others up */
    if (shim_now() < atomic_load(&deaf_until)) {
        return MESH_E_NO_MESHD;
    }
    enum mesh_err e = shim_wire_call(&c, PEER_MS);
    if (e == MESH_E_NO_MESHD && shim_now() - began >= (uint64_t)PEER_MS * 1000000) {
        atomic_store(&deaf_until, shim_now() + (uint64_t)PEER_MS * 1000000);
    }
    if (e == MESH_OK && c.rep_len != sizeof(rep)) {
        e = MESH_E_PROTOCOL;
    }
    if (e == MESH_OK) {
        *known = rep.known;
    }
    return e;
}

enum mesh_err
shim_link_handoff(int fd, const struct mesh_addr *to, const char *expect_id, const void *data,
                  size_t n)
{
    struct mesh_wire_handoff_req req = {.netns = shim_link_netns(fd), .port = to->port,
                                        .len = (uint32_t)n};
    memcpy(req.addr, to->ip, 16);
    snprintf(req.expect_id, sizeof(req.expect_id), "%s", expect_id ? expect_id : "");
    struct shim_wire_call c = {.type = MESH_WIRE_HANDOFF, .req = &req, .req_len = sizeof(req),
                               .req2 = data, .req2_len = n, .send_fd = -1};
    /* Where the program stands, which need not be where meshd does. */
    c.send_fd = (int)sys_call(SYS_socket, mesh_addr_is_v4(to) ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0, 0);
    enum mesh_err e = shim_wire_call(&c, CALL_MS);
    if (c.send_fd >= 0) {
        (void)sys_close(c.send_fd);
    }
    return e;
}

/* It is written by others: its size and layout matter, which must not change under us. */
static bool
adopt_live(int fd)
{
    struct stat st;
    void *p = NULL;
    bool good = false;
    long seals = sys_fcntl(fd, F_GET_SEALS, 0);
    if (seals >= 0 && (seals & F_SEAL_SHRINK) &&
        map_fd(fd, PROT_READ | PROT_WRITE, sizeof(struct mesh_live), &st, &p) == MESH_OK) {
        good = ((struct mesh_live *)p)->magic == MESH_LIVE_MAGIC;
        if (good) {
            shim_live_share(p);
        } else {
            munmap(p, (size_t)st.st_size); /* another version's */
        }
    }
    return good;
}

void
shim_link_live(uint32_t live)
{
    static _Atomic uint32_t have; /* or being asked for */
    static _Atomic uint64_t again_ns;
    uint32_t was = atomic_load(&have);
    if (live == was || live == 0 || shim_now() < atomic_load(&again_ns) ||
        !atomic_compare_exchange_strong(&have, &was, live)) {
        return;
    }
    struct shim_wire_call c = {.type = MESH_WIRE_LIVE, .send_fd = -1};
    bool good = shim_wire_call(&c, LIVE_MS) == MESH_OK && c.fd[0] >= 0;
    if (good) {
        good = adopt_live(c.fd[0]);
        (void)sys_close(c.fd[0]);
    }
    if (!good) { /* limits are the host's: until then each process has its own */
        atomic_store(&again_ns, shim_now() + RETRY_NS);
        atomic_store(&have, was);
    }
}

enum mesh_err
shim_link_lend(uint64_t cookie, int region_fd)
{
    struct mesh_wire_lend_req req = {cookie};
    struct shim_wire_call c = {.type = MESH_WIRE_LEND, .req = &req, .req_len = sizeof(req),
                               .send_fd = region_fd};
    return shim_wire_call(&c, CALL_MS);
}

enum mesh_err
shim_link_claim(int fd, bool *known, int *region_fd)
{
    struct mesh_wire_claim_rep rep = {0};
    struct shim_wire_call c = {.type = MESH_WIRE_CLAIM, .send_fd = fd, .rep = &rep,
                               .rep_cap = sizeof(rep)};
    enum mesh_err e = shim_wire_call(&c, CALL_MS);
    *known = e == MESH_OK && rep.known;
    *region_fd = e == MESH_OK ? c.fd[0] : -1;
    return e;
}

void
shim_link_forked(void)
{
    shim_private_forked(&lock, false); /* its holder may not exist in the child */
    shim_link_listen_forked();
}
