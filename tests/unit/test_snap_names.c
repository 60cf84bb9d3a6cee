/* SPDX-License-Identifier: Apache-2.0
 *
 * mesh_vaddr and mesh_snap_names: addresses that must never change, the rules of a look-up by name and
 * by address, and tables that were damaged, truncated, or made by somebody with bad intentions.
 */
#include "common/snap_names.h"

#include <arpa/inet.h>

#include "meshd/base/log.h"
#include "meshd/registry/nametab.h"
#include "meshd/registry/snapfile.h"
#include "tests/unit/snap_kit.h"
#include "tests/unit/unit.h"

#define AREA (256u << 10)


static void
setup(void)
{
    meshd_log_set(MESHD_LOG_ERROR);
    kit_open(AREA);
}

/* ---- addresses ---- */

/* Programs and hosts of different versions must agree: these numbers are a contract. */
static const struct {
    const char *domain, *service, *v4, *v6;
} fixed[] = {
    {"mesh.local", "orders", "246.219.162.153", "fdfc:de32:883e:9d1f:6b42:83ad:f6db:a299"},
    {"mesh.local", "cache", "252.46.172.153", "fdfc:de32:883e:4e98:2beb:c036:fc2e:ac99"},
    {"mesh.local", "web", "246.156.98.35", "fdfc:de32:883e:bd27:2975:32cf:f69c:6223"},
    {"prod.example", "orders", "249.197.1.126", "fdfc:de32:883e:18d8:ec92:5ab1:f9c5:17e"},
    {"mesh.local", "svc8292", "242.8.140.48", "fdfc:de32:883e:0:0:0:0:0"},
    {"mesh.local", "svc16376", "242.8.140.48", "fdfc:de32:883e:0:0:0:0:0"},
};

static struct mesh_vaddr
address_of(const char *domain, const char *service)
{
    struct mesh_vaddr v;
    uint64_t h = mesh_vaddr_hash(domain, service);
    mesh_vaddr_at(&v, h, (uint32_t)(h % MESH_VADDR_SLOTS));
    return v;
}

START_TEST(never_change)
{
    char text[INET6_ADDRSTRLEN];
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        struct mesh_vaddr v = address_of(fixed[i].domain, fixed[i].service);
        ck_assert_str_eq(inet_ntop(AF_INET, v.v4, text, sizeof(text)), fixed[i].v4);
        if (i < 4) {
            ck_assert_str_eq(inet_ntop(AF_INET6, v.v6, text, sizeof(text)), fixed[i].v6);
        }
    }
}
END_TEST

START_TEST(slots)
{
    static const uint32_t at[] = {0, 1, 253, 254, 255, 507, 508, MESH_VADDR_SLOTS / 2, MESH_VADDR_SLOTS - 1};
    struct mesh_vaddr v, last = {.v4 = {0}};
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        mesh_vaddr_at(&v, 7, at[i]);
        ck_assert_uint_ge(v.v4[0], 240);
        ck_assert(v.v4[3] != 0 && v.v4[3] != 255);
        ck_assert_int_gt(memcmp(v.v4, last.v4, 4), 0);
        ck_assert_mem_eq(v.v6 + 12, v.v4, 4);
        struct mesh_addr a4 = mesh_vaddr_addr(&v, AF_INET, 80), a6 = mesh_vaddr_addr(&v, AF_INET6, 80);
        ck_assert(mesh_vaddr_is(&a4) && mesh_vaddr_is(&a6) && mesh_addr_is_v4(&a4) && !mesh_addr_is_v4(&a6));
        last = v;
    }
    struct mesh_addr none[] = {{.ip = {[10] = 0xff, [11] = 0xff, [12] = 239, [13] = 255}}, {.ip = {0xfd}},
                               {.ip = {[15] = 1}}, {.ip = {[12] = 240}},
                               {.ip = {[10] = 255, 255, 255, 255, 255, 255}}};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        ck_assert(!mesh_vaddr_is(&none[i]));
    }
}
END_TEST

/* ---- the table ---- */

#define COUNT 40u

static void
fill(struct mesh_snap_name *n, const char *name, uint8_t kind, uint32_t service)
{
    char owner[32];
    snprintf(owner, sizeof(owner), "s%u", service);
    struct mesh_vaddr v = address_of("td", owner);
    *n = (struct mesh_snap_name){.kind = kind, .service = service};
    snprintf(n->name, sizeof(n->name), "%s", name);
    memcpy(n->v4, v.v4, 4);
    memcpy(n->v6, v.v6, 16);
}

