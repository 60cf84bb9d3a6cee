/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_resolver: rounds of questions to a server of ours, on the same loop: what is asked, what becomes of
 * each kind of answer, the TTL that counts, and a round that is ended in the middle.
 */
#include "meshd/discovery/resolver.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <event2/event.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "meshd/base/log.h"
#include "meshd/base/loop.h"
#include "tests/unit/unit.h"

/* What the server knows. rdata: text form, see put_rdata. */
static const struct record {
    const char *name;
    uint16_t type;
    uint32_t ttl;
    const char *rdata;
} records[] = {
    {"two.test", ns_t_a, 30, "192.0.2.1"},
    {"two.test", ns_t_a, 20, "192.0.2.2"},
    {"two.test", ns_t_aaaa, 40, "fd00::1"},
    {"four.test", ns_t_a, 0, "192.0.2.4"},
    {"alias.test", ns_t_cname, 7, "four.test"},
    {"_s._tcp.test", ns_t_srv, 9, "10 20 80 Two.test"},
    {"_s._tcp.test", ns_t_srv, 9, "11 0 81 broken.test"},
    {"_s._tcp.test", ns_t_srv, 9, "12 1 82 none.test"},
    {"_off._tcp.test", ns_t_srv, 9, "0 0 0 ."},
};

static struct meshd_address_rule resolver;
static struct event *server;
static int fd, asked;
static bool silent;

static struct meshd_target got[8];
static struct meshd_reply reply;
static char why[256];
static int done;

static size_t
put_name(uint8_t *to, const char *name)
{
    size_t n = 0;
    while (*name && *name != '.') {
        size_t len = strcspn(name, ".");
        to[n++] = (uint8_t)len;
        memcpy(to + n, name, len);
        n += len;
        name += len + (name[len] == '.');
    }
    to[n++] = 0;
    return n;
}

static size_t
put_16(uint8_t *to, unsigned v)
{
    to[0] = (uint8_t)(v >> 8);
    to[1] = (uint8_t)v;
    return 2;
}

static size_t
put_rdata(uint8_t *to, const struct record *r)
{
    unsigned p, w, port;
    char host[64];
    if (r->type == ns_t_a || r->type == ns_t_aaaa) {
        ck_assert_int_eq(inet_pton(r->type == ns_t_a ? AF_INET : AF_INET6, r->rdata, to), 1);
        return r->type == ns_t_a ? 4 : 16;
    }
    if (r->type == ns_t_cname) {
        return put_name(to, r->rdata);
    }
    ck_assert_int_eq(sscanf(r->rdata, "%u %u %u %63s", &p, &w, &port, host), 4);
    size_t n = put_16(to, p);
    n += put_16(to + n, w);
    n += put_16(to + n, port);
    return n + put_name(to + n, host);
}

/* All records of the name, and of what it is an alias of; returns how many. */
static unsigned
put_records(uint8_t *to, size_t *n, const char *name, unsigned type)
{
    unsigned count = 0;
    for (size_t i = 0; i < sizeof(records) / sizeof(*records); i++) {
        const struct record *r = &records[i];
        if (strcasecmp(r->name, name) != 0 || (r->type != type && r->type != ns_t_cname)) {
            continue;
        }
        *n += put_name(to + *n, name);
        *n += put_16(to + *n, r->type);
        *n += put_16(to + *n, ns_c_in);
        *n += put_16(to + *n, r->ttl >> 16);
        *n += put_16(to + *n, r->ttl & 0xffff);
        size_t len = put_rdata(to + *n + 2, r);
        *n += put_16(to + *n, (unsigned)len) + len;
        count += 1 + (r->type == ns_t_cname ? put_records(to, n, r->rdata, type) : 0);
    }
    return count;
}

static bool
exists(const char *name)
{
    for (size_t i = 0; i < sizeof(records) / sizeof(*records); i++) {
        if (strcasecmp(records[i].name, name) == 0) {
            return true;
        }
    }
    return strncmp(name, "none.", 5) == 0; /* no records of any type */
}

