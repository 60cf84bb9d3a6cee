/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_source: a source's set of a service is replaced at once and touches nobody else's; whose word
 * counts; what is too much is refused whole; what a meshd that comes back still knows.
 */
#include "meshd/registry/source.h"

#include "tests/unit/registry_kit.h"

static struct meshd_source dns = {.rank = MESHD_RANK_DNS};
static struct meshd_endpoint_rule list[8];
static size_t listed;
static char shown[1024];

static void
add(const char *ip, uint16_t port, uint32_t weight, uint8_t priority)
{
    struct meshd_endpoint_rule *r = &list[listed++];
    *r = (struct meshd_endpoint_rule){.addr = {.port = port, .ip = {[10] = 0xff, [11] = 0xff}},
                                      .weight = weight, .priority = priority, .at = {.file = "dns:x"}};
    ck_assert_int_eq(inet_pton(AF_INET, ip, r->addr.ip + 12), 1);
}

/* What was added becomes the set of the service. */
static void
commit(const char *service, bool all)
{
    ck_assert_int_eq(meshd_source_stage(&dns, service, list, listed), MESH_OK);
    ck_assert_int_eq(meshd_source_commit(&dns, all), MESH_OK);
    ck_assert_int_eq(meshd_registry_publish(), MESH_OK);
    listed = 0;
}

static int
on_endpoint(const struct meshd_endpoint *e, void *arg)
{
    size_t n = strlen(shown);
    (void)arg;
    const char *from = strrchr(e->from, '/') ? strrchr(e->from, '/') + 1 : e->from;
    snprintf(shown + n, sizeof(shown) - n, "%s%s %u*%u/%u %s:%u", n ? ", " : "", e->service, e->addr.port,
             e->weight, e->priority, from, e->line);
    return 0;
}

/* "SERVICE PORT*WEIGHT/PRIORITY FROM:LINE, ..." */
static const char *
all(void)
{
    shown[0] = '\0';
    meshd_registry_visit_endpoints(on_endpoint, NULL);
    return shown;
}

/* The service to which a connection to the address belongs, "" if to none. */
static const char *
owner(const char *ip, uint16_t port)
{
    static struct mesh_snap_hit hit;
    return look(ip, port, &hit) ? hit.service.name : "";
}

static uint32_t
id_of(const char *ip, uint16_t port)
{
    struct mesh_snap_hit hit;
    ck_assert(look(ip, port, &hit));
    return hit.endpoint.id;
}

START_TEST(replaces)
{
    struct mesh_snap_hit hit;
    add("192.0.2.2", 2, 20, 1);
    add("192.0.2.1", 1, 10, 0);
    add("192.0.2.2", 2, 99, 9); /* the same address again: the first counts */
    commit("a", false);
    ck_assert_str_eq(all(), "a 1*10/0 dns:x:0, a 2*20/1 dns:x:0");
    ck_assert(look("192.0.2.2", 2, &hit));
    ck_assert_str_eq(hit.service.id, "spiffe://mesh.local/ns/default/sa/a");
    add("192.0.2.9", 9, 1, 0);
    commit("b", false);
    uint32_t id = hit.endpoint.id;
    add("192.0.2.3", 3, 30, 0);
    add("192.0.2.2", 2, 21, 2);
    commit("a", false);
    ck_assert_str_eq(all(), "b 9*1/0 dns:x:0, a 2*21/2 dns:x:0, a 3*30/0 dns:x:0");
    ck_assert_uint_eq(id_of("192.0.2.2", 2), id); /* the same endpoint still */
    ck_assert_str_eq(owner("192.0.2.1", 1), "");
    commit("a", false); /* an empty set */
    ck_assert_str_eq(all(), "b 9*1/0 dns:x:0");
    ck_assert_str_eq(owner("192.0.2.2", 2), "");
    add("192.0.2.4", 4, 1, 0);
    commit("c", true); /* all: of others there is nothing any more */
    ck_assert_str_eq(all(), "c 4*1/0 dns:x:0");
}
END_TEST

