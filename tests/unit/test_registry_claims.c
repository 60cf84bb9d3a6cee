/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_registry and those who lie to it: other addresses, sockets, ports, namespaces than their own.
 */
#include <fcntl.h>

#include "tests/unit/registry_kit.h"

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
    uint16_t another = 0;
    int shown = listener("127.0.0.1", &another); /* another socket proves nothing */
    ck_assert_int_eq(meshd_registry_listen(&thief, &evil, &q, &shown, &rep), MESH_E_PROTOCOL);
    close(shown);
    ck_assert(look("127.0.0.1", q.port, &hit));
    ck_assert_str_eq(hit.service.name, "web");
    shown = dup(fd); /* who has the socket itself inherited it */
    ck_assert_int_eq(meshd_registry_listen(&thief, &evil, &q, &shown, &rep), MESH_OK);
    ck_assert(look("127.0.0.1", q.port, &hit));
    ck_assert_str_eq(hit.service.name, "evil");
    close(shown);
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

int
main(void)
{
    TCase *t = tcase_create("registry claims");
    tcase_add_test(t, the_kernel_knows_the_address);
    tcase_add_test(t, a_listener_that_never_was);
    tcase_add_test(t, somebody_elses_socket);
    tcase_add_test(t, somebody_elses_port);
    tcase_add_test(t, bad_requests);
    tcase_add_test(t, another_namespace_needs_its_socket);
    return run_case("registry claims", t);
}
