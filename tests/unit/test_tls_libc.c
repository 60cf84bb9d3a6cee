/* SPDX-License-Identifier: Apache-2.0
 *
 * What stands in for libc does as libc does.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "shim/tls/libc.h"

void __wrap_qsort(void *base, size_t n, size_t size, int (*cmp)(const void *, const void *));
int __wrap_pthread_key_create(pthread_key_t *key, void (*end)(void *));
int __wrap_pthread_key_delete(pthread_key_t key);
void *__wrap_pthread_getspecific(pthread_key_t key);
int __wrap_pthread_setspecific(pthread_key_t key, const void *value);
int __wrap_sprintf(char *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int __wrap___sprintf_chk(char *s, int flag, size_t room, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

struct item {
    uint8_t key, at[2];
};

struct big {
    struct item item;
    uint8_t rest[300];
};

static int
by_key(const void *a, const void *b)
{
    return *(const uint8_t *)a - *(const uint8_t *)b;
}

START_TEST(sorting)
{
    struct item v[1000];
    for (size_t n = 0; n <= 1000; n = n * 2 + 1) {
        for (size_t i = 0; i < n; i++)
            v[i] = (struct item){(uint8_t)(i * 89 % (n / 3 + 1)), {(uint8_t)(i >> 8), (uint8_t)i}};
        __wrap_qsort(v, n, sizeof(v[0]), by_key);
        for (size_t i = 1; i < n; i++)
            ck_assert_int_lt(memcmp(&v[i - 1], &v[i], sizeof(v[0])), 0); /* equal ones as they were */
    }
}
END_TEST

START_TEST(sorting_big_ones)
{
    static struct big v[300];
    for (size_t i = 0; i < 300; i++)
        v[i] = (struct big){{(uint8_t)(i * 89 % 101), {(uint8_t)(i >> 8), (uint8_t)i}}, {[299] = (uint8_t)i}};
    __wrap_qsort(v, 300, sizeof(v[0]), by_key);
    for (size_t i = 0; i < 300; i++) {
        ck_assert(i == 0 || memcmp(&v[i - 1], &v[i], sizeof(struct item)) < 0);
        ck_assert_uint_eq(v[i].rest[299], v[i].item.at[1]);
    }
}
END_TEST

static pthread_key_t key[2];
static unsigned told, ended;

static void
tell(void)
{
    told++;
}

static void
end(void *p)
{
    ck_assert_ptr_eq(__wrap_pthread_getspecific(key[0]), NULL);
    if (++ended < 3)
        ck_assert_int_eq(__wrap_pthread_setspecific(key[0], p), 0); /* comes again */
}

START_TEST(thread_values)
{
    int x = 0;
    shim_libc_init(tell);
    ck_assert_int_eq(__wrap_pthread_key_create(&key[0], end), 0);
    ck_assert_int_eq(__wrap_pthread_key_create(&key[1], NULL), 0);
    ck_assert_int_eq(__wrap_pthread_setspecific(key[1], NULL), 0);
    ck_assert_uint_eq(told, 0);
    ck_assert_int_eq(__wrap_pthread_setspecific(key[1], &told), 0);
    ck_assert_int_eq(__wrap_pthread_setspecific(key[0], &x), 0);
    ck_assert_uint_eq(told, 1);
    ck_assert_ptr_eq(__wrap_pthread_getspecific(key[0]), &x);
    ck_assert_ptr_eq(__wrap_pthread_getspecific(key[1]), &told);
    shim_libc_thread_end();
    ck_assert_uint_eq(ended, 3);
    ck_assert_ptr_null(__wrap_pthread_getspecific(key[1]));
    ck_assert_int_eq(__wrap_pthread_key_delete(key[0]), 0);
    ck_assert_int_ne(__wrap_pthread_setspecific(1000, &x), 0);
    int r = 0;
    for (int i = 0; i < 100 && r == 0; i++)
        r = __wrap_pthread_key_create(&key[1], NULL);
    ck_assert_int_eq(r, EAGAIN);
}
END_TEST

START_TEST(printing)
{
    char ours[64], libc[64];
    for (unsigned n = 0, i = 0; i < 1000; n = n < 300 ? n + 1 : n * 3 + 7, i++) {
        int len = snprintf(libc, sizeof(libc), "%02x", n);
        ck_assert_int_eq(__wrap_sprintf(ours, "%02x", n), len);
        ck_assert_str_eq(ours, libc);
        ck_assert_int_eq(__wrap___sprintf_chk(ours, 1, sizeof(ours), "%02x", n), len);
        ck_assert_str_eq(ours, libc);
        len = snprintf(libc, sizeof(libc), "%02X-%3u %s", n, n, "%02x");
        ck_assert_int_eq(__wrap_sprintf(ours, "%02X-%3u %s", n, n, "%02x"), len);
        ck_assert_str_eq(ours, libc);
        ck_assert_int_eq(__wrap___sprintf_chk(ours, 1, SIZE_MAX, "%02X-%3u %s", n, n, "%02x"), len);
        ck_assert_str_eq(ours, libc);
    }
}
END_TEST

#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

/* libc's word on what has no room: the program ends. A sanitizer's own printing does not look. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
START_TEST(printing_too_much)
{
    char s[64];
    (void)__wrap___sprintf_chk(s, 1, 3, "%02x", 0xffu);
    ck_assert_str_eq(s, "ff");
    (void)__wrap___sprintf_chk(s, 1, 2, "%02x", 0xffu);
}
END_TEST
#endif

int
main(void)
{
    Suite *s = suite_create("tls libc");
    TCase *tc = tcase_create("libc");
    tcase_add_test(tc, sorting);
    tcase_add_test(tc, sorting_big_ones);
    tcase_add_test(tc, thread_values);
    tcase_add_test(tc, printing);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    tcase_add_test_raise_signal(tc, printing_too_much, SIGABRT);
#endif
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
