/* SPDX-License-Identifier: Apache-2.0
 *
 * meshd_units and mesh_suggest: spellings, limits, and what is refused.
 */
#include "meshd/policy/units.h"

#include "common/suggest.h"
#include "tests/unit/unit.h"

#define UNSET UINT64_C(0xdeadbeef)

START_TEST(durations)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {
        {"0", 0},          {"0s", 0},        {"250ms", 250},       {"5s", 5000},
        {"1.5s", 1500},    {"0.25s", 250},   {"2m", 120000},       {"24h", 86400000},
        {"1h30m", 5400000}, {"90d", UINT64_C(7776000000)},         {"1d2h3m4s5ms", 93784005},
        {"0.001s", 1},     {"104249991d", UINT64_C(9007199222400000)},
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        uint64_t ms = UNSET;
        ck_assert_msg(meshd_units_duration(good[i].text, &ms), "%s", good[i].text);
        ck_assert_msg(ms == good[i].ms, "%s", good[i].text);
    }
}
END_TEST

START_TEST(durations_refused)
{
    static const char *const bad[] = {
        "", "5", "s", "ms", "5 s", " 5s", "5s ", "-5s", "+5s", "5S", "5sec", "5min", "1.s", ".5s",
        "1e3s", "0.5ms", "0.0001s", "5s5s", "5s1m", "1m1m", "5ss", "1,5s", "0x5s", "1h30", "00",
        "9007199254740992ms", "104249992d", "99999999999999999999s", "18446744073709551615ms",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t ms = UNSET;
        ck_assert_msg(!meshd_units_duration(bad[i], &ms), "%s", bad[i]);
        ck_assert(ms == UNSET);
    }
}
END_TEST

START_TEST(durations_come_back)
{
    static const uint64_t all[] = {0, 1, 999, 1000, 1500, 60000, 90000, 3600000, 86400000, 86400001};
    char text[MESHD_UNITS_TEXT];
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        uint64_t ms = UNSET;
        ck_assert(meshd_units_duration(meshd_units_duration_text(all[i], text), &ms));
        ck_assert(ms == all[i]);
    }
    ck_assert_str_eq(meshd_units_duration_text(5000, text), "5s");
    ck_assert_str_eq(meshd_units_duration_text(86400000, text), "1d");
}
END_TEST

START_TEST(sizes)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0}, {"512", 512}, {"512B", 512}, {"64KiB", 65536}, {"64K", 65536}, {"1kB", 1000},
        {"10MiB", 10485760}, {"1.5MiB", 1572864}, {"1MB", 1000000}, {"2GiB", UINT64_C(2147483648)},
        {"1TiB", UINT64_C(1099511627776)},
    };
    static const char *const bad[] = {"", "MiB", "1 MiB", "-1", "1mib", "1KB", "1Mib", "0.3B",
                                      "1MiBs", "9000000000TiB", "99999999999999999999"};
    uint64_t n = UNSET;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_msg(!meshd_units_size(bad[i], &n), "%s", bad[i]);
        ck_assert(n == UNSET);
    }
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        ck_assert_msg(meshd_units_size(good[i].text, &n), "%s", good[i].text);
        ck_assert_msg(n == good[i].bytes, "%s", good[i].text);
    }
}
END_TEST

START_TEST(addresses)
{
    static const char *const good[] = {"10.0.0.1:80", "127.0.0.1:1", "255.255.255.255:65535",
                                       "[::1]:80", "[fd00::1]:443"};
    static const char *const bad[] = {
        "", ":", ":80", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:080000",
        "10.0.0.1:8a", "10.0.0.1:-1", "10.0.0.1: 80", "10.0.0:80", "10.0.0.256:80", "host:80",
        "::1:80", "[::1]80", "[]:80", "[::1:80", "[10.0.0.1]:80", "[::1%lo]:80", "10.0.0.1 :80",
        "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:80"};
    struct mesh_addr a = {{0}, 7};
    char text[MESH_ADDR_TEXT];
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_msg(!meshd_units_addr(bad[i], &a), "%s", bad[i]);
        ck_assert_uint_eq(a.port, 7);
    }
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        ck_assert_msg(meshd_units_addr(good[i], &a), "%s", good[i]);
        ck_assert_str_eq(mesh_addr_text(&a, text), good[i]);
    }
}
END_TEST

START_TEST(suggestions)
{
    static const char *const words[] = {"status", "services", NULL, "certs", "stats"};
    const size_t n = sizeof(words) / sizeof(words[0]);
    ck_assert_str_eq(mesh_suggest("staus", words, n), "status");
    ck_assert_str_eq(mesh_suggest("sttaus", words, n), "status"); /* a swap is one edit */
    ck_assert_str_eq(mesh_suggest("SERVICE", words, n), "services");
    ck_assert_str_eq(mesh_suggest("crets", words, n), "certs");
    ck_assert_ptr_null(mesh_suggest("", words, n));
    ck_assert_ptr_null(mesh_suggest("x", words, n));
    ck_assert_ptr_null(mesh_suggest("nothing", words, n));
}
END_TEST

START_TEST(a_very_long_word_is_cut)
{
    static const char *const words[] = {"status"};
    char word[5000];
    memset(word, 's', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    ck_assert_ptr_null(mesh_suggest(word, words, 1));
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("units");
    TCase *t = tcase_create("all");
    tcase_add_test(t, durations);
    tcase_add_test(t, durations_refused);
    tcase_add_test(t, durations_come_back);
    tcase_add_test(t, sizes);
    tcase_add_test(t, addresses);
    tcase_add_test(t, suggestions);
    tcase_add_test(t, a_very_long_word_is_cut);
    suite_add_tcase(s, t);
    return unit_run(s);
}
