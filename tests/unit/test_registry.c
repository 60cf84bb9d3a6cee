/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_registry, with real sockets and the real kernel: what is listed, when it goes, what a
 * restart keeps, and lies.
 */
#include "meshd/registry/registry.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

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

static void
start(void)
{
    ck_assert_int_eq(meshd_loop_init(), MESH_OK);
    ck_assert_int_eq(meshd_proc_init(meshd_registry_gone), MESH_OK);
    ck_assert_int_eq(meshd_registry_init(dir), MESH_OK);
}

static void
stop(void)
{
    meshd_registry_fini();
    meshd_proc_fini();
    meshd_loop_fini();
}

static void
setup(void)
{
    dir = unit_mkdir();
    ck_assert_int_eq(meshd_config_load(NULL, dir), MESH_OK);
    meshd_log_set(MESHD_LOG_ERROR);
    start();
}

static void
teardown(void)
{
    stop();
    unit_rmdir(dir);
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
static int
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

static struct meshd_peer
peer_of(pid_t pid)
{
    return (struct meshd_peer){.pid = pid, .uid = geteuid(), .gid = getegid(),
                               .starttime = meshd_proc_starttime(pid), .exe = "/bin/web"};
}

static struct mesh_wire_listen_req
request(int fd, const char *ip, uint16_t port)
{
    struct mesh_wire_listen_req q = {.netns = sock_u64(fd, SO_NETNS_COOKIE),
                                     .cookie = sock_u64(fd, SO_COOKIE), .port = port,
                                     .addr = {[10] = 0xff, [11] = 0xff}};
    inet_pton(AF_INET, ip, q.addr + 12);
    return q;
}

static struct mesh_wire_listen_rep
enlist(const struct meshd_peer *peer, const struct mesh_wire_listen_req *q)
{
    struct mesh_wire_listen_rep rep;
    int diag = -1;
    ck_assert_int_eq(meshd_registry_listen(peer, &web, q, &diag, &rep), MESH_OK);
    return rep;
}

static bool
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
static bool
becomes(uint16_t port, bool listed, int ms)
{
    struct mesh_snap_hit hit;
    uint64_t end = meshd_now_ns() + (uint64_t)ms * 1000000;
    while (look("127.0.0.1", port, &hit) != listed) {
        if (meshd_now_ns() > end) {
            return false;
        }
        event_base_loop(meshd_loop(), EVLOOP_NONBLOCK);
    }
    return true;
}

static void
run_for(int ms)
{
    uint64_t end = meshd_now_ns() + (uint64_t)ms * 1000000;
    while (meshd_now_ns() < end) {
        event_base_loop(meshd_loop(), EVLOOP_NONBLOCK);
    }
}

START_TEST(listed_until_closed)
{
    uint16_t port = 0;
    int fd = listener("127.0.0.1", &port);
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_listen_req q = request(fd, "127.0.0.1", port);
    struct mesh_snap_hit hit;
    ck_assert(!look("127.0.0.1", port, &hit));
    struct mesh_wire_listen_rep rep = enlist(&me, &q);
    ck_assert_int_eq(rep.need_diag, 0);
    ck_assert_int_eq(rep.mode, MESH_MODE_PERMISSIVE);
    ck_assert(look("127.0.0.1", port, &hit)); /* at once: no loop has run */
    ck_assert_uint_eq(hit.endpoint.id, rep.endpoint_id);
    ck_assert_str_eq(hit.service.name, "web");
    ck_assert_uint_eq(hit.endpoint.flags, MESH_EP_NETNS);
    run_for(50);
    ck_assert(look("127.0.0.1", port, &hit));
    close(fd);
    ck_assert(becomes(port, false, 2000)); /* the kernel's event, no word of ours */
}
END_TEST

START_TEST(again_keeps_its_id)
{
    uint16_t port = 0;
    int fd = listener("127.0.0.1", &port);
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_listen_req q = request(fd, "127.0.0.1", port);
    uint32_t id = enlist(&me, &q).endpoint_id;
    ck_assert_uint_eq(enlist(&me, &q).endpoint_id, id);
    struct meshd_registry_info info;
    meshd_registry_info(&info);
    ck_assert_uint_eq(info.endpoints, 1);
    close(fd);
}
END_TEST

START_TEST(inherited_stays)
{
    uint16_t port = 0;
    int fd = listener("127.0.0.1", &port), go[2];
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_listen_req q = request(fd, "127.0.0.1", port);
    struct mesh_wire_unlisten_req un = {q.netns, q.cookie};
    struct mesh_snap_hit hit;
    enlist(&me, &q);
    ck_assert_int_eq(pipe(go), 0);
    pid_t child = fork();
    if (child == 0) {
        char c;
        close(go[1]);
        _exit(read(go[0], &c, 1) < 0);
    }
    close(fd);
    meshd_registry_unlisten(&me, &un);
    run_for(100);
    ck_assert(look("127.0.0.1", port, &hit)); /* the child holds it */
    close(go[1]);
    waitpid(child, NULL, 0);
    ck_assert(becomes(port, false, 2000));
}
END_TEST

START_TEST(unlisten_withdraws_at_once)
{
    uint16_t port = 0;
    int fd = listener("127.0.0.1", &port);
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_listen_req q = request(fd, "127.0.0.1", port);
    struct mesh_wire_unlisten_req un = {q.netns, q.cookie};
    struct mesh_snap_hit hit;
    enlist(&me, &q);
    meshd_registry_unlisten(&me, &un); /* not true */
    ck_assert(look("127.0.0.1", port, &hit));
    close(fd);
    meshd_registry_unlisten(&me, &un);
    ck_assert(!look("127.0.0.1", port, &hit));
}
END_TEST

START_TEST(killed_process)
{
    int up[2];
    struct {
        struct mesh_wire_listen_req q;
        uint16_t port;
    } m;
    ck_assert_int_eq(pipe(up), 0);
    pid_t child = fork();
    if (child == 0) {
        m.port = 0;
        int fd = listener("127.0.0.1", &m.port);
        m.q = request(fd, "127.0.0.1", m.port);
        if (write(up[1], &m, sizeof(m)) == (ssize_t)sizeof(m)) {
            pause();
        }
        _exit(0);
    }
    ck_assert_int_eq(read(up[0], &m, sizeof(m)), sizeof(m));
    struct meshd_peer p = peer_of(child);
    enlist(&p, &m.q);
    run_for(20);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    ck_assert(becomes(m.port, false, 2000));
}
END_TEST

START_TEST(reuseport_siblings)
{
    uint16_t port = 0;
    int a = listener("127.0.0.1", &port), b = listener("127.0.0.1", &port);
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_listen_req qa = request(a, "127.0.0.1", port),
                                qb = request(b, "127.0.0.1", port);
    struct mesh_snap_hit hit;
    struct meshd_registry_info info;
    uint32_t ia = enlist(&me, &qa).endpoint_id, ib = enlist(&me, &qb).endpoint_id;
    ck_assert_uint_ne(ia, ib);
    close(a);
    run_for(100);
    ck_assert(look("127.0.0.1", port, &hit));
    ck_assert_uint_eq(hit.endpoint.id, ib);
    meshd_registry_info(&info);
    ck_assert_uint_eq(info.endpoints, 1);
    close(b);
    ck_assert(becomes(port, false, 2000));
}
END_TEST

START_TEST(shutdown_listener_is_swept)
{
    uint16_t port = 0;
    int fd = listener("127.0.0.1", &port);
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_listen_req q = request(fd, "127.0.0.1", port);
    enlist(&me, &q);
    ck_assert_int_eq(shutdown(fd, SHUT_RD), 0); /* no longer listens, is not destroyed */
    ck_assert(becomes(port, false, 8000));
    close(fd);
}
END_TEST

START_TEST(wildcard)
{
    uint16_t port = 0;
    int fd = listener("0.0.0.0", &port);
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_listen_req q = request(fd, "0.0.0.0", port);
    struct mesh_snap_hit hit;
    q.ifaddrs = 2; /* one that is nobody's here, one that is loopback: neither is taken */
    memcpy(q.ifaddr[0], q.addr, 12);
    inet_pton(AF_INET, "203.0.113.7", q.ifaddr[0] + 12);
    memcpy(q.ifaddr[1], q.addr, 12);
    inet_pton(AF_INET, "127.0.0.1", q.ifaddr[1] + 12);
    enlist(&me, &q);
    ck_assert(look("127.0.0.1", port, &hit));
    ck_assert_uint_eq(hit.endpoint.flags, MESH_EP_NETNS | MESH_EP_ANY);
    ck_assert(!hit.needs_local);
    ck_assert(look("203.0.113.7", port, &hit));
    ck_assert(hit.needs_local);
    close(fd);
}
END_TEST

START_TEST(the_kernel_knows_the_address)
{
    uint16_t port = 0;
    int fd = listener("127.0.0.1", &port);
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_listen_req q = request(fd, "10.11.12.13", port); /* a lie */
    struct mesh_snap_hit hit;
    enlist(&me, &q);
    ck_assert(look("127.0.0.1", port, &hit));
    ck_assert(!look("10.11.12.13", port, &hit));
    close(fd);
}
END_TEST

START_TEST(a_listener_that_never_was)
{
    uint16_t port = 0;
    int fd = listener("127.0.0.1", &port);
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_listen_req q = request(fd, "127.0.0.1", port);
    q.cookie += 1000000;
    enlist(&me, &q); /* it may be about to listen */
    ck_assert(becomes(port, false, 8000));
    close(fd);
}
END_TEST

START_TEST(somebody_elses_socket)
{
    uint16_t port = 0;
    struct mesh_wire_listen_rep rep;
    int diag = -1;
    if (geteuid() != 0) {
        return;
    }
    ck_assert_int_eq(seteuid(65534), 0);
    int fd = listener("127.0.0.1", &port);
    ck_assert_int_eq(seteuid(0), 0);
    struct mesh_wire_listen_req q = request(fd, "127.0.0.1", port);
    struct meshd_peer p = peer_of(getpid());
    p.uid = 12345;
    ck_assert_int_eq(meshd_registry_listen(&p, &web, &q, &diag, &rep), MESH_E_DENIED);
    p.uid = 65534;
    ck_assert_int_eq(meshd_registry_listen(&p, &web, &q, &diag, &rep), MESH_OK);
    struct meshd_peer thief = p;
    struct meshd_identity evil = {"evil", "spiffe://mesh.local/ns/default/sa/evil"};
    struct mesh_snap_hit hit;
    thief.uid = 12345;
    ck_assert_int_eq(meshd_registry_listen(&thief, &evil, &q, &diag, &rep), MESH_OK);
    ck_assert(look("127.0.0.1", port, &hit));
    ck_assert_str_eq(hit.service.name, "web");
    close(fd);
}
END_TEST

/* Nobody diverts the clients of another user's port by claiming to be about to listen there. */
START_TEST(somebody_elses_port)
{
    uint16_t port = 0;
    struct mesh_wire_listen_rep rep;
    struct mesh_snap_hit hit;
    int diag = -1, fd = listener("127.0.0.1", &port);
    struct mesh_wire_listen_req q = request(fd, "127.0.0.1", port);
    struct meshd_peer p = peer_of(getpid());
    p.uid = 12345;
    q.cookie += 1000000;
    ck_assert_int_eq(meshd_registry_listen(&p, &web, &q, &diag, &rep), MESH_E_DENIED);
    inet_pton(AF_INET, "0.0.0.0", q.addr + 12);
    ck_assert_int_eq(meshd_registry_listen(&p, &web, &q, &diag, &rep), MESH_E_DENIED);
    ck_assert(!look("127.0.0.1", port, &hit));
    inet_pton(AF_INET, "127.0.0.2", q.addr + 12);
    ck_assert_int_eq(meshd_registry_listen(&p, &web, &q, &diag, &rep), MESH_OK);
    close(fd);
}
END_TEST

START_TEST(bad_requests)
{
    uint16_t port = 0;
    int fd = listener("127.0.0.1", &port), diag = -1;
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_listen_rep rep;
    for (int i = 0; i < 4; i++) {
        struct mesh_wire_listen_req q = request(fd, "127.0.0.1", port);
        q.netns = i == 0 ? 0 : q.netns;
        q.cookie = i == 1 ? 0 : q.cookie;
        q.port = i == 2 ? 0 : q.port;
        q.ifaddrs = i == 3 ? MESH_WIRE_IFADDRS + 1 : 0;
        ck_assert_int_eq(meshd_registry_listen(&me, &web, &q, &diag, &rep), MESH_E_PROTOCOL);
    }
    close(fd);
}
END_TEST

START_TEST(another_namespace_needs_its_socket)
{
    uint16_t port = 0;
    int fd = listener("127.0.0.1", &port), diag = -1;
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_listen_rep rep;
    struct mesh_wire_listen_req q = request(fd, "127.0.0.1", port);
    q.netns = 987654321;
    ck_assert_int_eq(meshd_registry_listen(&me, &web, &q, &diag, &rep), MESH_OK);
    ck_assert_int_eq(rep.need_diag, 1);
    diag = open("/dev/null", O_RDONLY); /* anything but that */
    ck_assert_int_eq(meshd_registry_listen(&me, &web, &q, &diag, &rep), MESH_E_PROTOCOL);
    close(diag);
    diag = socket(AF_NETLINK, SOCK_RAW, 4); /* right kind, no groups, wrong namespace */
    ck_assert_int_eq(meshd_registry_listen(&me, &web, &q, &diag, &rep), MESH_E_PROTOCOL);
    close(diag);
    close(fd);
}
END_TEST

START_TEST(restart)
{
    uint16_t keep = 0, lose = 0;
    int a = listener("127.0.0.1", &keep), b = listener("127.0.0.1", &lose);
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_listen_req qa = request(a, "127.0.0.1", keep),
                                qb = request(b, "127.0.0.1", lose);
    struct mesh_snap_hit hit;
    struct meshd_registry_info before, after;
    enlist(&me, &qa);
    uint32_t ia = enlist(&me, &qa).endpoint_id, ib = enlist(&me, &qb).endpoint_id;
    meshd_registry_info(&before);
    stop();
    close(b);
    start();
    meshd_registry_info(&after);
    ck_assert_uint_eq(after.epoch, before.epoch);
    ck_assert_uint_gt(after.generation, before.generation);
    ck_assert(look("127.0.0.1", keep, &hit));
    ck_assert_uint_eq(hit.endpoint.id, ia);
    ck_assert(!look("127.0.0.1", lose, &hit));
    uint16_t port = 0;
    int c = listener("127.0.0.1", &port);
    struct mesh_wire_listen_req qc = request(c, "127.0.0.1", port);
    ck_assert_uint_gt(enlist(&me, &qc).endpoint_id, ia);
    ck_assert_uint_ne(enlist(&me, &qc).endpoint_id, ib);
    close(a);
    ck_assert(becomes(keep, false, 2000));
    close(c);
}
END_TEST

static int
count_endpoints(const struct meshd_endpoint *e, void *arg)
{
    ck_assert_ptr_nonnull(e->service);
    ++*(int *)arg;
    return 0;
}

START_TEST(many)
{
    struct meshd_peer me = peer_of(getpid());
    int fd[200], n = 0;
    for (int i = 0; i < 200; i++) {
        uint16_t port = 0;
        fd[i] = listener("127.0.0.1", &port);
        struct mesh_wire_listen_req q = request(fd[i], "127.0.0.1", port);
        enlist(&me, &q);
    }
    meshd_registry_visit_endpoints(count_endpoints, &n);
    ck_assert_int_eq(n, 200);
    for (int i = 0; i < 200; i++) {
        close(fd[i]);
    }
    struct meshd_registry_info info;
    for (int i = 0; i < 2000; i++) {
        event_base_loop(meshd_loop(), EVLOOP_NONBLOCK);
        meshd_registry_info(&info);
    }
    run_for(200);
    meshd_registry_info(&info);
    ck_assert_uint_eq(info.endpoints, 0);
    ck_assert_uint_eq(info.services, 0);
}
END_TEST

static void
configure(const char *endpoints, const char *mode)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/meshd.conf", dir);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fprintf(f, "services = ( { name = \"db\"; mode = \"%s\"; endpoints = ( %s ); } );\n", mode,
            endpoints);
    fclose(f);
    ck_assert_int_eq(meshd_config_load(path, dir), MESH_OK);
    meshd_log_set(MESHD_LOG_ERROR);
    ck_assert_int_eq(meshd_registry_publish(), MESH_OK);
}

START_TEST(configured_endpoints)
{
    struct mesh_snap_hit hit;
    int n = 0;
    configure("{ addr = \"192.0.2.1:5432\"; }, { addr = \"127.0.0.1:5433\"; }", "strict");
    ck_assert(look("192.0.2.1", 5432, &hit));
    uint32_t id = hit.endpoint.id;
    ck_assert_str_eq(hit.service.id, "spiffe://mesh.local/ns/default/sa/db");
    ck_assert_int_eq(hit.endpoint.mode, MESH_MODE_STRICT);
    ck_assert_uint_eq(hit.endpoint.cookie, 0);
    ck_assert(look("127.0.0.1", 5433, &hit));
    ck_assert_uint_eq(hit.endpoint.flags, MESH_EP_NETNS);
    meshd_registry_visit_endpoints(count_endpoints, &n);
    ck_assert_int_eq(n, 2);
    configure("{ addr = \"192.0.2.1:5432\"; }", "permissive");
    ck_assert(look("192.0.2.1", 5432, &hit));
    ck_assert_uint_eq(hit.endpoint.id, id);
    ck_assert_int_eq(hit.endpoint.mode, MESH_MODE_PERMISSIVE);
    ck_assert(!look("127.0.0.1", 5433, &hit));
    run_for(5500); /* no sweep takes what the kernel does not know */
    ck_assert(look("192.0.2.1", 5432, &hit));
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("registry");
    TCase *t = tcase_create("registry");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, listed_until_closed);
    tcase_add_test(t, again_keeps_its_id);
    tcase_add_test(t, inherited_stays);
    tcase_add_test(t, unlisten_withdraws_at_once);
    tcase_add_test(t, killed_process);
    tcase_add_test(t, reuseport_siblings);
    tcase_add_test(t, shutdown_listener_is_swept);
    tcase_add_test(t, wildcard);
    tcase_add_test(t, the_kernel_knows_the_address);
    tcase_add_test(t, a_listener_that_never_was);
    tcase_add_test(t, somebody_elses_socket);
    tcase_add_test(t, somebody_elses_port);
    tcase_add_test(t, bad_requests);
    tcase_add_test(t, another_namespace_needs_its_socket);
    tcase_add_test(t, restart);
    tcase_add_test(t, many);
    tcase_add_test(t, configured_endpoints);
    suite_add_tcase(s, t);
    return unit_run(s);
}
