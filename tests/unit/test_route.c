/* SPDX-License-Identifier: Apache-2.0
 *
 * The whole way of a policy: from meshd.conf through the registry and its snapshot to the choices that a
 * client's connect() would make.
 */
#include "shim/route/pick.h"


#include "meshd/registry/source.h"
#include "meshd/stats/stats.h"
#include "shim/core/env.h"
#include "shim/link/link.h"
#include "shim/real.h"
#include "shim/route/egress.h"
#include "tests/unit/registry_kit.h"

#define DRAWS 20000u

struct shim_env shim_env = {.on = true};

struct mesh_snap
shim_link_snapshot(void)
{
    return meshd_snapfile_view();
}

uint64_t
shim_link_netns(int fd)
{
    (void)fd;
    return meshd_netlink_own();
}

const char *
shim_link_id(void)
{
    return "spiffe://mesh.local/ns/default/sa/web";
}

static struct mesh_addr
address(const char *ip, uint16_t port)
{
    struct mesh_addr a = {.port = port, .ip = {[10] = 0xff, [11] = 0xff}};
    inet_pton(AF_INET, ip, a.ip + 12);
    return a;
}

static const struct mesh_snap_client *client; /* NULL: what this process is */

/* Where the next connect() goes, by its port; 0: nowhere. */
static uint16_t
again(struct shim_pick *p, const char *ip, uint16_t port, char *service)
{
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_addr a = address(ip, port);
    struct mesh_snap_hit hit;
    struct shim_candidate c;
    enum mesh_err e = shim_pick(p, &s, &a, &hit, &c);
    ck_assert(e == MESH_OK || e == MESH_E_NO_ENDPOINT);
    if (service) {
        snprintf(service, MESH_SERVICE_MAX, "%s", e == MESH_OK ? c.service->name : "");
    }
    return e == MESH_OK ? c.to.port : 0;
}

static struct shim_pick
fresh(void)
{
    struct shim_pick p = {.netns = meshd_netlink_own(), .family = AF_INET};
    if (client) {
        p.client = *client;
    }
    return p;
}

static uint16_t
goes(const char *ip, uint16_t port)
{
    struct shim_pick p = fresh();
    return again(&p, ip, port, NULL);
}

/* What share of many connections goes to `want`, in permille. */
static uint32_t
share(const char *ip, uint16_t port, uint16_t want)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < DRAWS; i++) {
        n += goes(ip, port) == want;
    }
    return (n * 1000 + DRAWS / 2) / DRAWS;
}

/* All attempts of one connect(), as a list of ports. */
static const char *
attempts(const char *ip, uint16_t port)
{
    static char text[128];
    struct shim_pick p = fresh();
    size_t n = 0;
    text[0] = '\0';
    for (uint16_t to; (to = again(&p, ip, port, NULL)) != 0;) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%u", n ? " " : "", to);
    }
    return text;
}

#define ORDERS                                                                                      \
    "addresses = (\"10.9.9.9:80\", \"10.9.9.8:81\"); load_balancer = \"round_robin\"; endpoints = ("                  \
    " { addr = \"192.0.2.1:1\"; labels = (\"version=v1\", \"track=stable\"); },"                     \
    " { addr = \"192.0.2.2:2\"; labels = (\"version=v2\", \"track=stable\"); },"                     \
    " { addr = \"192.0.2.3:3\"; labels = (\"version=v2\", \"track=canary\"); } );"                   \
    " subsets = ( { name = \"v1\"; labels = (\"version=v1\"); }, { name = \"v2\"; labels = (\"version=v2\"); },"  \
    " { name = \"canary\"; labels = (\"version=v2\", \"track=canary\"); }, { name = \"none\"; labels = (\"version=v3\"); } );"

