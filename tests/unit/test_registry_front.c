/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_front: the addresses of services in the snapshot, and what becomes a member: configured
 * endpoints with their weights, registered listeners with 1, each address once.
 */

#include "tests/unit/registry_kit.h"

static char members[512]; /* "PORT*WEIGHT ..." in the snapshot's order */

static enum mesh_err
list(const struct mesh_snap_choice *c, void *arg)
{
    size_t n = 0;
    struct mesh_snap_group g;
    struct mesh_snap_tier t;
    struct mesh_snap_list all, *l = &all;
    (void)arg;
    members[0] = '\0';
    ck_assert_int_eq(mesh_snap_group(c, &c->hit->service, 0, 0, &g), MESH_OK);
    if (g.tiers.count == 0) {
        return MESH_OK;
    }
    ck_assert_int_eq(mesh_snap_tier(c, &g, 0, &t), MESH_OK);
    ck_assert_int_eq(mesh_snap_list(c, &c->hit->service, &t, true, l), MESH_OK);
    for (uint32_t i = 0; i < l->count; i++) {
        struct mesh_snap_endpoint ep;
        uint32_t weight;
        ck_assert_int_eq(mesh_snap_member(l, i, &ep, &weight), MESH_OK);
        n += (size_t)snprintf(members + n, sizeof(members) - n, "%s%s%u*%u", i ? " " : "",
                              ep.cookie ? "r" : "", ep.port, weight);
    }
    return MESH_OK;
}

/* What a connect() to the address is given to choose from; NULL: it is no service's. */
static const char *
members_of(const char *ip, uint16_t port)
{
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_addr a = {.port = port, .ip = {[10] = 0xff, [11] = 0xff}};
    struct mesh_snap_hit hit;
    bool found = false;
    inet_pton(AF_INET, ip, a.ip + 12);
    strcpy(members, "?");
    ck_assert_int_eq(mesh_snap_choose(&s, meshd_netlink_own(), &a, &hit, &found, list, NULL), MESH_OK);
    return found && hit.endpoint.flags & MESH_EP_SERVICE ? members : NULL;
}

START_TEST(configured)
{
    struct mesh_snap_hit hit;
    configure("services = ( { name = \"db\"; load_balancer = \"random\"; max_connect_attempts = 7;"
              " connect_timeout = \"2s\"; addresses = (\"10.9.9.9:5432\", \"127.0.0.1:5432\");"
              " endpoints = ( { addr = \"192.0.2.2:5\"; weight = 30; }, { addr = \"192.0.2.1:6\"; weight = 10; },"
              " { addr = \"192.0.2.3:7\"; weight = 0; } ); }, { name = \"other\";"
              " endpoints = ( { addr = \"192.0.2.9:8\"; } ); } );");
    ck_assert_str_eq(members_of("10.9.9.9", 5432), "6*1 5*3"); /* by address, without common factors */
    ck_assert_str_eq(members_of("127.0.0.1", 5432), "6*1 5*3");
    ck_assert_ptr_null(members_of("192.0.2.2", 5));
    ck_assert_ptr_null(members_of("10.9.9.8", 5432));
    ck_assert(look("10.9.9.9", 5432, &hit));
    ck_assert_uint_eq(hit.service.load_balancer, MESH_LB_RANDOM);
    ck_assert_uint_eq(hit.service.max_attempts, 7);
    ck_assert_uint_eq(hit.service.connect_timeout_ms, 2000);
    ck_assert_str_eq(hit.service.id, "spiffe://mesh.local/ns/default/sa/db");
    struct meshd_registry_info info;
    meshd_registry_info(&info);
    ck_assert_uint_eq(info.endpoints, 4); /* addresses are none */
    configure("services = ( { name = \"db\"; addresses = (\"10.9.9.9:5432\"); } );");
    ck_assert_str_eq(members_of("10.9.9.9", 5432), "");
    ck_assert_ptr_null(members_of("127.0.0.1", 5432));
    configure(" ");
    ck_assert_ptr_null(members_of("10.9.9.9", 5432));
}
END_TEST

static void
add(const struct meshd_peer *me, int fd, const char *ip, uint16_t port)
{
    struct mesh_wire_listen_req q = request(fd, ip, port);
    q.flags = strcmp(ip, "0.0.0.0") == 0 ? MESH_EP_ANY : 0;
    (void)enlist(me, &q);
}

START_TEST(registered)
{
    struct meshd_peer me = peer_of(getpid());
    uint16_t p = 0, any = 0;
    char want[64];
    int one = listener("127.0.0.1", &p);
    configure("services = ( { name = \"web\"; addresses = (\"10.9.9.9:80\"); } );");
    ck_assert_str_eq(members_of("10.9.9.9", 80), "");
    add(&me, one, "127.0.0.1", p);
    snprintf(want, sizeof(want), "r%u*1", p);
    ck_assert_str_eq(members_of("10.9.9.9", 80), want);
    int two = listener("127.0.0.1", &p); /* SO_REUSEPORT: another listener, the same address */
    add(&me, two, "127.0.0.1", p);
    ck_assert_str_eq(members_of("10.9.9.9", 80), want);
    int wild = listener("0.0.0.0", &any);
    add(&me, wild, "0.0.0.0", any);
    snprintf(want, sizeof(want), "r%u*1 r%u*1", any, p);
    ck_assert_str_eq(members_of("10.9.9.9", 80), want);
    /* Named, too: the configuration's weight is the one that counts. */
    configure("services = ( { name = \"web\"; addresses = (\"10.9.9.9:80\"); endpoints = ("
              " { addr = \"127.0.0.1:%u\"; weight = 5; }, { addr = \"127.0.0.1:%u\"; weight = 2; } ); } );",
              p, any);
    const char *got = members_of("10.9.9.9", 80);
    bool first = p < any;
    snprintf(want, sizeof(want), "%u*%d %u*%d", first ? p : any, first ? 5 : 2, first ? any : p, first ? 2 : 5);
    ck_assert_str_eq(got, want);
    configure("services = ( { name = \"web\"; addresses = (\"10.9.9.9:80\"); } );");
    close(one);
    close(two);
    close(wild);
    ck_assert(becomes(any, false, 10000));
    ck_assert_str_eq(members_of("10.9.9.9", 80), "");
}
END_TEST

/* A service's address that is an endpoint's, too: chosen for, and yet an endpoint to meshd itself. */
START_TEST(endpoint_and_address)
{
    struct mesh_addr a = {.port = 5, .ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
    configure("services = ( { name = \"db\"; addresses = (\"127.0.0.1:5\", \"127.0.0.1:7\"); endpoints = ("
              " { addr = \"127.0.0.1:5\"; }, { addr = \"127.0.0.1:6\"; } ); } );");
    ck_assert_str_eq(members_of("127.0.0.1", 5), "5*1 6*1");
    ck_assert(meshd_registry_is_local_endpoint(meshd_netlink_own(), &a, -1));
    a.port = 7;
    ck_assert(!meshd_registry_is_local_endpoint(meshd_netlink_own(), &a, -1));
}
END_TEST

int
main(void)
{
    TCase *t = tcase_create("front");
    tcase_add_test(t, configured);
    tcase_add_test(t, registered);
    tcase_add_test(t, endpoint_and_address);
    return run_case("registry front", t);
}