static void
on_question(evutil_socket_t s, short what, void *arg)
{
    uint8_t q[512], a[1024] = {0};
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    char name[256] = "";
    (void)what;
    (void)arg;
    ssize_t n = recvfrom(s, q, sizeof(q), 0, (struct sockaddr *)&from, &len);
    ck_assert_int_gt(n, 16);
    asked++;
    if (silent) {
        return;
    }
    size_t at = 12;
    for (size_t k = 0; q[at]; at += q[at] + 1u) {
        k += (size_t)snprintf(name + k, sizeof(name) - k, "%s%.*s", k ? "." : "", q[at], q + at + 1);
    }
    unsigned type = (unsigned)(q[at + 1] << 8 | q[at + 2]);
    size_t out = at + 5;
    memcpy(a, q, out);
    a[2] = 0x81;
    a[3] = 0x80;
    memset(a + 6, 0, 6);
    bool broken = strncmp(name, "broken.", 7) == 0;
    a[3] |= broken ? ns_r_servfail : exists(name) ? ns_r_noerror : ns_r_nxdomain;
    put_16(a + 6, broken ? 0 : put_records(a, &out, name, type));
    ck_assert_int_eq(sendto(s, a, out, 0, (struct sockaddr *)&from, len), (ssize_t)out);
}