START_TEST(split_by_weight)
{
    configure("services = ( { name = \"orders\"; " ORDERS
              " split = ( { subset = \"v1\"; weight = 90; }, { subset = \"canary\"; weight = 10; } ); } );");
    uint32_t n = share("10.9.9.9", 80, 3);
    printf("90/10: %u permille to the canary\n", n);
    ck_assert(n >= 85 && n <= 115); /* 7 standard deviations */
    configure("services = ( { name = \"orders\"; " ORDERS
              " split = ( { subset = \"v1\"; weight = 0; }, { subset = \"canary\"; weight = 100; } ); } );");
    ck_assert_uint_eq(share("10.9.9.9", 80, 3), 1000);
}
END_TEST

/* Attempts of one connect() stay where the split sent the first. */
START_TEST(attempts_stay_in_their_part)
{
    configure("services = ( { name = \"orders\"; " ORDERS
              " split = ( { subset = \"v1\"; }, { subset = \"v2\"; } ); } );");
    for (int i = 0; i < 100; i++) {
        const char *at = attempts("10.9.9.9", 80);
        ck_assert(strcmp(at, "1") == 0 || strcmp(at, "2 3") == 0 || strcmp(at, "3 2") == 0);
    }
}
END_TEST

START_TEST(subset_fallbacks)
{
    configure("services = ( { name = \"orders\"; " ORDERS " split = ( { subset = \"none\"; } ); } );");
    ck_assert_uint_eq(goes("10.9.9.9", 80), 0);
    configure("services = ( { name = \"orders\"; " ORDERS
              " subset_fallback = \"any_endpoint\"; split = ( { subset = \"none\"; } ); } );");
    ck_assert_uint_eq(share("10.9.9.9", 80, 1), 333);
    configure("services = ( { name = \"orders\"; " ORDERS " subset_fallback = \"default_subset\"; default_subset = \"v1\";"
              " split = ( { subset = \"none\"; } ); } );");
    ck_assert_uint_eq(share("10.9.9.9", 80, 1), 1000);
}
END_TEST

#define ROUTE(cond, subset) " { " cond " split = ( { subset = \"" subset "\"; } ); } "

START_TEST(router)
{
    static const struct mesh_snap_client batch = {"batch", "batch@7.service", 1234}, other = {"other", "", 77};
    configure("services = ( { name = \"orders\"; " ORDERS
              " routes = (" ROUTE("source = \"batch\"; uid = 1;", "none") ","
              ROUTE("unit = \"batch@*.service\"; source = \"batch\";", "canary") ","
              ROUTE("uid = 77;", "v1") "," ROUTE("port = 81;", "v1") ","
              ROUTE("address = \"10.9.9.0/28\"; user = \"nobody-of-that-name\";", "canary") ","
              ROUTE("address = \"10.9.9.8/30\"; source = \"web\";", "canary") "); } );");
    client = &batch;
    ck_assert_uint_eq(share("10.9.9.9", 80, 3), 1000);
    client = &other;
    ck_assert_uint_eq(share("10.9.9.9", 80, 1), 1000);
    client = NULL; /* web, by its identity */
    ck_assert_uint_eq(share("10.9.9.8", 81, 1), 1000);
    ck_assert_uint_eq(share("10.9.9.9", 80, 3), 1000);
    static const struct mesh_snap_client nobody = {"", "", 5};
    client = &nobody;
    ck_assert_uint_eq(share("10.9.9.9", 80, 1), 333); /* no rule: all of it */
    client = NULL;
}
END_TEST

/* What the log calls the rule that decided. */
static const char *
rule_at(const char *ip, uint16_t port)
{
    struct shim_pick p = fresh();
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_addr a = address(ip, port);
    struct mesh_snap_hit hit;
    struct shim_candidate c;
    ck_assert_int_eq(shim_pick(&p, &s, &a, &hit, &c), MESH_OK);
    return c.route ? meshd_stats_word(c.route) : "none";
}

