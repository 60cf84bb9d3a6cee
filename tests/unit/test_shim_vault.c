/* SPDX-License-Identifier: Apache-2.0
 *
 * The vault: what was put is there for all processes of the tree, whoever writes at the same time or dies
 * writing; a mixture of two records is none.
 */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/core/region.h"
#include "shim/core/vault.h"

struct record {
    uint64_t name, same[40]; /* all equal */
    uint8_t tail[5];
};

static struct record
record(uint64_t name, uint64_t value)
{
    struct record r;
    memset(&r, 0, sizeof(r));
    r.name = name;
    for (size_t i = 0; i < 40; i++)
        r.same[i] = value;
    memset(r.tail, (int)value, sizeof(r.tail));
    return r;
}

static void
assert_whole(const struct record *r)
{
    for (size_t i = 1; i < 40; i++)
        ck_assert_uint_eq(r->same[i], r->same[0]);
    for (size_t i = 0; i < sizeof(r->tail); i++)
        ck_assert_uint_eq(r->tail[i], (uint8_t)r->same[0]);
}

START_TEST(nothing_without_a_region)
{
    struct record r = record(1, 2);
    shim_vault_put(SHIM_VAULT_CLIENT, 1, &r, sizeof(r));
    ck_assert(!shim_vault_get(SHIM_VAULT_CLIENT, 1, &r, sizeof(r)));
}
END_TEST

START_TEST(what_was_put)
{
    struct record r = record(1, 7), got;
    ck_assert(shim_region_init());
    ck_assert(!shim_vault_get(SHIM_VAULT_CLIENT, 1, &got, sizeof(got)));
    shim_vault_put(SHIM_VAULT_CLIENT, 1, &r, sizeof(r));
    ck_assert(!shim_vault_get(SHIM_VAULT_SERVER, 1, &got, sizeof(got)));
    ck_assert(!shim_vault_get(SHIM_VAULT_CLIENT, 2, &got, sizeof(got)));
    ck_assert(!shim_vault_get(SHIM_VAULT_CLIENT, 1, &got, sizeof(got) - 8));
    ck_assert(shim_vault_get(SHIM_VAULT_CLIENT, 1 + SHIM_VAULT_RECORDS, &got, sizeof(got))); /* the same place */
    ck_assert_mem_eq(&got, &r, sizeof(r));
    r = record(2, 9);
    shim_vault_put(SHIM_VAULT_CLIENT, 1 + SHIM_VAULT_RECORDS, &r, sizeof(r));
    ck_assert(shim_vault_get(SHIM_VAULT_CLIENT, 1, &got, sizeof(got)));
    ck_assert_mem_eq(&got, &r, sizeof(r));
    uint8_t most[SHIM_VAULT_BYTES + 1] = {1};
    shim_vault_put(SHIM_VAULT_CLIENT, 3, most, sizeof(most));
    ck_assert(!shim_vault_get(SHIM_VAULT_CLIENT, 3, most, sizeof(most)));
    shim_vault_put(SHIM_VAULT_CLIENT, 3, most, sizeof(most) - 1);
    ck_assert(shim_vault_get(SHIM_VAULT_CLIENT, 3, most, sizeof(most) - 1));
}
END_TEST

/* Any one bit of what lies there: the record is gone. */
START_TEST(damage)
{
    struct record r = record(1, 7), got;
    ck_assert(shim_region_init());
    shim_vault_put(SHIM_VAULT_SERVER, 5, &r, sizeof(r));
    _Atomic uint64_t *word = shim_region()->vault.word[SHIM_VAULT_SERVER][5];
    for (size_t bit = 0; bit < (1 + (sizeof(r) + 7) / 8) * 64; bit++) {
        word[bit / 64] ^= UINT64_C(1) << bit % 64;
        ck_assert(!shim_vault_get(SHIM_VAULT_SERVER, 5, &got, sizeof(got)));
        word[bit / 64] ^= UINT64_C(1) << bit % 64;
    }
    ck_assert(shim_vault_get(SHIM_VAULT_SERVER, 5, &got, sizeof(got)));
}
END_TEST

static pid_t
writer(uint64_t value)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    for (uint64_t v = value; pid == 0; v += 2) {
        struct record r = record(v, v);
        shim_vault_put(SHIM_VAULT_CLIENT, 9, &r, sizeof(r));
    }
    return pid;
}

/* Two write the same place, one after the other is killed; readers see whole records or none, and after the
 * last death the place is as good as new. */
START_TEST(writers_that_die)
{
    struct record r;
    unsigned whole = 0;
    ck_assert(shim_region_init());
    for (int round = 0; round < 40; round++) {
        pid_t a = writer(2), b = writer(3);
        for (unsigned seen = 0, i = 0; seen < 200 && i < 10000000; i++) {
            if (shim_vault_get(SHIM_VAULT_CLIENT, 9, &r, sizeof(r))) {
                assert_whole(&r);
                seen++;
                whole++;
            }
        }
        ck_assert_int_eq(kill(a, SIGKILL) | kill(b, SIGKILL), 0);
        ck_assert_int_eq(waitpid(a, NULL, 0), a);
        ck_assert_int_eq(waitpid(b, NULL, 0), b);
        if (shim_vault_get(SHIM_VAULT_CLIENT, 9, &r, sizeof(r)))
            assert_whole(&r);
        struct record mine = record(1, 1);
        shim_vault_put(SHIM_VAULT_CLIENT, 9, &mine, sizeof(mine));
        ck_assert(shim_vault_get(SHIM_VAULT_CLIENT, 9, &r, sizeof(r)));
        ck_assert_mem_eq(&r, &mine, sizeof(r));
    }
    ck_assert_uint_gt(whole, 1000);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("shim vault");
    TCase *tc = tcase_create("vault");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, nothing_without_a_region);
    tcase_add_test(tc, what_was_put);
    tcase_add_test(tc, damage);
    tcase_add_test(tc, writers_that_die);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