static char longest[MESH_HOST_MAX];

static void
publish(const char *domain)
{
    struct mesh_snap_name all[COUNT];
    struct mesh_snap_settings set;
    mesh_snap_settings_default(&set);
    fill(&all[0], "orders", MESH_NAME_DOMAIN | MESH_NAME_LABEL, 1);
    fill(&all[1], "python3", MESH_NAME_DOMAIN, 2);
    fill(&all[2], "cache", MESH_NAME_DOMAIN, 3);
    fill(&all[3], "cache", MESH_NAME_HOST, 4); /* another service's host */
    fill(&all[4], "db.internal", MESH_NAME_HOST, 4);
    memset(longest, 'x', sizeof(longest) - 1);
    fill(&all[5], longest, MESH_NAME_DOMAIN | MESH_NAME_LABEL, 5);
    for (uint32_t i = 6; i < COUNT; i++) {
        char name[16];
        snprintf(name, sizeof(name), "n%u", i);
        fill(&all[i], name, MESH_NAME_HOST, i);
    }
    meshd_snapfile_begin();
    meshd_nametab_write(all, COUNT, domain);
    ck_assert_int_eq(meshd_snapfile_commit(&set), MESH_OK);
}

/* What a look-up says, as "answer kind service". */
static const char *
ask(const struct mesh_snap *s, const char *name)
{
    static char text[64];
    struct mesh_named n;
    enum mesh_err e = mesh_snap_name_find(s, name, &n);
    if (e != MESH_OK) {
        return mesh_err_reason(e);
    }
    if (n.answer != MESH_NAME_FOUND) {
        return n.answer == MESH_NAME_UNKNOWN ? "unknown" : "foreign";
    }
    snprintf(text, sizeof(text), "%u of %u", n.kind, n.service);
    return text;
}

static const struct {
    const char *name, *answer, *without; /* without: a virtual domain */
} rules[] = {
    {"orders", "2 of 1", "2 of 1"},
    {"orders.", "2 of 1", "2 of 1"},
    {"ORDERS", "2 of 1", "2 of 1"},
    {"orders.mesh", "4 of 1", "foreign"},
    {"Orders.Mesh.", "4 of 1", "foreign"},
    {"orders..mesh", "unknown", "foreign"},
    {"orders.mesh..", "foreign", "foreign"},
    {"python3", "foreign", "foreign"},
    {"python3.mesh", "4 of 2", "foreign"},
    {"cache", "1 of 4", "1 of 4"},
    {"cache.mesh", "4 of 3", "foreign"},
    {"db.internal", "1 of 4", "1 of 4"},
    {"db.internal.mesh", "unknown", "foreign"},
    {"db.interna", "foreign", "foreign"},
    {"db.internal.x", "foreign", "foreign"},
    {"n39", "1 of 39", "1 of 39"},
    {"nobody.mesh", "unknown", "foreign"},
    {"mesh", "foreign", "foreign"},
    {".mesh", "foreign", "foreign"},
    {"xmesh", "foreign", "foreign"},
    {"", "foreign", "foreign"},
    {".", "foreign", "foreign"},
};

START_TEST(by_name)
{
    for (int with = 0; with < 2; with++) {
        publish(with ? "mesh" : "");
        struct mesh_snap s = meshd_snapfile_view();
        for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
            ck_assert_msg(strcmp(ask(&s, rules[i].name), with ? rules[i].answer : rules[i].without) == 0,
                          "%s: %s", rules[i].name, ask(&s, rules[i].name));
        }
    }
}
END_TEST

START_TEST(long_names)
{
    char name[1000];
    publish("mesh");
    struct mesh_snap s = meshd_snapfile_view();
    ck_assert_str_eq(ask(&s, longest), "2 of 5");
    snprintf(name, sizeof(name), "%s.mesh.", longest);
    ck_assert_str_eq(ask(&s, name), "4 of 5");
    for (size_t n = 100; n < sizeof(name) - 1; n++) {
        memset(name, 'x', n);
        name[n] = '\0';
        ck_assert_str_eq(ask(&s, name), n == sizeof(longest) - 1 ? "2 of 5" : "foreign");
    }
}
END_TEST