static void
setup(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    ck_assert_int_eq(meshd_loop_init(), MESH_OK);
    ck_assert_int_eq(meshd_resolver_init(), MESH_OK);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    resolver.addr = (struct mesh_addr){.port = ntohs(sa.sin_port),
                                       .ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
    server = event_new(meshd_loop(), fd, EV_READ | EV_PERSIST, on_question, NULL);
    ck_assert_int_eq(event_add(server, NULL), 0);
    done = asked = 0;
    silent = false;
}

static void
teardown(void)
{
    event_free(server);
    close(fd);
    meshd_resolver_fini();
    meshd_loop_fini();
}

static void
on_done(const struct meshd_reply *r, const char *text, void *arg)
{
    struct meshd_round **round = arg;
    reply = *r;
    ck_assert_uint_le(r->count, 8);
    if (r->count) {
        memcpy(got, r->targets, r->count * sizeof(*got));
    }
    snprintf(why, sizeof(why), "%s", text);
    done++;
    meshd_round_free(*round);
    *round = NULL;
}

static struct meshd_dns_rule
rule_of(const char *name, enum meshd_dns_type type)
{
    struct meshd_dns_rule r = {.type = (uint8_t)type, .port = 5432, .resolvers = &resolver, .resolver_count = 1};
    snprintf(r.name, sizeof(r.name), "%s", name);
    return r;
}

static void
resolve(const char *name, enum meshd_dns_type type)
{
    struct meshd_dns_rule rule = rule_of(name, type);
    int before = done;
    struct meshd_round *round = meshd_round_new(&rule, on_done, &round);
    ck_assert_ptr_nonnull(round);
    ck_assert_int_eq(done, before); /* not from within */
    while (round) {
        event_base_loop(meshd_loop(), EVLOOP_ONCE);
    }
    ck_assert_int_eq(done, before + 1);
}

START_TEST(addresses)
{
    resolve("two.test", MESHD_DNS_A);
    ck_assert_int_eq(reply.heard, MESHD_HEARD_SOME);
    ck_assert_uint_eq(reply.count, 1);
    ck_assert_str_eq(got[0].host, "two.test");
    ck_assert_uint_eq(got[0].port, 5432);
    ck_assert_uint_eq(got[0].v4.count, 2);
    ck_assert_uint_eq(got[0].v4.ip[0][15] + got[0].v4.ip[1][15], 3);
    ck_assert_uint_eq(got[0].v4.ip[0][11], 0xff);
    ck_assert_uint_eq(got[0].v6.count, 1);
    ck_assert_uint_eq(got[0].v6.ip[0][0], 0xfd);
    ck_assert(reply.seen_ttl);
    ck_assert_uint_eq(reply.ttl_s, 20);
    ck_assert_str_eq(why, "");
    ck_assert_int_eq(asked, 2);
}
END_TEST

START_TEST(alias)
{
    resolve("alias.test", MESHD_DNS_A);
    ck_assert_uint_eq(got[0].v4.count, 1);
    ck_assert_uint_eq(got[0].v4.ip[0][15], 4);
    ck_assert_int_eq(got[0].v6.heard, MESHD_HEARD_NONE); /* an alias of a name without AAAA */
    ck_assert_uint_eq(reply.ttl_s, 0);
}
END_TEST

START_TEST(nothing)
{
    const char *names[] = {"none.test", "nowhere.test"};
    resolve(names[_i], MESHD_DNS_A);
    ck_assert_int_eq(got[0].v4.heard, MESHD_HEARD_NONE);
    ck_assert_int_eq(got[0].v6.heard, MESHD_HEARD_NONE);
    ck_assert(!reply.seen_ttl);
    ck_assert_str_eq(why, "");
    resolve(names[_i], MESHD_DNS_SRV);
    ck_assert_int_eq(reply.heard, MESHD_HEARD_NONE);
    resolve("_off._tcp.test", MESHD_DNS_SRV); /* "decidedly not available" [RFC2782] */
    ck_assert_int_eq(reply.heard, MESHD_HEARD_NONE);
}
END_TEST

START_TEST(server_fails)
{
    resolve("broken.test", MESHD_DNS_A);
    ck_assert_int_eq(got[0].v4.heard, MESHD_HEARD_FAILED);
    ck_assert_int_eq(got[0].v6.heard, MESHD_HEARD_FAILED);
    ck_assert_ptr_nonnull(strstr(why, "broken.test: "));
    resolve("broken.test", MESHD_DNS_SRV);
    ck_assert_int_eq(reply.heard, MESHD_HEARD_FAILED);
    ck_assert_uint_eq(reply.count, 0);
}
END_TEST

START_TEST(services)
{
    resolve("_s._tcp.test", MESHD_DNS_SRV);
    ck_assert_int_eq(reply.heard, MESHD_HEARD_SOME);
    ck_assert_uint_eq(reply.count, 3);
    ck_assert_uint_eq(reply.ttl_s, 9);
    for (unsigned i = 0; i < 3; i++) {
        const struct meshd_target *t = &got[i];
        if (t->port == 80) {
            ck_assert_str_eq(t->host, "two.test"); /* in lower case */
            ck_assert_uint_eq(t->priority, 10);
            ck_assert_uint_eq(t->weight, 20);
            ck_assert_uint_eq(t->v4.count + t->v6.count, 3);
        } else {
            ck_assert_int_eq(t->v4.heard, t->port == 81 ? MESHD_HEARD_FAILED : MESHD_HEARD_NONE);
            ck_assert_int_eq(t->v6.heard, t->port == 81 ? MESHD_HEARD_FAILED : MESHD_HEARD_NONE);
        }
    }
    ck_assert_ptr_nonnull(strstr(why, "broken.test: "));
}
END_TEST

START_TEST(silence)
{
    silent = true;
    resolve("two.test", MESHD_DNS_A);
    ck_assert_int_eq(got[0].v4.heard, MESHD_HEARD_FAILED);
    ck_assert_int_eq(asked, 4); /* each question twice */
}
END_TEST

START_TEST(ended_early)
{
    struct meshd_dns_rule rule = rule_of("_s._tcp.test", MESHD_DNS_SRV);
    for (int steps = 0; steps < 6; steps++) {
        struct meshd_round *round = meshd_round_new(&rule, on_done, &round);
        for (int i = 0; i < steps && round; i++) {
            event_base_loop(meshd_loop(), EVLOOP_ONCE);
        }
        meshd_round_free(round);
    }
    meshd_round_free(NULL);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("resolver");
    TCase *t = tcase_create("resolver");
    meshd_log_set(MESHD_LOG_ERROR);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, addresses);
    tcase_add_test(t, alias);
    tcase_add_loop_test(t, nothing, 0, 2);
    tcase_add_test(t, server_fails);
    tcase_add_test(t, services);
    tcase_add_test(t, silence);
    tcase_add_test(t, ended_early);
    suite_add_tcase(s, t);
    return unit_run(s);
}
