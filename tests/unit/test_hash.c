/* SPDX-License-Identifier: Apache-2.0
 *
 * ring_hash and maglev: xxHash, keys, how closely tables follow the weights, and who moves when a member leaves.
 */
#include <math.h>

#include "tests/unit/hash_kit.h"

START_TEST(xxhash)
{
    static const char text[] = "Nobody inspects the spammish repetition";
    ck_assert_uint_eq(mesh_hash_bytes("", 0, 0), UINT64_C(0xef46db3751d8e999));
    ck_assert_uint_eq(mesh_hash_bytes("a", 1, 0), UINT64_C(0xd24ec4f1a98c6e5b));
    ck_assert_uint_eq(mesh_hash_bytes("abc", 3, 0), UINT64_C(0x44bc2cf5ad770999));
    ck_assert_uint_eq(mesh_hash_bytes(text, sizeof(text) - 1, 0), UINT64_C(0xfbcea83c8a378bf1));
}
END_TEST

static uint64_t
key(const struct mesh_hash_client *who, const uint8_t *terms, uint8_t terminal)
{
    struct mesh_snap_hash policy = {.terminal = terminal};
    uint64_t h = 1;
    memcpy(policy.term, terms, 3);
    ck_assert_int_eq(mesh_hash_key(&policy, who, &h), h != 1);
    return h;
}

START_TEST(keys)
{
    enum { ID = MESH_HASH_SOURCE_IDENTITY + 1, IP = MESH_HASH_SOURCE_IP + 1, UID = MESH_HASH_UID + 1,
           UNIT = MESH_HASH_UNIT + 1, PORT = MESH_HASH_DESTINATION_PORT + 1, TO = MESH_HASH_DESTINATION_IP + 1 };
    struct mesh_hash_client a = {.identity = "spiffe://td/ns/default/sa/web", .unit = "", .exe = "", .uid = 80,
                                 .asked = asked}, b = a;
    uint64_t both = key(&a, (uint8_t[]){ID, UID, 0}, 0);
    ck_assert_uint_ne(both, key(&a, (uint8_t[]){UID, ID, 0}, 0)); /* the order is part of it */
    ck_assert_uint_ne(key(&a, (uint8_t[]){UID, 0, 0}, 0), key(&a, (uint8_t[]){PORT, 0, 0}, 0)); /* 80 and 80 */
    ck_assert_uint_eq(both, key(&a, (uint8_t[]){ID, IP, UID}, 0)); /* not bound: left out */
    ck_assert_uint_eq(key(&a, (uint8_t[]){ID, UID, 0}, 1), key(&a, (uint8_t[]){ID, 0, 0}, 0)); /* terminal */
    ck_assert_uint_eq(key(&a, (uint8_t[]){UNIT, UID, 0}, 1), key(&a, (uint8_t[]){UID, 0, 0}, 0)); /* unknown ends nothing */
    ck_assert_uint_eq(key(&a, (uint8_t[]){UNIT, IP, 0}, 0), 1); /* nothing known */
    b.uid = 81;
    ck_assert_uint_ne(both, key(&b, (uint8_t[]){ID, UID, 0}, 0));
    b = a;
    b.asked.ip[15]++;
    ck_assert_uint_eq(both, key(&b, (uint8_t[]){ID, UID, 0}, 0));
    ck_assert_uint_ne(key(&a, (uint8_t[]){TO, 0, 0}, 0), key(&b, (uint8_t[]){TO, 0, 0}, 0));
    b.from = asked;
    ck_assert_uint_ne(both, key(&b, (uint8_t[]){ID, IP, UID}, 0));
}
END_TEST

static const uint32_t weights[][5] = {{1, 1, 1, 1, 1}, {1, 2, 3, 4, 5}, {90, 10, 1, 1, 1}, {1000, 1, 1, 500, 3}};

/* The table's share of each member, and what keys make of it, against the weights. */
START_TEST(spread)
{
    for (enum mesh_lb lb = FIRST; lb < BEHIND; lb++) {
        const uint32_t *w = weights[_i], draws = 200000;
        const struct meshd_table_rule how = {(uint8_t)lb, 1024, 1u << 20, 65537};
        struct meshd_table_member m[5];
        uint32_t count[5] = {0}, sum = 0;
        publish(&(struct world){.lb = lb, .n = 5, .weight = w});
        for (uint32_t i = 0; i < 5; i++) {
            m[i] = (struct meshd_table_member){.weight = w[i]};
            sum += w[i];
        }
        struct meshd_ring ring = meshd_ring_scale(&how, m, 5);
        for (uint32_t k = 0; k < draws; k++) {
            count[goes(k) - 1]++;
        }
        for (uint32_t i = 0; i < 5; i++) {
            double want = (double)w[i] / sum, got = (double)count[i] / draws;
            uint32_t points = meshd_ring_points(&ring, w[i]);
            /* What a table cannot show, what its chance makes of it (arcs are spread as exponentials), and the draws' */
            double bound = lb == MESH_LB_MAGLEV ? 5.0 / 65537 : 0.5 * want / points + 5 * want / sqrt(points);
            bound += 5 * sqrt(want / draws);
            printf("%s, weight %u of %u: %.4f, by weight %.4f, differs by %.4f (limit %.4f)\n", names[lb], w[i], sum, got,
                   want, got - want, bound);
            ck_assert(got > 0 && fabs(got - want) <= bound);
        }
    }
}
END_TEST