START_TEST(by_address)
{
    static const struct {
        const char *owner, *domain, *text;
    } whose[] = {{"s1", "mesh", "orders.mesh"}, {"s2", "mesh", "python3.mesh"}, {"s4", "mesh", "cache"},
                 {"s1", "", "orders"},          {"s39", "", "n39"},             {"s77", "mesh", NULL}};
    static const int families[] = {AF_INET, AF_INET6};
    struct mesh_named n;
    for (size_t i = 0; i < 2 * sizeof(whose) / sizeof(whose[0]); i++) {
        publish(whose[i / 2].domain);
        struct mesh_snap s = meshd_snapfile_view();
        struct mesh_vaddr v = address_of("td", whose[i / 2].owner);
        struct mesh_addr a = mesh_vaddr_addr(&v, families[i % 2], 0);
        ck_assert_int_eq(mesh_snap_name_of(&s, &a, &n), MESH_OK);
        ck_assert_int_eq(n.answer, whose[i / 2].text ? MESH_NAME_FOUND : MESH_NAME_UNKNOWN);
        ck_assert_str_eq(n.text, whose[i / 2].text ? whose[i / 2].text : "");
        if (i % 2) { /* the right IPv4 part alone is not it */
            a.ip[8] ^= 1;
            ck_assert_int_eq(mesh_snap_name_of(&s, &a, &n), MESH_OK);
            ck_assert_int_eq(n.answer, MESH_NAME_UNKNOWN);
        }
    }
    struct mesh_snap s = meshd_snapfile_view();
    struct mesh_addr real = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 10}};
    ck_assert_int_eq(mesh_snap_name_of(&s, &real, &n), MESH_OK);
    ck_assert_int_eq(n.answer, MESH_NAME_FOREIGN);
}
END_TEST

/* ---- damage ---- */

static struct mesh_snap_area *
area_of(uint8_t *file)
{
    return (void *)(file + MESH_SNAP_HEAD + (meshd_snapfile_generation() & 1) * AREA);
}

/* Of the three tables, which lie side by side. */
static size_t
size_of(const struct mesh_snap_area *a)
{
    return a->table[MESH_SNAP_NAMES].off + COUNT * sizeof(struct mesh_snap_name) - a->table[MESH_SNAP_DOMAIN].off;
}

static void
read_all(const struct mesh_snap *s, bool whole)
{
    struct mesh_named n;
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        const char *got = ask(s, rules[i].name);
        ck_assert(!whole || strcmp(got, rules[i].answer) == 0 || strcmp(got, "snapshot") == 0);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        char owner[16];
        snprintf(owner, sizeof(owner), "s%u", i);
        struct mesh_vaddr v = address_of("td", owner);
        struct mesh_addr a = mesh_vaddr_addr(&v, i % 2 ? AF_INET : AF_INET6, 0);
        if (mesh_snap_name_of(s, &a, &n) == MESH_OK && n.answer == MESH_NAME_FOUND) {
            ck_assert_uint_lt(strnlen(n.text, sizeof(n.text)), sizeof(n.text));
        }
    }
}

START_TEST(damage_is_seen)
{
    publish("mesh");
    struct mesh_snap whole = meshd_snapfile_view();
    uint8_t *p = unit_guarded(whole.size);
    struct mesh_snap s = {p, whole.size, NULL};
    memcpy(p, whole.map, whole.size);
    uint8_t *at = (uint8_t *)area_of(p) + area_of(p)->table[MESH_SNAP_DOMAIN].off;
    size_t size = size_of(area_of(p));
    ck_assert_int_eq(mesh_snap_verify(&s), MESH_OK);
    for (size_t i = 0; i < size; i++) {
        at[i] ^= (uint8_t)(1u << i % 8);
        ck_assert_int_eq(mesh_snap_verify(&s), MESH_E_SNAPSHOT);
        if (i % 7 == 0) {
            read_all(&s, true); /* what it said before, or that it is damaged: never that a name is foreign */
        }
        at[i] ^= (uint8_t)(1u << i % 8);
    }
    ck_assert_int_eq(mesh_snap_verify(&s), MESH_OK);
}
END_TEST

static uint32_t
rnd(uint32_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 17;
    return *x ^= *x << 5;
}

