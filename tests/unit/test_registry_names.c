/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_names: which names and virtual addresses services have, on what that depends when two want the
 * same, and with which ports the addresses are listed while endpoints come and go.
 */

#include "common/snap_names.h"
#include "tests/unit/registry_kit.h"

/* The IPv4 address of a name; "" when it is not the mesh's, "?" when nobody has it. */
static const char *
at(const char *name)
{
    static char text[4][INET_ADDRSTRLEN];
    static unsigned k;
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_named n;
    ck_assert_int_eq(mesh_snap_name_find(&s, name, &n), MESH_OK);
    if (n.answer != MESH_NAME_FOUND) {
        return n.answer == MESH_NAME_UNKNOWN ? "?" : "";
    }
    return inet_ntop(AF_INET, n.addr.v4, text[k++ % 4], INET_ADDRSTRLEN);
}

#define ORDERS "246.219.162.153"
#define CACHE  "252.46.172.153"
#define WEB    "246.156.98.35"

START_TEST(names)
{
    configure("services = ( { name = \"orders\"; }, { name = \"a.b\"; }, { name = \"Cache\"; },"
              " { name = \"localhost\"; }, { name = \"127\"; },"
              " { name = \"db\"; hosts = (\"db.internal\", \"DB2:5432\", \"db2:5433\"); } );");
    ck_assert_str_eq(at("orders"), ORDERS); /* without one endpoint */
    ck_assert_str_eq(at("orders.mesh"), ORDERS);
    ck_assert_str_eq(at("a.b"), "");
    ck_assert_str_ne(at("a.b.mesh"), "?");
    ck_assert_str_eq(at("cache"), at("CACHE.mesh"));
    ck_assert_str_eq(at("localhost"), "");
    ck_assert_str_eq(at("127"), "");
    ck_assert_str_eq(at("db.internal"), at("db"));
    ck_assert_str_eq(at("db2"), at("db.mesh"));
    ck_assert_str_eq(at("web.mesh"), "?");
    configure("virtual_domain = \"svc.example\"; services = ( { name = \"orders\"; } );");
    ck_assert_str_eq(at("orders.mesh"), "");
    ck_assert_str_eq(at("orders.svc.example"), ORDERS);
    ck_assert_str_eq(at("db.internal"), "");
    configure("virtual_domain = \"\"; services = ( { name = \"orders\"; },"
              " { name = \"cache\"; hosts = (\"cache.internal\"); } );");
    ck_assert_str_eq(at("orders"), "");
    ck_assert_str_eq(at("cache"), "");
    ck_assert_str_eq(at("cache.internal"), CACHE);
}
END_TEST

/* Two services whose hash falls on the same address [test_snap_names.c]. */
#define FIRST  "svc16376"
#define SECOND "svc8292"
#define SLOT   "242.8.140.48"
#define NEXT   "242.8.140.49"

START_TEST(collision)
{
    configure("services = ( { name = \"" FIRST "\"; }, { name = \"" SECOND "\"; } );");
    ck_assert_str_eq(at(FIRST), SLOT);
    ck_assert_str_eq(at(SECOND), NEXT);
    configure("services = ( { name = \"" SECOND "\"; }, { name = \"" FIRST "\"; } );");
    ck_assert_str_eq(at(FIRST), SLOT); /* whatever stands first */
    ck_assert_str_eq(at(SECOND), NEXT);
    configure("services = ( { name = \"" SECOND "\"; } );");
    ck_assert_str_eq(at(SECOND), SLOT);
}
END_TEST

static struct mesh_wire_listen_rep
add(const char *service, int fd, const char *ip, uint16_t port)
{
    struct meshd_peer me = peer_of(getpid());
    struct mesh_wire_listen_req q = request(fd, ip, port);
    struct mesh_wire_listen_rep rep;
    struct meshd_identity id;
    int diag = -1;
    q.flags = strcmp(ip, "0.0.0.0") == 0 ? MESH_EP_ANY : 0;
    snprintf(id.service, sizeof(id.service), "%s", service);
    ck_assert_int_eq(meshd_attest_id(service, id.id), MESH_OK);
    ck_assert_int_eq(meshd_registry_listen(&me, &id, &q, &diag, &rep), MESH_OK);
    return rep;
}

