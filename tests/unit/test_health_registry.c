/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_health with a registry: what is unhealthy is so in the snapshot, and what happens to that when the
 * configuration, the endpoints or meshd itself change.
 */
#include "meshd/health/health.h"

#include <event2/http.h>

#include "meshd/ident/ca.h"
#include "meshd/registry/live.h"
#include "meshd/registry/service.h"
#include "tests/unit/registry_kit.h"

static char file[300];
static uint16_t good, bad; /* ports: somebody listens, nobody does */
static int listening;

/* The service web with its two endpoints, a check, and more services: written, not in force yet. */
static void
write_conf(const char *check, const char *more)
{
    FILE *f = fopen(file, "w");
    ck_assert_ptr_nonnull(f);
    fprintf(f, "log = { level = \"error\"; }; services = ( { name = \"web\"; endpoints = ( { addr = \"127.0.0.1:%u\"; },\n"
               " { addr = \"127.0.0.1:%u\"; } );\n %s }%s );\n", good, bad, check, more);
    fclose(f);
}

#define CHECK(more) \
    "health_check = { type = \"tcp\"; interval = \"100ms\"; no_traffic_interval = \"100ms\"; " more " };"

static void
health_setup(void)
{
    char state[300];
    setup();
    snprintf(file, sizeof(file), "%s/meshd.conf", dir);
    snprintf(state, sizeof(state), "%s/state", dir);
    ck_assert_int_eq(meshd_ca_init(state, "mesh.local"), MESH_OK);
    good = bad = 0;
    close(listener("127.0.0.1", &bad));
    listening = listener("127.0.0.1", &good);
    write_conf(CHECK(""), "");
    ck_assert_int_eq(meshd_config_load(file, dir), MESH_OK);
    ck_assert_int_eq(meshd_registry_publish(), MESH_OK);
    ck_assert_int_eq(meshd_health_init(), MESH_OK);
}

static void
health_teardown(void)
{
    meshd_health_fini();
    meshd_ca_fini();
    teardown();
}

struct wanted {
    uint16_t port;
    uint64_t netns;
    bool found;
    struct meshd_health_info info;
};

static int
on_endpoint(const struct meshd_endpoint *e, void *arg)
{
    struct wanted *w = arg;
    if (e->addr.port == w->port && (!w->netns || e->netns == w->netns)) {
        w->found = true;
        meshd_health_of(e, &w->info);
    }
    return 0;
}

static struct meshd_health_info
info_of(uint16_t port)
{
    struct wanted w = {.port = port};
    meshd_registry_visit_endpoints(on_endpoint, &w);
    ck_assert(w.found);
    return w.info;
}

static bool
flagged(uint16_t port)
{
    struct mesh_snap_hit hit;
    ck_assert(look("127.0.0.1", port, &hit));
    return (hit.endpoint.flags & MESH_EP_UNHEALTHY) != 0;
}

static void
until_flagged(uint16_t port, bool is)
{
    while (flagged(port) != is) { /* or the test's time is over */
        event_base_loop(meshd_loop(), EVLOOP_ONCE);
    }
}

static void
until_is(uint16_t port, enum meshd_health is)
{
    while (info_of(port).is != is) {
        event_base_loop(meshd_loop(), EVLOOP_ONCE);
    }
}

static void
reload(void)
{
    ck_assert_int_eq(meshd_config_reload(), MESH_OK);
    ck_assert_int_eq(meshd_registry_publish(), MESH_OK);
}

/* What was to be done at once has been done. */
static void
settle(void)
{
    struct meshd_registry_info a, b;
    uint64_t end = meshd_now_ns() + UINT64_C(1000000000);
    do {
        meshd_registry_info(&a);
        event_base_loop(meshd_loop(), EVLOOP_ONCE);
        meshd_registry_info(&b);
    } while (a.generation != b.generation || meshd_now_ns() < end);
}

START_TEST(unhealthy_in_the_snapshot)
{
    ck_assert(!flagged(good) && !flagged(bad)); /* nobody knows yet */
    ck_assert_int_eq(info_of(bad).is, MESHD_HEALTH_NONE);
    until_flagged(bad, true);
    struct meshd_health_info i = info_of(bad);
    ck_assert(i.is == MESHD_HEALTH_UNHEALTHY && i.failures >= 3 && i.successes == 0 && i.since_ns > 0);
    ck_assert_str_eq(i.reason, "connect: Connection refused");
    until_is(good, MESHD_HEALTH_HEALTHY);
    ck_assert(!flagged(good));
    close(listening);
    until_flagged(good, true);
    listening = listener("127.0.0.1", &good);
    until_flagged(good, false);
    ck_assert_int_eq(info_of(good).is, MESHD_HEALTH_HEALTHY);
    ck_assert(flagged(bad));
}
END_TEST

