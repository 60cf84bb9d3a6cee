/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_registry, with real sockets and the real kernel: what is listed, when it goes, what a
 * restart keeps. test_registry_claims.c has the lies.
 */
#include <signal.h>
#include <sys/wait.h>

#include "tests/unit/registry_kit.h"

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
    UNIT_BECOMES((meshd_registry_info(&info), info.endpoints) == 1);
    ck_assert(look("127.0.0.1", port, &hit));
    ck_assert_uint_eq(hit.endpoint.id, ib);
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

/* Connections, ejections and orders are known by ids: what is gone must not lend its own to another one. */
START_TEST(ids_are_not_used_again)
{
    uint16_t keep = 0, port = 0;
    uint32_t last = 0;
    int a = listener("127.0.0.1", &keep);
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_listen_req qa = request(a, "127.0.0.1", keep);
    enlist(&me, &qa);
    for (int i = 0; i < 5; i++) {
        uint16_t lose = 0;
        int b = listener("127.0.0.1", &lose);
        struct mesh_wire_listen_req qb = request(b, "127.0.0.1", lose);
        last = enlist(&me, &qb).endpoint_id;
        close(b);
        ck_assert(becomes(lose, false, 2000));
    }
    stop();
    start();
    int c = listener("127.0.0.1", &port);
    struct mesh_wire_listen_req qc = request(c, "127.0.0.1", port);
    ck_assert_uint_gt(enlist(&me, &qc).endpoint_id, last);
    close(a);
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
    UNIT_BECOMES((meshd_registry_info(&info), info.endpoints) == 0);
    ck_assert_uint_eq(info.services, 0);
}
END_TEST

static void
configure_db(const char *endpoints, const char *mode)
{
    configure("services = ( { name = \"db\"; mode = \"%s\"; endpoints = ( %s ); } );\n", mode, endpoints);
}

START_TEST(configured_endpoints)
{
    struct mesh_snap_hit hit;
    int n = 0;
    configure_db("{ addr = \"192.0.2.1:5432\"; }, { addr = \"127.0.0.1:5433\"; }", "strict");
    ck_assert(look("192.0.2.1", 5432, &hit));
    uint32_t id = hit.endpoint.id;
    ck_assert_str_eq(hit.service.id, "spiffe://mesh.local/ns/default/sa/db");
    ck_assert_int_eq(hit.endpoint.mode, MESH_MODE_STRICT);
    ck_assert_uint_eq(hit.endpoint.cookie, 0);
    ck_assert(look("127.0.0.1", 5433, &hit));
    ck_assert_uint_eq(hit.endpoint.flags, MESH_EP_NETNS);
    meshd_registry_visit_endpoints(count_endpoints, &n);
    ck_assert_int_eq(n, 2);
    configure_db("{ addr = \"192.0.2.1:5432\"; }", "permissive");
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
    TCase *t = tcase_create("registry");
    tcase_add_test(t, listed_until_closed);
    tcase_add_test(t, again_keeps_its_id);
    tcase_add_test(t, inherited_stays);
    tcase_add_test(t, unlisten_withdraws_at_once);
    tcase_add_test(t, killed_process);
    tcase_add_test(t, reuseport_siblings);
    tcase_add_test(t, shutdown_listener_is_swept);
    tcase_add_test(t, wildcard);
    tcase_add_test(t, restart);
    tcase_add_test(t, ids_are_not_used_again);
    tcase_add_test(t, many);
    tcase_add_test(t, configured_endpoints);
    return run_case("registry", t);
}