/* Nobody gets the address of a service that the configuration knows by taking a name, early or late. */
START_TEST(strangers)
{
    static const char *const conf[] = {
        "services = ( { name = \"" SECOND "\"; } );",
        "workloads = ( { service = \"" SECOND "\"; exe = \"/bin/x\"; } );",
    };
    for (int late = 0; late < 4; late++) {
        uint16_t p = 0, q = 0;
        int one, two = listener("127.0.0.1", &q);
        configure("%s", late & 1 ? " " : conf[late / 2]);
        one = listener("127.0.0.1", &p);
        add(FIRST, one, "127.0.0.1", p);
        ck_assert_str_eq(at(FIRST ".mesh"), late & 1 || late / 2 ? SLOT : NEXT);
        ck_assert_str_eq(at(FIRST), ""); /* the bare name is for the configuration's */
        configure("%s", conf[late / 2]);
        add(SECOND, two, "127.0.0.1", q);
        ck_assert_str_eq(at(SECOND ".mesh"), SLOT);
        ck_assert_str_eq(at(FIRST ".mesh"), NEXT);
        close(one);
        close(two);
        ck_assert(becomes(p, false, 10000) && becomes(q, false, 10000));
        ck_assert_str_eq(at(FIRST ".mesh"), "?");
    }
}
END_TEST

/* ---- ports ---- */

/* How the address is listed: "" not at all, "port" for endpoints with that port, "all" for all. */
static const char *
listed(const char *ip, uint16_t port)
{
    struct mesh_snap_hit hit;
    if (!look(ip, port, &hit) || !(hit.endpoint.flags & MESH_EP_SERVICE)) {
        return "";
    }
    return hit.endpoint.flags & MESH_EP_PORT ? "port" : "all";
}

START_TEST(ports)
{
    struct mesh_snap_hit hit;
    configure("services = ( { name = \"orders\"; hosts = (\"o.internal:99\", \"o.internal:5\");"
              " endpoints = ( { addr = \"192.0.2.2:5\"; }, { addr = \"192.0.2.3:5\"; },"
              " { addr = \"192.0.2.4:6\"; }, { addr = \"192.0.2.5:7\"; weight = 0; } ); } );");
    ck_assert_str_eq(listed(ORDERS, 5), "port"); /* there are such endpoints, listed or not */
    ck_assert_str_eq(listed(ORDERS, 6), "port");
    ck_assert_str_eq(listed(ORDERS, 7), "");
    ck_assert_str_eq(listed(ORDERS, 99), "all");
    ck_assert_str_eq(listed(ORDERS, 8), "");
    ck_assert(look(ORDERS, 99, &hit));
    ck_assert_str_eq(hit.service.name, "orders");
    ck_assert_uint_gt(hit.service.groups.count, 0);
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_addr a = {.port = 6};
    bool found = false;
    inet_pton(AF_INET6, "fdfc:de32:883e:9d1f:6b42:83ad:f6db:a299", a.ip);
    ck_assert_int_eq(mesh_snap_find(&s, 1, &a, &hit, &found), MESH_OK);
    ck_assert(found && hit.endpoint.flags & MESH_EP_PORT);
    configure("services = ( { name = \"orders\"; } );");
    ck_assert_str_eq(listed(ORDERS, 5), "");
    ck_assert_str_eq(listed(ORDERS, 99), "");
}
END_TEST

/* When its own endpoints are gone, and others stand in, the address must still be listed. */
START_TEST(ports_of_targets)
{
    configure("services = ( { name = \"orders\"; failover = ( { service = \"cache\"; } ); },"
              " { name = \"cache\"; endpoints = ( { addr = \"192.0.2.2:5\"; } ); } );");
    ck_assert_str_eq(listed(ORDERS, 5), "port");
    ck_assert_str_eq(listed(CACHE, 5), "port");
    ck_assert_str_eq(listed(ORDERS, 6), "");
}
END_TEST

START_TEST(endpoints_come_and_go)
{
    uint16_t p = 0, q = 0;
    int one = listener("127.0.0.1", &p), two = listener("127.0.0.1", &p), three = listener("0.0.0.0", &q);
    configure("services = ( { name = \"web\"; } );");
    add("web", one, "127.0.0.1", p);
    ck_assert_str_eq(listed(WEB, p), "port");
    add("web", two, "127.0.0.1", p); /* SO_REUSEPORT */
    add("web", three, "0.0.0.0", q);
    ck_assert_str_eq(listed(WEB, p), "port");
    ck_assert_str_eq(listed(WEB, q), "port");
    configure(" ");
    ck_assert_str_eq(listed(WEB, p), "port");
    ck_assert_str_eq(at("web.mesh"), WEB);
    close(one);
    close(two);
    ck_assert(becomes(p, false, 10000));
    ck_assert_str_eq(listed(WEB, p), "");
    ck_assert_str_eq(listed(WEB, q), "port");
    configure("virtual_domain = \"\";");
    ck_assert_str_eq(listed(WEB, q), "");
    close(three);
    ck_assert(becomes(q, false, 10000));
}
END_TEST

int
main(void)
{
    TCase *t = tcase_create("names");
    tcase_add_test(t, names);
    tcase_add_test(t, collision);
    tcase_add_test(t, strangers);
    tcase_add_test(t, ports);
    tcase_add_test(t, ports_of_targets);
    tcase_add_test(t, endpoints_come_and_go);
    return run_case("registry names", t);
}