START_TEST(nothing_before_commit)
{
    add("192.0.2.1", 1, 1, 0);
    ck_assert_int_eq(meshd_source_stage(&dns, "a", list, 1), MESH_OK);
    ck_assert_int_eq(meshd_registry_publish(), MESH_OK);
    ck_assert_str_eq(all(), "");
    ck_assert_str_eq(owner("192.0.2.1", 1), "");
    meshd_source_abort(&dns);
    listed = 0;
    commit("b", false);
    ck_assert_str_eq(all(), "");
    struct meshd_registry_info info;
    meshd_registry_info(&info);
    ck_assert_uint_eq(info.services, 0);
    ck_assert_uint_eq(info.endpoints, 0);
}
END_TEST

START_TEST(sources_are_apart)
{
    configure("services = ( { name = \"a\"; endpoints = (\n{ addr = \"192.0.2.1:1\"; weight = 5; },"
              "\n{ addr = \"192.0.2.2:2\"; priority = 3; } ); } );");
    add("192.0.2.1", 1, 7, 1);
    add("192.0.2.3", 3, 1, 0);
    commit("a", false);
    ck_assert_str_eq(all(), "a 1*7/1 dns:x:0, a 3*1/0 dns:x:0, a 1*5/0 meshd.conf:2, a 2*1/3 meshd.conf:3");
    configure("services = ( { name = \"a\"; endpoints = (\n\n{ addr = \"192.0.2.2:2\"; } ); } );");
    ck_assert_str_eq(all(), "a 1*7/1 dns:x:0, a 3*1/0 dns:x:0, a 2*1/0 meshd.conf:3");
    commit("a", true);
    ck_assert_str_eq(all(), "a 2*1/0 meshd.conf:3");
}
END_TEST

/* Of a connect() to an address that several services name: the configuration's word, then the listener's. */
START_TEST(whose_word)
{
    struct meshd_peer me = peer_of(getpid());
    uint16_t port = 0;
    int fd = listener("127.0.0.1", &port);
    struct mesh_wire_listen_req q = request(fd, "127.0.0.1", port);
    (void)enlist(&me, &q);
    add("127.0.0.1", port, 1, 0);
    add("192.0.2.1", 1, 1, 0);
    commit("liar", false);
    ck_assert_str_eq(owner("127.0.0.1", port), "web");
    ck_assert_str_eq(owner("192.0.2.1", 1), "liar");
    configure("services = ( { name = \"a\"; endpoints = ( { addr = \"192.0.2.1:1\"; } ); } );");
    ck_assert_str_eq(owner("192.0.2.1", 1), "a");
    configure(" ");
    ck_assert_str_eq(owner("192.0.2.1", 1), "liar");
    commit("liar", false);
    close(fd);
    ck_assert(becomes(port, false, 10000));
}
END_TEST

static enum mesh_err
weights(const struct mesh_snap_choice *c, void *arg)
{
    struct mesh_snap_group g;
    size_t n = 0;
    (void)arg;
    ck_assert_int_eq(mesh_snap_group(c, &c->hit->service, 0, 0, &g), MESH_OK);
    for (uint32_t k = 0; k < g.tiers.count; k++) {
        struct mesh_snap_tier t;
        struct mesh_snap_list l;
        ck_assert_int_eq(mesh_snap_tier(c, &g, k, &t), MESH_OK);
        ck_assert_int_eq(mesh_snap_list(c, &c->hit->service, &t, true, &l), MESH_OK);
        for (uint32_t i = 0; i < l.count; i++) {
            struct mesh_snap_endpoint ep;
            uint32_t weight;
            ck_assert_int_eq(mesh_snap_member(&l, i, &ep, &weight), MESH_OK);
            n += (size_t)snprintf(shown + n, sizeof(shown) - n, "%s%u*%u/%u", n ? " " : "", ep.port, weight,
                                  t.priority);
        }
    }
    return MESH_OK;
}

/* The members of the service at 10.9.9.9:1. */
static const char *
members(void)
{
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_addr a = {.port = 1, .ip = {[10] = 0xff, [11] = 0xff, [12] = 10, [13] = 9, [14] = 9, [15] = 9}};
    struct mesh_snap_hit hit;
    bool found = false;
    shown[0] = '\0';
    ck_assert_int_eq(mesh_snap_choose(&s, meshd_netlink_own(), &a, &hit, &found, weights, NULL), MESH_OK);
    ck_assert(found);
    return shown;
}

