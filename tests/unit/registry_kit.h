/* SPDX-License-Identifier: Apache-2.0
 *
 * registry_kit: what the tests of meshd_registry share: a registry with a directory of its own, real
 * listening sockets, the requests that a shim would send for them, and a look into the snapshot.
 */
#ifndef TESTS_UNIT_REGISTRY_KIT_H
#define TESTS_UNIT_REGISTRY_KIT_H

#include "meshd/registry/registry.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <stdarg.h>
#include <sys/socket.h>

#include "common/snap.h"
#include "meshd/attest/attest.h"
#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "meshd/base/proc.h"
#include "meshd/policy/config.h"
#include "meshd/registry/netlink.h"
#include "meshd/registry/snapfile.h"
#include "tests/unit/unit.h"

static const char *dir;
static const struct meshd_identity web = {"web", "spiffe://mesh.local/ns/default/sa/web"};

static inline void
start(void)
{
    ck_assert_int_eq(meshd_loop_init(), MESH_OK);
    ck_assert_int_eq(meshd_proc_init(meshd_registry_gone), MESH_OK);
    ck_assert_int_eq(meshd_registry_init(dir), MESH_OK);
}

static inline void
stop(void)
{
    meshd_registry_fini();
    meshd_proc_fini();
    meshd_loop_fini();
}

static inline void
setup(void)
{
    dir = unit_mkdir();
    ck_assert_int_eq(meshd_config_load(NULL, dir), MESH_OK);
    meshd_log_set(MESHD_LOG_ERROR);
    start();
}

static inline void
teardown(void)
{
    stop();
    unit_rmdir(dir);
}

/* In force, and published. */
static inline void configure(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static inline void
configure(const char *fmt, ...)
{
    char path[512];
    va_list ap;
    snprintf(path, sizeof(path), "%s/meshd.conf", dir);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    va_start(ap, fmt);
    vfprintf(f, fmt, ap);
    va_end(ap);
    fclose(f);
    ck_assert_int_eq(meshd_config_load(path, dir), MESH_OK);
    meshd_log_set(MESHD_LOG_ERROR);
    ck_assert_int_eq(meshd_registry_publish(), MESH_OK);
}

static uint64_t
sock_u64(int fd, int option)
{
    uint64_t v = 0;
    socklen_t len = sizeof(v);
    ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, option, &v, &len), 0);
    return v;
}

/* A listening socket on a free (or the given) port. */
static inline int
listener(const char *ip, uint16_t *port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(*port)};
    socklen_t len = sizeof(sa);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, ip, &sa.sin_addr);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)), 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    ck_assert_int_eq(listen(fd, 8), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    *port = ntohs(sa.sin_port);
    return fd;
}

static inline struct meshd_peer
peer_of(pid_t pid)
{
    return (struct meshd_peer){.pid = pid, .uid = geteuid(), .gid = getegid(),
                               .starttime = meshd_proc_starttime(pid), .exe = "/bin/web"};
}

static inline struct mesh_wire_listen_req
request(int fd, const char *ip, uint16_t port)
{
    struct mesh_wire_listen_req q = {.netns = sock_u64(fd, SO_NETNS_COOKIE),
                                     .cookie = sock_u64(fd, SO_COOKIE), .port = port,
                                     .addr = {[10] = 0xff, [11] = 0xff}};
    inet_pton(AF_INET, ip, q.addr + 12);
    return q;
}

static inline struct mesh_wire_listen_rep
enlist(const struct meshd_peer *peer, const struct mesh_wire_listen_req *q)
{
    struct mesh_wire_listen_rep rep;
    int diag = -1;
    ck_assert_int_eq(meshd_registry_listen(peer, &web, q, &diag, &rep), MESH_OK);
    return rep;
}

static inline bool
look(const char *ip, uint16_t port, struct mesh_snap_hit *hit)
{
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_addr a = {.port = port, .ip = {[10] = 0xff, [11] = 0xff}};
    bool found = false;
    inet_pton(AF_INET, ip, a.ip + 12);
    ck_assert_int_eq(mesh_snap_find(&s, meshd_netlink_own(), &a, hit, &found), MESH_OK);
    return found;
}

/* Runs the loop until the port is (not) listed; false after `ms`. */
static inline bool
becomes(uint16_t port, bool listed, int ms)
{
    struct mesh_snap_hit hit;
    uint64_t end = meshd_now_ns() + (uint64_t)ms * UINT64_C(10000000); /* ten times: the machine may be busy */
    while (look("127.0.0.1", port, &hit) != listed) {
        if (meshd_now_ns() > end) {
            return false;
        }
        event_base_loop(meshd_loop(), EVLOOP_NONBLOCK);
    }
    return true;
}

/* Runs one case, each test with a registry of its own. */
static inline int
run_case(const char *name, TCase *t)
{
    Suite *s = suite_create(name);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    suite_add_tcase(s, t);
    return unit_run(s);
}

#endif