START_TEST(rules_have_names)
{
    static const struct mesh_snap_client batch = {"batch", "", 1}, other = {"other", "", 77};
    configure("services = ( { name = \"orders\"; " ORDERS
              " routes = (" ROUTE("user = \"nobody-of-that-name\";", "v1") "," ROUTE("name = \"canary\"; source = \"batch\";", "canary") ","
              ROUTE("uid = 77;", "v1") "); split = ( { subset = \"v2\"; } ); },"
              " { name = \"old\"; addresses = (\"10.9.9.7:80\"); redirect = \"orders\"; },"
              " { name = \"plain\"; addresses = (\"10.9.9.6:80\"); endpoints = ( { addr = \"192.0.2.9:9\"; } ); } );");
    client = &batch;
    ck_assert_str_eq(rule_at("10.9.9.9", 80), "canary");
    client = &other;
    ck_assert_str_eq(rule_at("10.9.9.9", 80), "orders/3");
    client = NULL;
    ck_assert_str_eq(rule_at("10.9.9.9", 80), "orders/split");
    ck_assert_str_eq(rule_at("10.9.9.7", 80), "old/redirect");
    ck_assert_str_eq(rule_at("10.9.9.6", 80), "none");
}
END_TEST

/* Of a user's own units none passes for the host's, whatever its name. */
START_TEST(router_by_unit)
{
    static const struct {
        const char *unit;
        unsigned first; /* of a thousand connections, those that v1 gets */
    } units[] = {
        {"a-canary.service", 1000}, {"-canary.service", 1000},   {"user@1/a-canary.service", 0}, {"a-canary.scope", 0},
        {"user@1/web.service", 1000}, {"user@100/web.service", 1000}, {"user@1/x/web.service", 0}, {"user@1xweb.service", 0},
        {"ab.service", 1000},       {"a/.service", 0},           {"", 0},
    };
    configure("services = ( { name = \"orders\"; " ORDERS " routes = ("
              ROUTE("unit = \"*-canary.service\";", "v1") "," ROUTE("unit = \"user@*/web.service\";", "v1") ","
              ROUTE("unit = \"a?.service\";", "v1") "); split = ( { subset = \"canary\"; } ); } );");
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        struct mesh_snap_client who = {"x", units[i].unit, 1};
        client = &who;
        ck_assert_msg(share("10.9.9.9", 80, 1) == units[i].first, "%s", units[i].unit);
    }
    client = NULL;
}
END_TEST

START_TEST(redirect_and_identity)
{
    char name[MESH_SERVICE_MAX];
    struct shim_pick p = fresh();
    configure("services = ( { name = \"old\"; addresses = (\"10.9.9.9:80\"); redirect = \"mid\"; },"
              " { name = \"mid\"; redirect = \"new\"; }, { name = \"new\"; endpoints = ( { addr = \"192.0.2.1:1\"; } ); } );");
    ck_assert_uint_eq(again(&p, "10.9.9.9", 80, name), 1);
    ck_assert_str_eq(name, "new");
}
END_TEST

START_TEST(failover_in_order)
{
    configure("services = ( { name = \"orders\"; " ORDERS " split = ( { subset = \"v1\"; } );"
              " failover = ( { subset = \"canary\"; }, { service = \"far\"; } ); },"
              " { name = \"far\"; endpoints = ( { addr = \"192.0.2.9:9\"; } ); } );");
    ck_assert_str_eq(attempts("10.9.9.9", 80), "1 3 9");
    configure("services = ( { name = \"orders\"; addresses = (\"10.9.9.9:80\"); failover = ( { service = \"far\"; } ); },"
              " { name = \"far\"; endpoints = ( { addr = \"192.0.2.9:9\"; } ); } );");
    ck_assert_str_eq(attempts("10.9.9.9", 80), "9");
}
END_TEST

#define PLACES                                                                                      \
    "services = ( { name = \"db\"; load_balancer = \"round_robin\"; addresses = (\"10.9.9.9:80\"); endpoints = (" \
    " { addr = \"192.0.2.5:5\"; zone = \"b\"; region = \"eu\"; }, { addr = \"192.0.2.4:4\"; },"       \
    " { addr = \"192.0.2.3:3\"; zone = \"a\"; region = \"us\"; },"                                   \
    " { addr = \"192.0.2.1:1\"; zone = \"a\"; region = \"eu\"; },"                                   \
    " { addr = \"192.0.2.9:9\"; zone = \"a\"; region = \"eu\"; priority = 1; } ); } );"