START_TEST(a_reload_keeps_what_it_does_not_change)
{
    until_flagged(bad, true);
    struct meshd_health_info before = info_of(bad);
    write_conf(CHECK(""), ", { name = \"other\"; }");
    reload();
    ck_assert(flagged(bad));
    settle();
    struct meshd_health_info after = info_of(bad);
    ck_assert(flagged(bad) && after.since_ns == before.since_ns && after.failures >= before.failures);

    write_conf(CHECK("unhealthy_threshold = 1000;"), ""); /* another check: nothing is known */
    reload();
    until_flagged(bad, false);
    ck_assert_int_eq(info_of(bad).is, MESHD_HEALTH_UNKNOWN);

    write_conf(CHECK("unhealthy_threshold = 1;"), "");
    reload();
    until_flagged(bad, true);
    write_conf("", "");
    reload();
    until_flagged(bad, false);
    ck_assert_int_eq(info_of(bad).is, MESHD_HEALTH_NONE);
}
END_TEST

START_TEST(a_wrong_configuration_changes_nothing)
{
    until_flagged(bad, true);
    uint64_t failures = info_of(bad).failures;
    write_conf("health_check = { type = \"command\"; };", "");
    ck_assert_int_eq(meshd_config_reload(), MESH_E_CONFIG);
    settle();
    ck_assert(flagged(bad) && info_of(bad).failures > failures);
}
END_TEST

START_TEST(a_meshd_that_begins_knows_nothing)
{
    until_flagged(bad, true);
    meshd_health_fini();
    meshd_registry_fini();
    ck_assert_int_eq(meshd_registry_init(dir), MESH_OK);
    ck_assert_int_eq(meshd_health_init(), MESH_OK);
    ck_assert(!flagged(bad));
    until_flagged(bad, true);
}
END_TEST

/* A listener that was flagged when meshd ended is taken over without it. */
START_TEST(a_listener_that_is_taken_over)
{
    struct mesh_snap_hit hit;
    struct meshd_peer self = peer_of(getpid());
    uint16_t port = 0;
    write_conf("health_check = { type = \"command\"; command = (\"/bin/false\"); interval = \"100ms\";"
              " no_traffic_interval = \"100ms\"; };", "");
    reload();
    int fd = listener("127.0.0.1", &port);
    struct mesh_wire_listen_req q = request(fd, "127.0.0.1", port);
    enlist(&self, &q);
    until_flagged(port, true);
    meshd_health_fini();
    meshd_registry_fini();
    ck_assert_int_eq(meshd_registry_init(dir), MESH_OK);
    ck_assert(look("127.0.0.1", port, &hit) && !(hit.endpoint.flags & MESH_EP_UNHEALTHY));
    ck_assert_int_eq(meshd_health_init(), MESH_OK);
    until_flagged(port, true);
    close(fd);
}
END_TEST

/* Its word about another namespace meshd could not verify; checked there would be somebody else. */
START_TEST(another_namespace_is_not_checked)
{
    struct meshd_peer self = peer_of(getpid());
    struct wanted w = {.port = bad, .netns = meshd_netlink_own() + 1};
    struct mesh_wire_listen_req q = request(listening, "127.0.0.1", bad);
    q.netns = w.netns;
    enlist(&self, &q);
    until_flagged(bad, true); /* meshd's own one of this address */
    meshd_registry_visit_endpoints(on_endpoint, &w);
    ck_assert(w.found && w.info.is == MESHD_HEALTH_UNKNOWN && w.info.failures == 0);
    ck_assert_str_eq(w.info.reason, "not checked: it is inside another network namespace");
}
END_TEST

