/* SPDX-License-Identifier: Apache-2.0
 *
 * shim_link: see link.h.
 *
 * Attach happens once for a process tree: a child of fork inherits the mappings. The snapshot's
 * alive_ns is meshd's heartbeat; when it stands still for STALE_NS a process tries to attach again
 * at its next connect or listen, at most once a second. While meshd is away the old snapshot
 * serves. A restarted meshd goes on with the same files, so nothing changes for us; with another
 * epoch it is another registry, and our listeners are registered anew.
 */
#include "shim/link/link.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "shim/core/env.h"
#include "shim/core/log.h"
#include "shim/core/stat.h"
#include "shim/link/link_int.h"
#include "shim/link/wire.h"
#include "shim/real.h"

#define STALE_NS    UINT64_C(3000000000)
#define RETRY_NS    UINT64_C(1000000000)
#define CALL_MS     2000

static struct shim_lock lock;
static const void *_Atomic snap_map;
static _Atomic size_t snap_size;
static _Atomic uint64_t netns_cookie;
static _Atomic uint64_t next_try_ns;
static struct mesh_wire_attach_rep me; /* under lock; strings terminated */
static bool complained;

uint64_t
shim_link_netns(void)
{
    uint64_t v = atomic_load(&netns_cookie);
    if (v) {
        return v;
    }
    int fd = (int)sys_call(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, 0);
    socklen_t len = sizeof(v);
    if (fd >= 0) {
        if (sys_getsockopt(fd, SOL_SOCKET, 71 /* SO_NETNS_COOKIE */, &v, &len) != 0) {
            v = 0;
        }
        (void)sys_close(fd);
    }
    atomic_store(&netns_cookie, v);
    return v;
}

struct mesh_snap
shim_link_snapshot(void)
{
    struct mesh_snap s = {atomic_load_explicit(&snap_map, memory_order_acquire), 0};
    s.size = s.map ? atomic_load(&snap_size) : 0;
    return s;
}

const char *
shim_link_id(void)
{
    return me.id;
}

static void *
map_fd(int fd, int prot, size_t want, size_t *size)
{
    struct stat st;
    if (sys_call(SYS_fstat, fd, &st, 0, 0) != 0 || (size_t)st.st_size < want) {
        return NULL;
    }
    void *p = mmap(NULL, (size_t)st.st_size, prot, MAP_SHARED, fd, 0);
    *size = (size_t)st.st_size;
    return p == MAP_FAILED ? NULL : p;
}

/* The old mapping is left in place: a reader in another thread may be inside it. */
static enum mesh_err
adopt(int snap_fd, int page_fd)
{
    size_t ssize = 0, psize = 0;
    void *s = map_fd(snap_fd, PROT_READ, MESH_SNAP_HEAD, &ssize);
    struct mesh_page *p = map_fd(page_fd, PROT_READ | PROT_WRITE, MESH_PAGE_SIZE, &psize);
    struct mesh_snap snap = {s, ssize};
    if (!s || !p || p->magic != MESH_PAGE_MAGIC || p->version != MESH_PAGE_VERSION) {
        return MESH_E_SNAPSHOT;
    }
    enum mesh_err e = mesh_snap_check(&snap);
    if (e == MESH_OK) {
        atomic_store(&snap_size, ssize);
        atomic_store_explicit(&snap_map, s, memory_order_release);
        shim_stat_page(p);
    }
    return e;
}

static enum mesh_err
attach_once(void)
{
    struct mesh_wire_attach_req req = {.netns = shim_link_netns()};
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
        e = adopt(c.fd[0], c.fd[1]);
    }
    for (int i = 0; i < 2; i++) {
        if (c.fd[i] >= 0) {
            (void)sys_close(c.fd[i]);
        }
    }
    if (e == MESH_OK) {
        rep.id[sizeof(rep.id) - 1] = '\0';
        me = rep;
        shim_log_info("attached to meshd in %s as %s", shim_env.run_dir, me.id);
    }
    return e;
}

static bool
is_stale(void)
{
    const struct mesh_snap_head *h = atomic_load_explicit(&snap_map, memory_order_acquire);
    return h && shim_now() > atomic_load(&h->alive_ns) + STALE_NS;
}

static enum mesh_err
first_attach(void)
{
    uint64_t deadline = shim_now() + (uint64_t)shim_env.wait_ms * 1000000;
    enum mesh_err e;
    while ((e = attach_once()) == MESH_E_NO_MESHD && shim_now() < deadline) {
        (void)sys_poll(NULL, 0, 20);
    }
    if (e != MESH_OK) {
        atomic_store(&next_try_ns, shim_now() + RETRY_NS);
        if (!complained) {
            complained = true;
            shim_log_always("%s (%s in %s)%s", mesh_err_text(e), mesh_err_reason(e),
                            shim_env.run_dir,
                            shim_env.fallback_pass ? "; passing through" : "");
        }
    }
    return e;
}

enum mesh_err
shim_link_ready(void)
{
    bool have = shim_link_snapshot().size > 0;
    if (have && !is_stale()) {
        return MESH_OK;
    }
    uint64_t now = shim_now();
    if (now < atomic_load(&next_try_ns)) {
        return have ? MESH_OK : MESH_E_NO_MESHD;
    }
    if (!shim_lock_get(&lock, NULL)) {
        return have ? MESH_OK : MESH_E_NO_MESHD;
    }
    enum mesh_err e = MESH_OK;
    bool again = false;
    if (shim_link_snapshot().size == 0) {
        e = first_attach();
    } else if (is_stale() && shim_now() >= atomic_load(&next_try_ns)) {
        uint64_t epoch = me.epoch;
        atomic_store(&next_try_ns, shim_now() + RETRY_NS);
        again = attach_once() == MESH_OK && me.epoch != epoch;
    }
    shim_lock_put(&lock);
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

bool
shim_link_peer_known(const struct mesh_addr *a)
{
    struct mesh_wire_peer_req req = {.netns = shim_link_netns(), .port = a->port};
    struct mesh_wire_peer_rep rep = {0};
    memcpy(req.addr, a->ip, 16);
    struct shim_wire_call c = {.type = MESH_WIRE_PEER, .req = &req, .req_len = sizeof(req),
                               .send_fd = -1, .rep = &rep, .rep_cap = sizeof(rep)};
    return shim_wire_call(&c, 500) == MESH_OK && c.rep_len == sizeof(rep) && rep.known;
}

enum mesh_err
shim_link_handoff(const struct mesh_addr *to, const char *expect_id, const void *data, size_t n)
{
    struct mesh_wire_handoff_req req = {.netns = shim_link_netns(), .port = to->port,
                                        .len = (uint32_t)n};
    memcpy(req.addr, to->ip, 16);
    snprintf(req.expect_id, sizeof(req.expect_id), "%s", expect_id ? expect_id : "");
    struct shim_wire_call c = {.type = MESH_WIRE_HANDOFF, .req = &req, .req_len = sizeof(req),
                               .req2 = data, .req2_len = n, .send_fd = -1};
    return shim_wire_call(&c, CALL_MS);
}

void
shim_link_forked(void)
{
    atomic_store(&lock.owner, 0); /* its holder may not exist in the child */
}