/* Makes the sums right, as far as what they are of lies inside. */
static void
forge(uint8_t *file)
{
    struct mesh_snap_area *a = area_of(file);
    uint64_t g = meshd_snapfile_generation();
    const size_t front = offsetof(struct mesh_snap_area, table);
    a->check = mesh_snap_sum(g, MESH_SNAP_NONE, (uint8_t *)a + front, offsetof(struct mesh_snap_area, check) - front);
    for (unsigned t = MESH_SNAP_DOMAIN; t <= MESH_SNAP_NAMES; t++) {
        const size_t each = mesh_snap_entry_size(t);
        uint64_t at = a->table[t].off;
        for (uint32_t i = 0; i < a->table[t].count && at % 4 == 0 && at >= sizeof(*a) && at + each <= AREA; i++, at += each) {
            uint8_t *row = (uint8_t *)a + at;
            uint32_t check = mesh_snap_sum(g, i, row, each - sizeof(check));
            memcpy(row + each - sizeof(check), &check, sizeof(check));
        }
    }
}

START_TEST(hostile)
{
    static const uint32_t evil[] = {0, 1, 2, 16, 39, 40, 41, 63, 64, 0x7fffffff, 0x80000000, 0xffffffff,
                                    AREA, AREA - 64};
    publish("mesh");
    struct mesh_snap whole = meshd_snapfile_view();
    uint8_t *p = unit_guarded(whole.size);
    struct mesh_snap s = {p, whole.size, NULL};
    uint32_t seed = 1;
    memcpy(p, whole.map, whole.size);
    struct mesh_snap_area *a = area_of(p);
    const uint32_t off = a->table[MESH_SNAP_DOMAIN].off;
    const size_t size = size_of(a);
    const size_t start = (size_t)((uint8_t *)a - p);
    for (int round = 0; round < 4000; round++) {
        memcpy(a, (const uint8_t *)whole.map + start, sizeof(*a));
        memcpy((uint8_t *)a + off, (const uint8_t *)whole.map + start + off, size);
        for (uint32_t k = rnd(&seed) % 4 + 1; k > 0; k--) {
            uint32_t v = rnd(&seed) % 2 ? evil[rnd(&seed) % 14] : rnd(&seed), zone = rnd(&seed) % 3;
            size_t at = zone == 0   ? offsetof(struct mesh_snap_area, table[MESH_SNAP_DOMAIN]) + rnd(&seed) % 6 * 4
                        : zone == 1 ? off + rnd(&seed) % sizeof(struct mesh_snap_domain)
                                    : off + rnd(&seed) % size;
            memcpy((uint8_t *)a + at / 4 * 4, &v, 4);
        }
        bool fair = round % 2 == 0;
        if (!fair) {
            forge(p);
        }
        read_all(&s, fair);
    }
}
END_TEST

START_TEST(ring_ends)
{
    publish("mesh");
    struct mesh_snap whole = meshd_snapfile_view();
    struct mesh_snap_area *a = area_of((uint8_t *)(uintptr_t)whole.map);
    struct mesh_snap_name *n = (void *)((uint8_t *)a + a->table[MESH_SNAP_NAMES].off);
    for (uint32_t i = 0; i < COUNT; i++) {
        n[i].next = n[i].next_addr = i;
    }
    forge((uint8_t *)(uintptr_t)whole.map);
    struct mesh_vaddr v = address_of("td", "s4"); /* shares its bucket with names that lead to themselves */
    struct mesh_addr real = mesh_vaddr_addr(&v, AF_INET, 0);
    struct mesh_named who;
    unsigned rings = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        char name[16];
        snprintf(name, sizeof(name), "q%u", i);
        rings += strcmp(ask(&whole, name), "snapshot") == 0;
    }
    ck_assert_uint_gt(rings, 100);
    ck_assert_int_eq(mesh_snap_name_of(&whole, &real, &who), MESH_OK);
}
END_TEST

START_TEST(no_table)
{
    struct mesh_snap_settings set;
    struct mesh_snap none = {0};
    mesh_snap_settings_default(&set);
    meshd_snapfile_begin();
    ck_assert_int_eq(meshd_snapfile_commit(&set), MESH_OK);
    struct mesh_snap s = meshd_snapfile_view();
    ck_assert_str_eq(ask(&s, "orders.mesh"), "foreign");
    ck_assert_str_eq(ask(&none, "orders.mesh"), "snapshot");
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("snapshot names");
    TCase *t = tcase_create("names");
    tcase_add_checked_fixture(t, setup, kit_close);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, never_change);
    tcase_add_test(t, slots);
    tcase_add_test(t, by_name);
    tcase_add_test(t, long_names);
    tcase_add_test(t, by_address);
    tcase_add_test(t, damage_is_seen);
    tcase_add_test(t, hostile);
    tcase_add_test(t, ring_ends);
    tcase_add_test(t, no_table);
    suite_add_tcase(s, t);
    return unit_run(s);
}