/* Which address a key leads to, by a table alone. */
static uint32_t
led_to(const struct meshd_table_rule *how, const uint8_t *table, uint32_t count, const struct meshd_table_member *m,
       uint32_t n, uint32_t k)
{
    bool ring = how->load_balancer == MESH_LB_RING_HASH;
    struct mesh_snap_hashes h = {ring ? table : NULL, ring ? table + 4 * (size_t)count : table, count, n};
    uint32_t i = 0;
    ck_assert_int_eq(mesh_snap_hash_member(&h, mesh_snap_hash_start(&h, mesh_hash_bytes(&k, 4, 7)), &i), MESH_OK);
    return m[i].addr.ip[15];
}

/* The first `out` of n + 1 members leaves: so many in a million keys of others move. */
static uint32_t
moved(enum mesh_lb lb, uint32_t n, const uint32_t *w, uint32_t out)
{
    const struct meshd_table_rule how = {(uint8_t)lb, 1024, 1u << 20, 65537};
    struct meshd_table_member m[65], less[65];
    uint32_t k = 0, others = 0, strangers = 0;
    for (uint32_t i = 0; i < n; i++) {
        m[i] = (struct meshd_table_member){{.ip = {[10] = 0xff, [11] = 0xff, [15] = (uint8_t)i}, .port = 80}, w ? w[i] : 1};
        less[k] = m[i];
        k += i != out;
    }
    uint32_t before = meshd_table_count(&how, m, n), after = meshd_table_count(&how, less, n - 1);
    uint8_t *a = meshd_table_make(&how, m, n), *b = meshd_table_make(&how, less, n - 1);
    for (uint32_t i = 0; i < KEYS; i++) {
        uint32_t from = led_to(&how, a, before, m, n, i), to = led_to(&how, b, after, less, n - 1, i);
        others += from != out;
        strangers += from != out && from != to;
    }
    free(a);
    free(b);
    return (uint32_t)((uint64_t)strangers * 1000000 / others);
}

/* Who leaves takes his own keys along; with ring_hash no other one moves, as long as the ring is not full. */
START_TEST(one_leaves)
{
    uint32_t worst = 0;
    for (uint32_t n = 2; n <= 64; n++) {
        uint32_t ring = moved(MESH_LB_RING_HASH, n, NULL, n / 2), maglev = moved(MESH_LB_MAGLEV, n, NULL, n / 2);
        worst = maglev > worst ? maglev : worst;
        if ((n & (n - 1)) == 0 || n == 17) {
            printf("%u endpoints, one leaves; of the others' keys move: ring_hash %.2f %%, maglev %.2f %%\n", n,
                   ring / 1e4, maglev / 1e4);
        }
        ck_assert(n <= 16 ? ring == 0 : ring < 1500000 / n); /* those of a full ring are divided anew */
    }
    printf("maglev, at most: %.2f %%\n", worst / 1e4);
    ck_assert(worst > 0 && worst < 60000);
    for (uint32_t out = 0; out < 5; out++) {
        uint32_t ring = moved(MESH_LB_RING_HASH, 5, (uint32_t[]){1, 2, 3, 4, 5}, out);
        printf("weights 1 to 5, %u leaves: ring_hash %.2f %%, maglev %.2f %%\n", out + 1, ring / 1e4,
               moved(MESH_LB_MAGLEV, 5, (uint32_t[]){1, 2, 3, 4, 5}, out) / 1e4);
        ck_assert_uint_eq(ring, 0);
    }
}
END_TEST

/* The first point at or behind the key, wherever the points lie: evenly, all in one place, at either end. */
START_TEST(place_on_the_ring)
{
    static const uint32_t spans[] = {UINT32_MAX, 1000, 3, 1};
    uint32_t point[300];
    for (uint32_t round = 0; round < 4000; round++) {
        const uint32_t n = round % 300 + 1, span = spans[round / 300 % 4];
        const bool at_end = round / 1200 % 2;
        for (uint32_t i = 0; i < n; i++) { /* rising */
            uint32_t p = (uint32_t)((uint64_t)span * i / n) + (uint32_t)(mesh_hash_bytes(&i, 4, round) % ((uint64_t)span / n + 1));
            point[i] = at_end ? UINT32_MAX - span + p : p;
        }
        const struct mesh_snap_hashes h = {(const uint8_t *)point, NULL, n, n};
        for (uint32_t k = 0; k < 2 * n + 4; k++) {
            uint32_t p = point[k / 2 % n], first = 0;
            uint32_t want = k < 2 * n ? p + k % 2 : (uint32_t[]){0, UINT32_MAX, UINT32_MAX / 2, 5}[k - 2 * n];
            while (first < n && point[first] < want) {
                first++;
            }
            ck_assert_uint_eq(mesh_snap_hash_start(&h, (uint64_t)want << 32 | k), first % n);
        }
    }
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("hash");
    TCase *t = tcase_create("hash");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, xxhash);
    tcase_add_test(t, keys);
    tcase_add_loop_test(t, spread, 0, sizeof(weights) / sizeof(weights[0]));
    tcase_add_test(t, one_leaves);
    tcase_add_test(t, place_on_the_ring);
    suite_add_tcase(s, t);
    return unit_run(s);
}