/* Fifty that fail together are a few snapshots, not fifty; a thousand are not all checked at once. */
START_TEST(many)
{
    char more[8000] = ", { name = \"many\"; endpoints = (";
    struct meshd_registry_info a, b;
    size_t len = strlen(more);
    for (unsigned i = 0; i < 50; i++) {
        len += (size_t)snprintf(more + len, sizeof(more) - len, "%s{ addr = \"127.0.1.%u:%u\"; }",
                                i ? "," : "", i, bad);
    }
    snprintf(more + len, sizeof(more) - len, "); health_check = { type = \"tcp\"; unhealthy_threshold = 1;"
             " interval = \"100ms\"; interval_jitter_percent = 0; no_traffic_interval = \"100ms\"; }; }");
    until_flagged(bad, true);
    write_conf(CHECK(""), more);
    reload();
    meshd_registry_info(&a);
    for (unsigned i = 0; i < 50; i++) {
        struct mesh_snap_hit hit;
        char ip[32];
        snprintf(ip, sizeof(ip), "127.0.1.%u", i);
        do {
            ck_assert(look(ip, bad, &hit));
            event_base_loop(meshd_loop(), EVLOOP_NONBLOCK);
        } while (!(hit.endpoint.flags & MESH_EP_UNHEALTHY));
    }
    meshd_registry_info(&b);
    ck_assert_uint_lt(b.generation - a.generation, 10);
}
END_TEST

/* ---- ejections ---- */

static int
on_id(const struct meshd_endpoint *e, void *arg)
{
    uint32_t *ids = arg;
    ids[e->addr.port == bad] = e->id;
    return 0;
}

/* Both of web, for a minute. */
static void
eject(struct mesh_live_endpoint *out[2])
{
    uint32_t ids[2] = {0};
    meshd_registry_visit_endpoints(on_id, ids);
    for (unsigned i = 0; i < 2; i++) {
        out[i] = meshd_live_use(ids[i]);
        atomic_store(&out[i]->ejected, (meshd_now_ns() / 1000000 + 60000) << 24 | 1u << 8);
    }
    atomic_store(&meshd_live_service(meshd_service_find("web")->live)->ejected, 2);
}

static void
until_checked(uint16_t port)
{
    uint64_t before = info_of(port).successes;
    while (info_of(port).successes == before) {
        event_base_loop(meshd_loop(), EVLOOP_ONCE);
    }
}

START_TEST(a_check_that_passes_ends_an_ejection)
{
    struct mesh_live_endpoint *l[2];
    write_conf(CHECK("") " addresses = (\"10.9.9.9:80\"); outlier_detection = {};", "");
    reload();
    until_flagged(bad, true);
    eject(l);
    until_checked(good);
    ck_assert_uint_eq(atomic_load(&l[0]->ejected) >> 24, 0);
    ck_assert_uint_ne(atomic_load(&l[1]->ejected) >> 24, 0); /* its checks fail */
    ck_assert_uint_eq(atomic_load(&meshd_live_service(meshd_service_find("web")->live)->ejected), 1);
    write_conf(CHECK("") " addresses = (\"10.9.9.9:80\");"
              " outlier_detection = { successful_active_health_check_uneject_host = false; };", "");
    reload();
    eject(l);
    until_checked(good);
    ck_assert_uint_ne(atomic_load(&l[0]->ejected) >> 24, 0);
}
END_TEST

/* One success of several that are needed: it is unhealthy still, and stays where it is. */
START_TEST(one_that_is_unhealthy_stays_ejected)
{
    struct mesh_live_endpoint *l[2];
    write_conf(CHECK("healthy_threshold = 1000; unhealthy_threshold = 1;") " addresses = (\"10.9.9.9:80\"); outlier_detection = {};", "");
    close(listening);
    reload();
    until_flagged(good, true);
    listening = listener("127.0.0.1", &good);
    eject(l);
    until_checked(good);
    ck_assert(flagged(good));
    ck_assert_uint_ne(atomic_load(&l[0]->ejected) >> 24, 0);
}
END_TEST

static int
on_service(const struct meshd_health_service *s, void *arg)
{
    struct meshd_health_service *out = arg;
    if (strcmp(s->name, out->name) == 0) {
        *out = *s;
    }
    return 0;
}

START_TEST(spread_over_the_interval)
{
    struct meshd_health_service s = {.name = "many"};
    FILE *f = fopen(file, "w");
    fprintf(f, "log = { level = \"error\"; }; services = ( { name = \"many\"; health_check = { type = \"tcp\"; interval = \"100s\"; };\n"
               "endpoints = (");
    for (unsigned i = 0; i < 1000; i++) {
        fprintf(f, "%s{ addr = \"127.0.%u.%u:%u\"; }", i ? ",\n" : "", 1 + i / 250, i % 250, bad);
    }
    fprintf(f, "); } );\n");
    fclose(f);
    reload();
    uint64_t end = UINT64_MAX; /* well before all of them are due, well after they would be done if they were */
    while (meshd_now_ns() < end) {
        event_base_loop(meshd_loop(), EVLOOP_ONCE);
        meshd_health_visit_services(on_service, &s);
        end = s.attempts > 0 && end == UINT64_MAX ? meshd_now_ns() + UINT64_C(500000000) : end;
    }
    ck_assert_uint_eq(s.members, 1000);
    ck_assert_uint_eq(s.healthy, 1000);
    ck_assert_uint_lt(s.attempts, 500);
}
END_TEST