START_TEST(near_ones_first)
{
    configure("zone = \"a\"; region = \"eu\"; " PLACES);
    ck_assert_uint_eq(share("10.9.9.9", 80, 1), 1000);
    const char *at = attempts("10.9.9.9", 80); /* zone, region, the others in turn, then the lower priority */
    ck_assert_msg(strcmp(at, "1 5 3 4 9") == 0 || strcmp(at, "1 5 4 3 9") == 0, "%s", at);
    configure(PLACES); /* this host is nowhere: only priority counts */
    ck_assert_uint_eq(share("10.9.9.9", 80, 5), 250);
    ck_assert_uint_eq(share("10.9.9.9", 80, 9), 0);
}
END_TEST

#define WEBS                                                                                        \
    "services = ( { name = \"web\"; load_balancer = \"random\"; addresses = (\"10.9.9.9:80\"); subset_fallback = \"%s\";"   \
    " subsets = ( { name = \"v2\"; labels = (\"version=v2\"); } ); split = ( { subset = \"%s\"; } ); } );"
#define NONE "no_fallback"
#define ANY  "any_endpoint"

/* What the rules say of who registers holds for his listeners, as it is now and in meshd's next life. */
START_TEST(registered_ones_have_labels)
{
    struct meshd_peer one = peer_of(getpid()), two = peer_of(getpid());
    uint16_t p1 = 0, p2 = 0;
    int fd1 = listener("127.0.0.1", &p1), fd2 = listener("127.0.0.1", &p2);
    struct mesh_wire_listen_req q1 = request(fd1, "127.0.0.1", p1), q2 = request(fd2, "127.0.0.1", p2);
    char self[300] = "";
    snprintf(two.exe, sizeof(two.exe), "/opt/v2/web");
    configure(WEBS "workloads = ( { exe = \"/opt/v2/*\"; labels = (\"track=canary\", \"version=v2\"); weight = 3; zone = \"b\"; } );",
              NONE, "v2");
    (void)enlist(&one, &q1);
    (void)enlist(&two, &q2);
    ck_assert_uint_eq(share("10.9.9.9", 80, p2), 1000);
    configure(WEBS "workloads = ( { exe = \"/opt/v2/*\"; weight = 3; } );", ANY, "v2");
    uint32_t n = share("10.9.9.9", 80, p2);
    printf("weight 3 of 4: %u permille\n", n);
    ck_assert(n >= 725 && n <= 775);
    configure(WEBS "workloads = ( { exe = \"/bin/*\"; labels = (\"version=v2\"); } );", NONE, "v2");
    ck_assert_uint_eq(share("10.9.9.9", 80, p1), 1000);
    configure("zone = \"a\";" WEBS "workloads = ( { exe = \"/opt/v2/*\"; zone = \"b\"; } );", ANY, "v2");
    ck_assert_uint_eq(share("10.9.9.9", 80, p1), 1000); /* the other one is far */
    configure(WEBS "workloads = ( { exe = \"/opt/v2/*\"; weight = 0; } );", ANY, "v2");
    ck_assert_uint_eq(share("10.9.9.9", 80, p1), 1000);
    ck_assert(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
    configure(WEBS "workloads = ( { exe = \"%s\"; labels = (\"version=v2\"); } );", NONE, "v2", self);
    ck_assert_uint_eq(goes("10.9.9.9", 80), 0);
    stop();
    start(); /* who registered is looked at anew, and it is this program, really */
    ck_assert_uint_ne(goes("10.9.9.9", 80), 0);
    close(fd1);
    close(fd2);
}
END_TEST

START_TEST(those_of_dns_have_labels)
{
    static const struct meshd_endpoint_rule found = {.weight = 1, .addr = {.ip = {[10] = 0xff, [11] = 0xff, 192, 0, 2, 1},
                                                                           .port = 1}};
    struct meshd_source dns = {.rank = MESHD_RANK_DNS};
    ck_assert_int_eq(meshd_source_stage(&dns, "web", &found, 1), MESH_OK);
    ck_assert_int_eq(meshd_source_commit(&dns, true), MESH_OK);
    configure("zone = \"a\"; services = ( { name = \"web\"; addresses = (\"10.9.9.9:80\"); endpoints = ( { addr = \"192.0.2.2:2\"; } );"
              " subsets = ( { name = \"v2\"; labels = (\"version=v2\"); } ); split = ( { subset = \"v2\"; } );"
              " dns = { name = \"w.example\"; port = 1; labels = (\"version=v2\"); }; } );");
    ck_assert_uint_eq(share("10.9.9.9", 80, 1), 1000);
    configure("zone = \"a\"; services = ( { name = \"web\"; addresses = (\"10.9.9.9:80\"); endpoints = ( { addr = \"192.0.2.2:2\"; } );"
              " dns = { name = \"w.example\"; port = 1; zone = \"a\"; }; } );");
    ck_assert_uint_eq(share("10.9.9.9", 80, 1), 1000);
    configure("zone = \"a\"; services = ( { name = \"web\"; addresses = (\"10.9.9.9:80\");"
              " endpoints = ( { addr = \"192.0.2.2:2\"; zone = \"a\"; } );"
              " dns = { name = \"w.example\"; port = 1; }; } );");
    ck_assert_uint_eq(share("10.9.9.9", 80, 1), 0);
}
END_TEST

static mesh_snap_told_fn *told;

static bool
allowed(const char *ip, uint16_t port)
{
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_addr a = address(ip, port);
    bool yes = false;
    ck_assert_int_eq(mesh_snap_allows(&s, &a, told, &yes), MESH_OK);
    return yes;
}

START_TEST(egress_networks)
{
    configure("egress_allow = ( { cidr = \"10.0.0.0/8\"; port = 443; }, { cidr = \"192.0.2.128/25\"; } );");
    ck_assert(allowed("10.255.0.1", 443));
    ck_assert(!allowed("10.255.0.1", 80));
    ck_assert(!allowed("11.0.0.1", 443));
    ck_assert(allowed("192.0.2.128", 1) && allowed("192.0.2.255", 65535));
    ck_assert(!allowed("192.0.2.127", 1));
    configure("egress_allow = ( { cidr = \"0.0.0.0/0\"; } );");
    ck_assert(allowed("255.255.255.255", 1));
    configure(" ");
    ck_assert(!allowed("10.255.0.1", 443));
}
END_TEST

/* As if a look-up of `name` had been answered with this address. */
static void
tell(const char *name, const char *ip)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct addrinfo list = {.ai_family = AF_INET, .ai_addrlen = sizeof(in), .ai_addr = (struct sockaddr *)&in};
    inet_pton(AF_INET, ip, &in.sin_addr);
    shim_egress_list(name, &list);
}