START_TEST(whose_weight)
{
    configure("services = ( { name = \"web\"; addresses = (\"10.9.9.9:1\"); endpoints = ("
              "{ addr = \"192.0.2.1:1\"; weight = 5; priority = 1; } ); } );");
    add("192.0.2.1", 1, 7, 1);
    add("192.0.2.3", 3, 3, 1);
    add("192.0.2.4", 4, 9, 5);
    commit("web", false);
    ck_assert_str_eq(members(), "1*5/1 3*3/1 4*1/5");
    configure("services = ( { name = \"web\"; addresses = (\"10.9.9.9:1\"); } );");
    ck_assert_str_eq(members(), "1*7/1 3*3/1 4*1/5");
}
END_TEST

START_TEST(no_room)
{
    size_t most = MESH_SNAP_AREA / sizeof(struct mesh_snap_endpoint);
    struct meshd_endpoint_rule *many = calloc(most, sizeof(*many));
    ck_assert_ptr_nonnull(many);
    for (size_t i = 0; i < most; i++) {
        many[i].addr = (struct mesh_addr){.port = 1, .ip = {[0] = 0xfd, [13] = (uint8_t)(i >> 16),
                                                            [14] = (uint8_t)(i >> 8), [15] = (uint8_t)i}};
        many[i].weight = 1;
    }
    add("192.0.2.1", 1, 1, 0);
    commit("a", false);
    ck_assert_int_eq(meshd_source_stage(&dns, "a", many, most), MESH_OK);
    ck_assert_int_eq(meshd_source_commit(&dns, false), MESH_E_NO_MEMORY);
    ck_assert_int_eq(meshd_registry_publish(), MESH_OK);
    ck_assert_str_eq(all(), "a 1*1/0 dns:x:0"); /* the old set stays */
    free(many);
    add("192.0.2.2", 2, 1, 0);
    commit("a", false); /* and nothing is left of the attempt */
    ck_assert_str_eq(all(), "a 2*1/0 dns:x:0");
}
END_TEST

static int
on_recalled(const struct meshd_endpoint_rule *r, void *arg)
{
    size_t n = strlen(shown);
    (void)arg;
    snprintf(shown + n, sizeof(shown) - n, "%u*%u/%u ", r->addr.port, r->weight, r->priority);
    return 0;
}

START_TEST(comes_back)
{
    configure("services = ( { name = \"a\"; endpoints = ( { addr = \"192.0.2.7:7\"; } ); } );");
    add("192.0.2.1", 1, 10, 0);
    add("192.0.2.2", 2, 20, 1);
    commit("a", false);
    add("192.0.2.3", 3, 1, 0);
    commit("b", false);
    uint32_t id = id_of("192.0.2.2", 2), configured = id_of("192.0.2.7", 7);
    stop();
    start();
    ck_assert_str_eq(all(), "a 1*10/0 :0, a 2*20/1 :0, b 3*1/0 :0, a 7*1/0 meshd.conf:1");
    ck_assert_uint_eq(id_of("192.0.2.7", 7), configured);
    stop();
    ck_assert_int_eq(meshd_config_load(NULL, dir), MESH_OK); /* 192.0.2.7 is not in it any more */
    meshd_log_set(MESHD_LOG_ERROR);
    start();
    ck_assert_str_eq(owner("192.0.2.7", 7), "");
    ck_assert_str_eq(owner("192.0.2.1", 1), "a");
    ck_assert_uint_eq(id_of("192.0.2.2", 2), id);
    shown[0] = '\0';
    meshd_source_recall(&dns, "a", on_recalled, NULL);
    ck_assert_str_eq(shown, "1*10/0 2*20/1 ");
    add("192.0.2.2", 2, 20, 1);
    commit("a", true); /* whose source says nothing of b */
    ck_assert_str_eq(all(), "a 2*20/1 dns:x:0");
    ck_assert_uint_eq(id_of("192.0.2.2", 2), id);
}
END_TEST

int
main(void)
{
    TCase *t = tcase_create("source");
    tcase_add_test(t, replaces);
    tcase_add_test(t, nothing_before_commit);
    tcase_add_test(t, sources_are_apart);
    tcase_add_test(t, whose_word);
    tcase_add_test(t, whose_weight);
    tcase_add_test(t, no_room);
    tcase_add_test(t, comes_back);
    return run_case("source", t);
}