static void
on_request(struct evhttp_request *req, void *arg)
{
    const int *status = arg;
    evhttp_send_reply(req, *status, "said", NULL);
}

/* The checks' own port, where nobody of the mesh listens: plain HTTP there decides for the endpoints. */
START_TEST(another_port)
{
    char check[300];
    int status = 200;
    uint16_t port = 0;
    int fd = listener("127.0.0.1", &port);
    struct evhttp *http = evhttp_new(meshd_loop());
    evutil_make_socket_nonblocking(fd);
    ck_assert_int_eq(evhttp_accept_socket(http, fd), 0);
    evhttp_set_gencb(http, on_request, &status);
    snprintf(check, sizeof(check), "health_check = { type = \"http\"; port = %u; interval = \"100ms\";"
             " no_traffic_interval = \"100ms\"; };", port);
    write_conf(check, "");
    reload();
    until_is(bad, MESHD_HEALTH_HEALTHY);
    until_is(good, MESHD_HEALTH_HEALTHY);
    status = 500;
    until_flagged(good, true);
    until_flagged(bad, true);
    ck_assert_str_eq(info_of(bad).reason, "status 500");
    status = 200;
    until_flagged(good, false);
    meshd_health_fini(); /* nobody of it is connected any more */
    evhttp_free(http);
    ck_assert_int_eq(meshd_health_init(), MESH_OK);
}
END_TEST

/* A server that begins again is checked at once, not an hour later. */
START_TEST(a_server_that_comes_back)
{
    struct meshd_peer self = peer_of(getpid());
    write_conf("health_check = { type = \"tcp\"; unhealthy_threshold = 1; interval = \"1h\";"
              " no_traffic_interval = \"1h\"; };", "");
    reload();
    until_flagged(bad, true);
    int fd = listener("127.0.0.1", &bad);
    struct mesh_wire_listen_req q = request(fd, "127.0.0.1", bad);
    enlist(&self, &q);
    until_flagged(bad, false);
    ck_assert_uint_eq(info_of(bad).successes, 1);
    close(fd);
}
END_TEST

/* Whom a check has to find: as a program would. */
START_TEST(the_peer_at_an_address)
{
    struct mesh_addr a = {.ip = {[10] = 0xff, [11] = 0xff, 127, 0, 0, 1}, .port = good};
    char id[MESH_ID_MAX] = "none";
    ck_assert(meshd_registry_peer_at(&a, id));
    ck_assert_str_eq(id, web.id);
    a.port = (uint16_t)(good == 1 ? 2 : 1);
    memcpy(id, "none", 5);
    ck_assert(!meshd_registry_peer_at(&a, id));
    write_conf("mode = \"off\";", "");
    reload();
    a.port = good;
    ck_assert(!meshd_registry_peer_at(&a, id));
    ck_assert_str_eq(id, "none");
}
END_TEST

START_TEST(counted_by_service)
{
    struct meshd_health_service s = {.name = "web"};
    until_flagged(bad, true);
    until_is(good, MESHD_HEALTH_HEALTHY);
    meshd_health_visit_services(on_service, &s);
    ck_assert(s.members == 2 && s.healthy == 1 && s.attempts == s.successes + s.failures);
    ck_assert(s.successes > 0 && s.failures >= 3 && s.network_failures == s.failures);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("health_registry");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, health_setup, health_teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, unhealthy_in_the_snapshot);
    tcase_add_test(t, a_reload_keeps_what_it_does_not_change);
    tcase_add_test(t, a_wrong_configuration_changes_nothing);
    tcase_add_test(t, a_meshd_that_begins_knows_nothing);
    tcase_add_test(t, a_listener_that_is_taken_over);
    tcase_add_test(t, another_namespace_is_not_checked);
    tcase_add_test(t, a_check_that_passes_ends_an_ejection);
    tcase_add_test(t, one_that_is_unhealthy_stays_ejected);
    tcase_add_test(t, many);
    tcase_add_test(t, spread_over_the_interval);
    tcase_add_test(t, another_port);
    tcase_add_test(t, a_server_that_comes_back);
    tcase_add_test(t, the_peer_at_an_address);
    tcase_add_test(t, counted_by_service);
    suite_add_tcase(s, t);
    return unit_run(s);
}