START_TEST(egress_names)
{
    told = shim_egress_was_told;
    configure("egress_allow = ( { host = \"API.example.org\"; port = 443; }, { host = \"*.cdn.example\"; },"
              " { cidr = \"10.0.0.0/8\"; } );");
    tell("api.example.org", "192.0.2.1");
    tell("A.B.CDN.example.", "192.0.2.2");
    tell("cdn.example", "192.0.2.3");    /* the domain itself is not under it */
    tell("yycdn.example", "192.0.2.4");
    tell("api.example.org.evil", "192.0.2.5");
    ck_assert(allowed("192.0.2.1", 443) && !allowed("192.0.2.1", 80));
    ck_assert(allowed("192.0.2.2", 443) && allowed("192.0.2.2", 80));
    ck_assert(!allowed("192.0.2.3", 443) && !allowed("192.0.2.4", 443) && !allowed("192.0.2.5", 443));
    ck_assert(allowed("10.1.2.3", 1) && !allowed("192.0.2.9", 443));
    configure("egress_allow = ( { host = \"*.example.org\"; } );"); /* another pattern: what was told for it counts */
    ck_assert(!allowed("192.0.2.1", 443) && !allowed("192.0.2.2", 443));
    tell("api.example.org", "192.0.2.1");
    ck_assert(allowed("192.0.2.1", 443) && allowed("192.0.2.1", 80));
    configure("egress_allow = ( { host = \"*.example.org\"; cidr = \"192.0.2.0/31\"; } );");
    ck_assert(allowed("192.0.2.1", 443));
    configure("egress_allow = ( { host = \"*.example.org\"; cidr = \"192.0.2.2/31\"; } );");
    ck_assert(!allowed("192.0.2.1", 443));
    configure("egress_allow = ( { host = \"*.example.org\"; } );");
    told = NULL; /* nobody was told anything */
    ck_assert(!allowed("192.0.2.1", 443));
}
END_TEST

START_TEST(egress_names_by_host)
{
    uint8_t four[4] = {192, 0, 2, 77}, six[16] = {0x20, 1, 0xd, 0xb8, [15] = 7};
    char *list4[] = {(char *)four, NULL}, *list6[] = {(char *)six, NULL};
    struct hostent h4 = {.h_addrtype = AF_INET, .h_length = 4, .h_addr_list = list4};
    struct hostent h6 = {.h_addrtype = AF_INET6, .h_length = 16, .h_addr_list = list6};
    struct mesh_addr a6 = {.port = 5};
    struct mesh_snap s;
    bool yes = false;
    told = shim_egress_was_told;
    configure("egress_allow = ( { host = \"h.example\"; } );");
    shim_egress_host("h.example", &h4);
    shim_egress_host("h.example", &h6);
    ck_assert(allowed("192.0.2.77", 1));
    memcpy(a6.ip, six, 16);
    s = meshd_snapfile_view();
    ck_assert(mesh_snap_allows(&s, &a6, told, &yes) == MESH_OK && yes);
    shim_env.on = false;
    four[3] = 78;
    shim_egress_host("h.example", &h4);
    shim_env.on = true;
    ck_assert(!allowed("192.0.2.78", 1));
}
END_TEST

/* Of very many the last ones are known, and those that are used. */
START_TEST(egress_remembers_the_last)
{
    char ip[32];
    told = shim_egress_was_told;
    configure("egress_allow = ( { host = \"*.many.example\"; } );");
    tell("used.many.example", "192.0.2.200");
    tell("unused.many.example", "192.0.2.201");
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(ip, sizeof(ip), "198.18.%u.%u", i / 256, i % 256);
        tell("x.many.example", ip);
        ck_assert(i % 100 || allowed("192.0.2.200", 1));
        ck_assert(allowed(ip, 1));
    }
    ck_assert(!allowed("192.0.2.201", 1) && !allowed("198.18.0.0", 1));
    for (unsigned i = 19000; i < 20000; i++) {
        snprintf(ip, sizeof(ip), "198.18.%u.%u", i / 256, i % 256);
        ck_assert_msg(allowed(ip, 1), "%s", ip);
    }
}
END_TEST

int
main(void)
{
    TCase *t = tcase_create("route");
    shim_real_init();
    tcase_add_test(t, split_by_weight);
    tcase_add_test(t, attempts_stay_in_their_part);
    tcase_add_test(t, subset_fallbacks);
    tcase_add_test(t, router);
    tcase_add_test(t, rules_have_names);
    tcase_add_test(t, router_by_unit);
    tcase_add_test(t, redirect_and_identity);
    tcase_add_test(t, failover_in_order);
    tcase_add_test(t, near_ones_first);
    tcase_add_test(t, registered_ones_have_labels);
    tcase_add_test(t, those_of_dns_have_labels);
    tcase_add_test(t, egress_networks);
    tcase_add_test(t, egress_names);
    tcase_add_test(t, egress_names_by_host);
    tcase_add_test(t, egress_remembers_the_last);
    return run_case("route", t);
}
